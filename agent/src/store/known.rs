//! What is known of a service from its answers: shared by the layer that sees each answer and the calls that act on
//! it. Values only.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::requests::Counter;

/// Of one destination, since it was opened.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) requests: Counter,
    whole_objects: AtomicBool,
    no_conditions: AtomicBool,
    server_time: Mutex<Option<Timestamp>>,
    /// Keys of the latest deletion that was answered with success, as long as nothing was listed.
    deleted: Mutex<HashSet<String>>,
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

    pub(super) fn on_deleted<'a>(&self, keys: impl Iterator<Item = &'a String>) {
        *lock(&self.deleted) = keys.take(REMEMBERED).cloned().collect();
    }

    /// A listing came: is something in it that was deleted?
    pub(super) fn on_listed<'a>(&self, mut keys: impl Iterator<Item = &'a str>) {
        let mut deleted = lock(&self.deleted);
        if deleted.is_empty() {
            return;
        }
        if let Some(key) = keys.find(|key| deleted.contains(*key)) {
            *lock(&self.undead) = Some(key.to_owned());
            deleted.clear();
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
