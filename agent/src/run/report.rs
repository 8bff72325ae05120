//! Where replication of one database stands, and what it has come to so far. Values only.

use std::time::Duration;

use holdfast_config::control::Status;
use jiff::Timestamp;

use crate::plan::position::Position;
use crate::plan::replica::FaultKind;

/// One database. Times are since the agent started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) db: String,
    /// A read transaction holds its WAL.
    pub(super) pinned: bool,
    /// The app has not created it, or not made it a WAL database, yet.
    pub(super) waiting: bool,
    /// What stands at its path is not a SQLite database.
    pub(super) damaged: bool,
    /// Bytes in the WAL up to its last commit.
    pub(super) wal_end: u64,
    /// Bytes of the database file and of the WAL's.
    pub(super) db_file: u64,
    pub(super) wal_file: u64,
    /// Stored bytes sent to replicas since start.
    pub(super) sent_bytes: u64,
    /// Why it is not attached.
    pub(super) source_error: Option<String>,
    pub(super) replicas: Vec<Standing>,
    pub(super) work: SourceWork,
}

/// One replica of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) name: String,
    /// `file`, `s3`, `gcs`, `abs` or `sftp`.
    pub(super) kind: &'static str,
    /// What it has acknowledged, once it holds a base.
    pub(super) position: Option<Position>,
    pub(super) lag_bytes: u64,
    /// When the oldest commit was seen that it has not acknowledged; without a base, since when it has none.
    pub(super) behind_since: Option<Duration>,
    /// Its last error, while it lasts.
    pub(super) error: Option<String>,
    /// What it holds that is not this database's past, and that no retention deletes (`plan::holds`).
    pub(super) holds: Vec<String>,
    /// What should be known of its destination.
    pub(super) remarks: Vec<String>,
    pub(super) work: ReplicaWork,
}

/// What was done with the database since its loop began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SourceWork {
    /// Bytes committed to the WAL.
    pub(super) committed: u64,
    pub(super) checkpoints: Tally,
    /// Times the pin was lost without our doing.
    pub(super) pins_lost: u64,
}

/// What was done for a replica since its loop began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ReplicaWork {
    /// By [`Upload`].
    pub(super) uploads: [Tally; Upload::ALL.len()],
    /// Bytes of the WAL it acknowledged.
    pub(super) wal_bytes: u64,
    /// By [`kind_number`].
    pub(super) faults: [u64; FAULTS.len()],
    /// Chains begun: generations, or full copies after a break.
    pub(super) begun: u64,
    /// Times it was let go because the WAL was at its cap.
    pub(super) let_go: u64,
    /// Objects deleted, and how often that failed.
    pub(super) deleted: u64,
    pub(super) deletions_failed: u64,
    /// Restore drills: equal, and not.
    pub(super) drills: [u64; 2],
    /// When it last acknowledged something.
    pub(super) acknowledged: Option<Timestamp>,
}

/// How often, for how long altogether, and how often in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) failed: u64,
    /// From the decision to the answer, of those that were done.
    pub(super) took: Duration,
}

impl Tally {
    pub(super) fn count(&mut self, done: bool, took: Duration) {
        if done {
            self.done += 1;
            self.took += took;
        } else {
            self.failed += 1;
        }
    }
}

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// Commits.
    Wal,
    /// A copy of the whole database.
    Base,
    /// Several files as one.
    Merge,
}

impl Upload {
    pub(super) const ALL: [Self; 3] = [Self::Wal, Self::Base, Self::Merge];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Base => "base",
            Self::Merge => "merge",
        }
    }
}

/// The names of a [`FaultKind`], at its number.
pub(super) const FAULTS: [&str; 5] = ["unavailable", "throttled", "refused", "diverged", "local"];

/// Where `kind` stands in [`FAULTS`].
pub(super) const fn kind_number(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Retry => 0,
        FaultKind::Throttled(_) => 1,
        FaultKind::Refused => 2,
        FaultKind::Diverged => 3,
        FaultKind::Local => 4,
    }
}

impl Standing {
    /// Age at `now` of the oldest commit it has not acknowledged, or how long it has been without a base.
    pub(super) fn lag(&self, now: Duration) -> Duration {
        self.behind_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

impl Report {
    /// The slowest replica's position.
    pub(super) fn position(&self) -> Option<Position> {
        self.slowest().and_then(|r| r.position)
    }

    /// Bytes the slowest replica lacks.
    pub(super) fn lag_bytes(&self) -> u64 {
        self.slowest().map_or(0, |r| r.lag_bytes)
    }

    /// Age of the oldest commit some replica lacks.
    pub(super) fn lag(&self, now: Duration) -> Duration {
        self.replicas.iter().map(|r| r.lag(now)).max().unwrap_or_default()
    }

    /// Some replica lacks something: what is said of it grows old.
    pub(super) fn is_behind(&self) -> bool {
        self.replicas.iter().any(|r| r.behind_since.is_some())
    }

    /// The first error there is.
    pub(super) fn error(&self) -> Option<&str> {
        self.source_error.as_deref().or_else(|| self.replicas.iter().find_map(|r| r.error.as_deref()))
    }

    /// As the supervisor hears it at `now`.
    pub(super) fn status(&self, now: Duration) -> Status {
        Status {
            db: self.db.clone(),
            wal_end: self.wal_end,
            position: self.position().map(|p| p.to_string()).unwrap_or_default(),
            lag_bytes: self.lag_bytes(),
            lag_ms: u64::try_from(self.lag(now).as_millis()).unwrap_or(u64::MAX),
            sent_bytes: self.sent_bytes,
            error: self.error().map(str::to_owned),
            remarks: self.replicas.iter().flat_map(|r| r.remarks.iter().cloned()).collect(),
        }
    }

    fn slowest(&self) -> Option<&Standing> {
        self.replicas.iter().max_by_key(|r| (r.position.is_none(), r.lag_bytes))
    }
}
