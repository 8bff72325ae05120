//! Why a generation cannot go on, and what went wrong at a replica. Values only.

use std::fmt;
use std::time::Duration;

use crate::plan::retry::Class;

/// Why a new generation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The replica holds nothing that could be continued.
    NoGeneration,
    /// The newest generation has no WAL to prove anything with.
    NoWal,
    /// The WAL's salts are not those the replica ends with.
    HeaderMismatch,
    /// The replica ends behind the end of the WAL.
    WalTruncated,
    /// The last replicated frame is not the one in the WAL.
    WalOverwritten,
    /// The replica's last segment does not end on a frame.
    Unaligned,
    /// No index is left in the generation.
    MaxIndex,
    /// A transaction does not end before the offsets of its index do.
    TooLong,
    /// The WAL restarted while the pin should have held it.
    WalRestarted,
    /// The WAL index went backwards under the same salts.
    WalShrank,
    /// Another file stands at the database's path.
    DatabaseReplaced,
    /// The replica kept failing until the WAL was at its cap.
    FellBehind,
    /// Somebody else wrote into our generation.
    Diverged,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoGeneration => "the replica holds nothing that could be continued",
            Self::NoWal => "no replicated wal to prove continuity with",
            Self::HeaderMismatch => "wal header mismatch: restarted while nobody was attached",
            Self::WalTruncated => "wal truncated by another process",
            Self::WalOverwritten => "wal overwritten by another process",
            Self::Unaligned => "last replicated segment does not end on a frame",
            Self::MaxIndex => "max index exceeded",
            Self::TooLong => "transaction larger than a wal index can hold",
            Self::WalRestarted => "wal restarted behind the pin",
            Self::WalShrank => "wal went backwards",
            Self::DatabaseReplaced => "database file replaced",
            Self::FellBehind => "replica fell behind max-wal-size",
            Self::Diverged => "another writer uses this replica path",
        })
    }
}

/// What went wrong at a replica, as far as the next step depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// `verb object: cause`, for the log and the status.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Try again later.
    Retry,
    /// Try again later, and less often: the service asked for it, and may have said for how long.
    Throttled(Option<Duration>),
    /// Try again now and then: somebody has to mend it first.
    Refused,
    /// The object exists with other content.
    Diverged,
    /// The local WAL or database could not be read or verified.
    Local,
}

impl FaultKind {
    /// How soon to try again after it.
    pub const fn class(self) -> Class {
        match self {
            Self::Retry | Self::Diverged | Self::Local => Class::Passing,
            Self::Throttled(asked) => Class::Throttled(asked),
            Self::Refused => Class::Refused,
        }
    }
}
