//! Lets so many bytes through, whatever they answer, and holds the others until it is opened. Touches nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the answers it holds back.
#[derive(Debug)]
pub struct Dam {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Bytes that may still pass.
    left: u64,
    passed: u64,
    /// Somebody waits for a byte that may not.
    holds: bool,
    open: bool,
}

impl Dam {
    /// Closed behind so many bytes.
    pub fn behind(bytes: u64) -> Self {
        let state = State { left: bytes, passed: 0, holds: false, open: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Bytes that have passed.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// Waits until everything that may pass has, and somebody waits for more.
    #[track_caller]
    pub fn holds(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut state = self.lock();
        while !state.holds {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody waits after {within:?}: {state:?}");
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets go of what it holds, and of all that comes.
    pub fn open(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }

    /// How many of so many bytes may pass now.
    pub(super) fn take(&self, wanted: usize) -> usize {
        let mut state = self.lock();
        let taken = match state.open {
            true => wanted,
            false => wanted.min(usize::try_from(state.left).unwrap_or(usize::MAX)),
        };
        state.left -= state.left.min(taken as u64);
        state.passed += taken as u64;
        if taken < wanted {
            state.holds = true;
            self.changed.notify_all();
        }
        taken
    }

    /// Until it is opened, which it then is.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        while !state.open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
