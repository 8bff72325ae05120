//! How many requests a destination was sent, by verb and by what became of them. Values only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What a request asks for, as providers bill it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Get,
    Head,
    List,
    /// A whole object or a part of one.
    Put,
    /// The beginning or the end of an upload in parts.
    Post,
    /// One object or a thousand; also an upload in parts that is given up.
    Delete,
    /// Asked of the platform, not of the bucket: a token, keys.
    Credentials,
}

impl Verb {
    /// Every verb, in the order they are shown.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::List, Self::Put, Self::Post, Self::Delete, Self::Credentials];

    /// `GET`, `HEAD`, `LIST`, `PUT`, `POST`, `DELETE`, `CREDENTIALS`
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::List => "LIST",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Credentials => "CREDENTIALS",
        }
    }
}

/// What became of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered with success.
    pub ok: u64,
    /// Answered with anything else, an expected 404 or 412 included.
    pub refused: u64,
    /// Not answered: no connection, a timeout, a connection that broke.
    pub failed: u64,
}

impl Tally {
    /// All of them.
    pub const fn sent(self) -> u64 {
        self.ok + self.refused + self.failed
    }
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Refused,
    Failed,
}

/// The requests since a store was opened. In a directory they are operations: a walk, a file read, written or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests([Tally; Verb::ALL.len()]);

impl Requests {
    /// Those of one verb.
    pub const fn of(&self, verb: Verb) -> Tally {
        self.0[verb as usize]
    }

    /// All of them, whatever became of them.
    pub fn sent(&self) -> u64 {
        self.0.iter().map(|tally| tally.sent()).sum()
    }
}

/// The requests of several stores together, those that are closed by now included. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Cells>);

impl Ledger {
    /// All of them so far.
    pub fn read(&self) -> Requests {
        self.0.read()
    }
}

/// Counts without a lock; clones of a store share one.
#[derive(Debug, Default)]
pub(super) struct Counter {
    own: Cells,
    ledger: OnceLock<Ledger>,
}

impl Counter {
    pub(super) fn count(&self, verb: Verb, outcome: Outcome) {
        self.own.count(verb, outcome);
        if let Some(ledger) = self.ledger.get() {
            ledger.0.count(verb, outcome);
        }
    }

    /// From now on everything counts in `ledger`, too; the first one given stays.
    pub(super) fn enter(&self, ledger: &Ledger) {
        // A store that is shared has it already.
        let _ = self.ledger.set(ledger.clone());
    }

    /// As [`Counter::count`], of something done by the system and not by a service.
    pub(super) fn count_done<T, E>(&self, verb: Verb, done: &Result<T, E>) {
        self.count(verb, if done.is_ok() { Outcome::Ok } else { Outcome::Refused });
    }

    pub(super) fn read(&self) -> Requests {
        self.own.read()
    }
}

#[derive(Debug, Default)]
struct Cells([[AtomicU64; 3]; Verb::ALL.len()]);

impl Cells {
    fn count(&self, verb: Verb, outcome: Outcome) {
        self.0[verb as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Requests {
        Requests(self.0.each_ref().map(|[ok, refused, failed]| Tally {
            ok: ok.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_and_outcome_is_counted_by_itself() {
        let counter = Counter::default();
        for (n, verb) in Verb::ALL.into_iter().enumerate() {
            for _ in 0..=n {
                counter.count(verb, Outcome::Ok);
            }
            counter.count(verb, Outcome::Refused);
            counter.count(verb, Outcome::Failed);
        }
        let read = counter.read();
        for (n, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(read.of(verb), Tally { ok: n as u64 + 1, refused: 1, failed: 1 }, "{}", verb.name());
        }
        assert_eq!(read.sent(), (1..=7).sum::<u64>() + 14);
    }

    #[test]
    fn a_ledger_keeps_what_a_closed_store_was_sent() {
        let ledger = Ledger::default();
        for _ in 0..2 {
            let counter = Counter::default();
            counter.enter(&ledger);
            counter.enter(&Ledger::default());
            counter.count(Verb::Put, Outcome::Ok);
            assert_eq!(counter.read().sent(), 1);
        }
        assert_eq!(ledger.read().of(Verb::Put), Tally { ok: 2, refused: 0, failed: 0 });
    }
}
