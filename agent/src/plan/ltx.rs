//! Decisions about a replica in Litestream 0.5's layout: what to merge, what to keep, what can be restored. Values in,
//! values out.
//!
//! Level 0 has a file for each upload, levels 1 to 8 merge what the one below them wrote in one interval, level 9
//! has copies of the whole database. The agent lists a replica once, at its start, and from then on knows what is
//! there, because it is the only one to write ([`files::Files`]).
//!
//! *The promise.* Each upload stays restorable by itself for `l0-retention`; after that the end of each interval of
//! level 1 does, for `snapshot.retention`. [`compact`] merges no two intervals into one file, [`retain`] deletes
//! nothing that a promised point needs, and the newest file of every level always stays.

pub mod compact;
pub mod files;
pub mod points;
pub mod replica;
pub mod retain;
pub mod upkeep;

use std::time::Duration;

use crate::format::ltx::Txid;

/// The configured pace of a replica. The default has every level off and keeps everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The interval of each level from 1 on; none is zero.
    pub levels: Vec<Duration>,
    /// Zero: only the first snapshot.
    pub snapshot_interval: Duration,
    /// Zero: everything is kept.
    pub snapshot_retention: Duration,
    /// Zero: each upload is kept as long as the snapshots are.
    pub l0_retention: Duration,
    /// The least time between two runs that delete.
    pub check_interval: Duration,
    /// False: nothing is ever deleted.
    pub deletes: bool,
    /// Nothing says that what the replica holds is this database's past.
    pub foreign: bool,
    /// Files up to here are somebody else's, on hold.
    pub hold: Option<Txid>,
}

#[cfg(test)]
mod tests;
