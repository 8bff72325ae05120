//! Where replication of one database stands. Values only.

use std::time::Duration;

use holdfast_config::control::Status;

use crate::plan::position::Position;

/// One database.
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
    /// Since when some replica lacks something.
    pub(super) lag: Duration,
    /// Stored bytes sent to replicas since start.
    pub(super) sent_bytes: u64,
    /// Why it is not attached.
    pub(super) source_error: Option<String>,
    pub(super) replicas: Vec<Standing>,
}

/// One replica of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) name: String,
    /// What it has acknowledged, once it holds a base.
    pub(super) position: Option<Position>,
    pub(super) lag_bytes: u64,
    /// Its last error, while it lasts.
    pub(super) error: Option<String>,
    /// What should be known of its destination.
    pub(super) remarks: Vec<String>,
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

    /// The first error there is.
    pub(super) fn error(&self) -> Option<&str> {
        self.source_error.as_deref().or_else(|| self.replicas.iter().find_map(|r| r.error.as_deref()))
    }

    /// As the supervisor hears it.
    pub(super) fn status(&self) -> Status {
        Status {
            db: self.db.clone(),
            wal_end: self.wal_end,
            position: self.position().map(|p| p.to_string()).unwrap_or_default(),
            lag_bytes: self.lag_bytes(),
            lag_ms: u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX),
            sent_bytes: self.sent_bytes,
            error: self.error().map(str::to_owned),
            remarks: self.replicas.iter().flat_map(|r| r.remarks.iter().cloned()).collect(),
        }
    }

    fn slowest(&self) -> Option<&Standing> {
        self.replicas.iter().max_by_key(|r| (r.position.is_none(), r.lag_bytes))
    }
}
