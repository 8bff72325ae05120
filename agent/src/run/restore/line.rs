//! Work that is done in any order and accounted for in turn. Touches threads.
//!
//! Steps are queued in order and numbered. Workers take them in that order, do what can be done alone, and wait for
//! their number to account for it. The oldest step is always in the hands of a worker, so somebody always has the turn.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use super::pipeline::Stop;

/// A step of the restore. Jobs are numbered without gaps.
pub(super) struct Job<S> {
    pub(super) seq: u64,
    /// Which object it is about.
    pub(super) item: usize,
    pub(super) step: S,
    /// Holds the bytes it keeps in memory; given back when the job is dropped.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What the workers share.
pub(super) struct Line<S> {
    queue: Mutex<mpsc::Receiver<Job<S>>>,
    turn: Mutex<Turn>,
    moved: Condvar,
    /// For the feeding side, which does not wait on the condition.
    stopped: Notify,
}

pub(super) struct Turn {
    /// The job whose turn it is.
    next: u64,
    stop: Option<Stop>,
    stopped: bool,
}

impl<S> Line<S> {
    pub(super) fn new(queue: mpsc::Receiver<Job<S>>) -> Self {
        Self {
            queue: Mutex::new(queue),
            turn: Mutex::new(Turn { next: 0, stop: None, stopped: false }),
            moved: Condvar::new(),
            stopped: Notify::new(),
        }
    }

    /// The first reason is kept.
    pub(super) fn stop(&self, reason: Option<Stop>) {
        let mut turn = self.lock();
        turn.stopped = true;
        if turn.stop.is_none() {
            turn.stop = reason;
        }
        drop(turn);
        self.moved.notify_all();
        self.stopped.notify_one();
    }

    /// Returns when the work has stopped.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Why it has stopped, if it has; without a reason somebody gave up on it.
    pub(super) fn why(&self) -> Option<Stop> {
        let mut turn = self.lock();
        let none = || Stop::Threads(std::io::Error::other("stopped"));
        turn.stopped.then(|| turn.stop.take().unwrap_or_else(none))
    }

    /// Waits for the turn of job `seq`; `None` if the work has stopped.
    pub(super) fn wait(&self, seq: u64) -> Option<MutexGuard<'_, Turn>> {
        self.wait_until(seq, || true)
    }

    /// The same, and until `ready`, which changes only in [`Line::change`].
    pub(super) fn wait_until(&self, seq: u64, ready: impl Fn() -> bool) -> Option<MutexGuard<'_, Turn>> {
        let mut turn = self.lock();
        while !(turn.stopped || turn.next == seq && ready()) {
            turn = self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        (!turn.stopped).then_some(turn)
    }

    /// Ends a turn.
    pub(super) fn advance(&self, mut turn: MutexGuard<'_, Turn>) {
        turn.next += 1;
        drop(turn);
        self.moved.notify_all();
    }

    /// Changes what somebody may be waiting for.
    pub(super) fn change(&self, change: impl FnOnce()) {
        let turn = self.lock();
        change();
        drop(turn);
        self.moved.notify_all();
    }

    pub(super) fn next_job(&self) -> Option<Job<S>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = queue.blocking_recv();
        if self.lock().stopped {
            // Whoever feeds must not wait for room that nobody makes any more.
            queue.close();
            return None;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the workers when the future is dropped.
pub(super) struct StopOnDrop<S>(pub(super) std::sync::Arc<Line<S>>);

impl<S> Drop for StopOnDrop<S> {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

/// A worker that panics must not leave the others waiting for its turn.
pub(super) struct PanicAlarm<'a, S>(pub(super) &'a Line<S>);

impl<S> Drop for PanicAlarm<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(None);
        }
    }
}
