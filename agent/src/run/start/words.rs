//! How a start is spoken of: the line of `check`, its JSON, warnings and refusals. Values in, words out.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Started, lineage};
use crate::error::{Error, Kind};
use crate::plan::start::{Alarm, Decision, Lead, Local, Obstacle, Remote, Standing};

impl Started {
    /// One JSON value.
    pub fn json(&self, db: &Path) -> Value {
        json!({
            "outcome": "start",
            "db": db,
            "local": local_word(self.local),
            "replica": self.remote.map(remote_word),
            "decision": decision_word(self.decision),
            "exit": self.code(),
            "message": self.refused.as_ref().map(Error::to_string),
            "moved": self.restored.as_ref().and_then(|r| r.moved.as_ref()).or(self.moved.as_ref()),
        })
    }

    /// `/data/app.db: missing here, restorable there: restore (exit 0)`
    pub fn line(&self, db: &Path) -> String {
        let there = self.remote.map_or_else(String::new, |r| format!(", {} there", remote_word(r)));
        let (here, does, code) = (local_word(self.local), decision_word(self.decision), self.code());
        format!("{}: {here} here{there}: {does} (exit {code})", db.display())
    }
}

pub(super) fn say(db: &Path, alarm: Alarm, failed: Option<&Error>, found: Standing) {
    let db = db.display();
    let cause = failed.map_or_else(String::new, |e| format!(" ({e})"));
    match alarm {
        Alarm::Wiped => {
            tracing::error!(%db, "backup wiped: the replica is empty although it has held this database; it begins anew");
        }
        Alarm::Unreachable => {
            tracing::warn!(%db, "the replica could not be asked{cause}; starting on the database that is here");
        }
        Alarm::Denied | Alarm::NoBucket => {
            tracing::error!(%db, "nothing is backed up until this is mended{cause}; starting on the database that is here");
        }
        Alarm::Broken => {
            tracing::error!(%db, "the replica does not restore; starting on the database that is here");
        }
        Alarm::Behind => {
            tracing::warn!(%db, "{}; kept, as asked for; what the replica holds is on hold", behind_in_words(found));
        }
        Alarm::Unknown => {
            tracing::warn!(%db, "{}; starting on it", behind_in_words(found));
        }
    }
}

pub(super) fn behind_in_words(found: Standing) -> String {
    let date = |t: Option<Timestamp>| t.map_or_else(|| "an unknown time".to_owned(), |t| format!("{t:.0}"));
    match found {
        Standing::Behind(lead) => Lead::to_string(&lead),
        Standing::Unknown { here, there } => format!(
            "nothing says where this database comes from: it was last written at {}, the replica at {}",
            date(here),
            date(there)
        ),
        Standing::Good => "the database is in line with the replica".to_owned(),
    }
}

pub(super) fn behind(db: &Path, found: Standing) -> Error {
    let option = match found {
        Standing::Behind(_) => ("-on-behind", "SUPERVISOR_ON_BEHIND"),
        Standing::Unknown { .. } | Standing::Good => ("-on-unknown", "SUPERVISOR_ON_UNKNOWN"),
    };
    let (flag, variable) = option;
    Error::new(Kind::Behind, format!("start on {}", db.display()), behind_in_words(found)).hint(format!(
        "{flag} restore ({variable}=restore) moves this database aside and restores; {flag} keep ({variable}=keep) \
         starts on it and leaves what the replica holds as it is"
    ))
}

pub(super) fn lost(db: &Path, here: Local, lived: bool) -> Error {
    let why = match (here, lived) {
        (Local::OrphanWal, _) => "its -wal or -journal is still here".to_owned(),
        (_, true) => format!("{} says that it lived here", lineage::path(db).display()),
        (_, false) => "-require-replica asks for one".to_owned(),
    };
    let cause = format!("the replica is proven empty, but there was a database: {why}");
    let token = crate::plan::start::token_of(Timestamp::now());
    Error::new(Kind::Empty, format!("restore {}", db.display()), cause).hint(format!(
        "check the replica's path; to start on nothing today: -allow-empty-start {token} \
         (SUPERVISOR_ALLOW_EMPTY_START={token})"
    ))
}

pub(super) fn unusable(db: &Path, obstacle: Obstacle) -> Error {
    let doing = format!("start on {}", db.display());
    let dir = crate::durable::parent(db).display();
    match obstacle {
        Obstacle::NoFile => Error::new(Kind::Config, doing, "the path exists and is not a file")
            .hint("correct `path`, or the mount that made a directory of it"),
        Obstacle::NoDirectory => {
            Error::new(Kind::Config, doing, "a file stands where its directory should be")
                .hint("correct `path`")
        }
        Obstacle::Denied => Error::new(
            Kind::Forbidden,
            doing,
            format!("user {} may not write to it or to {dir}", nix::unistd::geteuid()),
        )
        .hint("give the volume to this user, or run as the volume's"),
        Obstacle::ReadOnly => Error::new(Kind::CannotCreate, doing, format!("{dir} is mounted read-only"))
            .hint("mount it writable"),
        Obstacle::Network => Error::new(
            Kind::Config,
            doing,
            format!("{dir} is on a network file system, where SQLite's WAL does not work"),
        )
        .hint("keep the database on a disk of this machine; -allow-network-fs starts all the same"),
    }
}

fn local_word(local: Local) -> &'static str {
    match local {
        Local::Missing => "missing",
        Local::OrphanWal => "only a WAL",
        Local::Empty => "empty",
        Local::Good => "good",
        Local::Behind => "behind",
        Local::Unknown { older: true } => "unknown and older",
        Local::Unknown { older: false } => "unknown",
        Local::Corrupt => "corrupt",
        Local::Unusable(_) => "unusable",
    }
}

pub(super) fn remote_word(remote: Remote) -> &'static str {
    match remote {
        Remote::Restorable => "restorable",
        Remote::Bare => "nothing in it",
        Remote::Empty => "proven empty",
        Remote::Unreachable => "unreachable",
        Remote::Denied => "denied",
        Remote::NoBucket => "no bucket",
        Remote::Broken => "not restorable",
    }
}

fn decision_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Start(_) => "start",
        Decision::Fresh => "start fresh",
        Decision::Restore(_) => "restore",
        Decision::Refuse(_) => "refuse",
    }
}
