//! What probes and scrapers may ask: over HTTP, on threads of their own, answered from one [`View`].
//!
//! Nothing is kept up to date for them. A request wakes the loop, which hands out a view of that moment: an answer is
//! proof that the loop turns, and a supervisor nobody asks does nothing.
//!
//! | file | one idea |
//! | --- | --- |
//! | `address` | what people write for an address |
//! | `answer` | decisions: a view in, a status and a body out |
//! | `metrics` | the same as Prometheus text |
//! | `probe` | whether the app answers |
//! | `serve` | connections and threads |
//! | `check` | the other end: `holdfast-supervisor healthcheck` |

mod address;
pub(crate) mod answer;
pub(crate) mod check;
mod metrics;
pub(crate) mod probe;
pub(crate) mod serve;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::lifecycle::View;

/// Where the threads ask and the loop answers.
#[derive(Debug)]
pub(crate) struct Wicket {
    asked: EventFd,
    /// How often the loop has answered, and what it said last.
    answer: Mutex<(u64, Option<Arc<View>>)>,
    answered: Condvar,
}

impl Wicket {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let asked = EventFd::from_value_and_flags(0, flags)?;
        Ok(Self { asked, answer: Mutex::default(), answered: Condvar::new() })
    }

    /// A view of the moment; `None` if the loop does not answer within `patience`.
    fn ask(&self, patience: Duration) -> Option<Arc<View>> {
        let seen = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.0;
        self.asked.write(1).ok()?;
        let waited = self.answered.wait_timeout_while(seen, patience, |(count, _)| *count == before);
        let (answer, _) = waited.unwrap_or_else(PoisonError::into_inner);
        answer.1.clone().filter(|_| answer.0 != before)
    }

    /// The loop's side: tells everybody who asked, if anybody did.
    pub(crate) fn tell(&self, view: impl FnOnce() -> View) {
        if self.asked.read().is_ok() {
            let view = Arc::new(view());
            let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            *answer = (answer.0 + 1, Some(view));
            drop(answer);
            self.answered.notify_all();
        }
    }
}

impl AsFd for Wicket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}
