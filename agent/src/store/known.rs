//! What is known of a service from its answers: shared by the layer that sees each answer and the calls that act on
//! it. Values only.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::persist::Persistence;
use super::requests::Counter;

/// Of one destination, since it was opened.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) requests: Counter,
    pub(super) persistence: Persistence,
    whole_objects: AtomicBool,
    no_conditions: AtomicBool,
    server_time: Mutex<Option<Timestamp>>,
    /// The latest deletion that was answered with success, as long as nothing was listed: the replica's prefix, and keys
    /// below it.
    deleted: Mutex<(String, HashSet<String>)>,
    undead: Mutex<Option<String>>,
}

impl Known {
    /// It answers with the whole object where a range was asked for.
    pub(super) fn sends_whole_objects(&self) -> bool {
        self.whole_objects.load(Ordering::Relaxed)
    }

    pub(super) fn on_whole_object(&self) {
        self.whole_objects.store(true, Ordering::Relaxed);
    }

    /// It refuses requests that carry a condition, whatever there is.
    pub(super) fn refuses_conditions(&self) -> bool {
        self.no_conditions.load(Ordering::Relaxed)
    }

    pub(super) fn on_condition_refused(&self, refused: bool) {
        self.no_conditions.store(refused, Ordering::Relaxed);
    }

    /// The time of the latest answer, by the service's own clock.
    pub(super) fn server_time(&self) -> Option<Timestamp> {
        *lock(&self.server_time)
    }

    pub(super) fn on_date(&self, date: Timestamp) {
        *lock(&self.server_time) = Some(date);
    }

    pub(super) fn on_deleted<'a>(&self, prefix: &str, keys: impl Iterator<Item = &'a str>) {
        *lock(&self.deleted) = (prefix.to_owned(), keys.take(REMEMBERED).map(str::to_owned).collect());
    }

    /// A listing came: is something in it that was deleted?
    pub(super) fn on_listed<'a>(&self, prefix: &str, mut keys: impl Iterator<Item = &'a str>) {
        let mut deleted = lock(&self.deleted);
        let (of, gone) = &mut *deleted;
        if gone.is_empty() || of != prefix {
            return;
        }
        if let Some(key) = keys.find(|key| gone.contains(*key)) {
            *lock(&self.undead) = Some(key.to_owned());
            gone.clear();
        }
    }

    /// A key that was deleted, said the service, and was listed again.
    pub(super) fn undead(&self) -> Option<String> {
        lock(&self.undead).clone()
    }
}

/// Nothing panics while it holds one of these, and each value is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Deleted keys to look for in the next listing: one would do, if it were not deleted by somebody else meanwhile.
const REMEMBERED: usize = 100;
