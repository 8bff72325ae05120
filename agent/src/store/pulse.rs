//! Whether a destination answers: what it was asked and has not answered yet, and its last failure. Values only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Kind, StoreError};

/// Shared by the clones of a store.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Unanswered>,
    trouble: Option<StoreError>,
}

/// A request that is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Another one for each request: as long as it stays the same, nothing was heard.
    pub number: u64,
    /// `put s3://bucket/prefix/key`
    pub what: String,
    /// Sent with it, which takes its time.
    pub bytes: u64,
}

/// A call that has begun. Dropped, it is not waited for any more.
#[derive(Debug)]
pub(super) struct Asked(Call);

/// The same, for the requests it takes.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pulse: Arc<Pulse>,
    id: u64,
}

impl Pulse {
    pub(super) fn begin(self: &Arc<Self>, verb: &str, object: &str) -> Asked {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        state.open.insert(id, Unanswered { number: id, what: format!("{verb} {object}"), bytes: 0 });
        drop(state);
        Asked(Call { pulse: self.clone(), id })
    }

    /// The request that has been out for longest.
    pub(super) fn unanswered(&self) -> Option<Unanswered> {
        self.state().open.values().min_by_key(|asked| asked.number).cloned()
    }

    /// The last failure, if nothing was answered since.
    pub(super) fn trouble(&self) -> Option<StoreError> {
        self.state().trouble.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// A request of it goes out.
    pub(super) fn sent(&self, bytes: u64) {
        let mut state = self.pulse.state();
        state.next += 1;
        let number = state.next;
        if let Some(asked) = state.open.get_mut(&self.id) {
            (asked.number, asked.bytes) = (number, bytes);
        }
    }

    /// A request of it, a part of an upload, failed and is tried again.
    pub(super) fn failed(&self, cause: &str) {
        let mut state = self.pulse.state();
        if let Some(asked) = state.open.get(&self.id) {
            let object = asked.what.split_once(' ').map_or("", |(_, object)| object);
            state.trouble = Some(StoreError::new(Kind::Unavailable, "upload", object, cause));
        }
    }
}

impl Asked {
    pub(super) fn call(&self) -> Call {
        self.0.clone()
    }

    /// What became of it. A refusal is an answer, too.
    pub(super) fn done<T>(self, result: &Result<T, StoreError>) {
        self.0.pulse.state().trouble = match result {
            Err(e) if e.kind == Kind::Unavailable => Some(e.clone()),
            Ok(_) | Err(_) => None,
        };
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.pulse.state().open.remove(&self.0.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_told_and_each_request_begins_a_new_one() {
        let pulse = Arc::new(Pulse::default());
        assert_eq!(pulse.unanswered(), None);
        let (first, second) = (pulse.begin("list", "s3://b/p"), pulse.begin("put", "s3://b/p/k"));
        assert_eq!(pulse.unanswered().unwrap().what, "list s3://b/p");
        // The next page.
        first.call().sent(0);
        let put = pulse.unanswered().unwrap();
        assert_eq!((put.what.as_str(), put.bytes), ("put s3://b/p/k", 0));
        second.call().sent(8);
        drop(first);
        assert_eq!(pulse.unanswered().map(|asked| asked.bytes), Some(8));
        assert!(pulse.unanswered().unwrap().number > put.number);
        drop(second);
        assert_eq!(pulse.unanswered(), None);
    }

    #[test]
    fn trouble_lasts_until_something_is_answered() {
        let pulse = Arc::new(Pulse::default());
        let down = StoreError::new(Kind::Unavailable, "put", "s3://b/k", "minio:9000: Connection refused");
        pulse.begin("put", "s3://b/k").done(&Err::<(), _>(down.clone()));
        assert_eq!(pulse.trouble(), Some(down));
        let upload = pulse.begin("upload", "s3://b/k");
        upload.call().failed("SlowDown (HTTP 503)");
        assert_eq!(pulse.trouble().unwrap().to_string(), "upload s3://b/k: unavailable: SlowDown (HTTP 503)");
        let gone = StoreError::new(Kind::NotFound, "get", "s3://b/k", "");
        pulse.begin("get", "s3://b/k").done(&Err::<(), _>(gone));
        assert_eq!(pulse.trouble(), None, "it answers");
    }
}
