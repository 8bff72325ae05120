//! What a database is to its replica: in line, behind, or of unknown origin. Values in, values out.
//!
//! # What is proven
//!
//! A *mark* (`format/lineage.rs`) says at which byte of the WAL database and replica were the same when a final sync was
//! proven. *Behind* takes one of these, whatever else is known or not:
//!
//! 1. The WAL is at the mark to the byte, so nothing was committed here since, and the replica goes on beyond it: in the
//!    same generation, with a higher transaction, or with a generation that is not ours, holds WAL, and began after the
//!    last object of ours. Somebody else went on from a copy.
//! 2. The WAL is still the one of the mark, and the replica holds a segment of it that begins at or after the end of the
//!    file here: commits that were uploaded and are gone, as after a loss of power.
//!
//! # What is not, and starts
//!
//! Whatever moved the WAL away from the mark: commits without an agent, an agent that was killed, a WAL that was
//! restarted, truncated or removed, Litestream. A replica that ends earlier or lost objects. A generation that Litestream's
//! own files beside the database name, or that is a snapshot alone. A replica of LTX files where Litestream keeps its own
//! beside the database. A record that is missing, unreadable, or about another place.
//!
//! The one way to be wrong is an agent that keeps no record (before this one) on an unchanged database in between.
//!
//! Without any record and without Litestream's files all there is to compare is dates. A file that is copied gets younger,
//! and an upload may come hours after its commit, so only a replica younger by more than `SLACK` counts, and only its
//! changes: snapshots and merges are made of old ones, too.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::format::layout::{Generation, Name, Pos};
use crate::format::lineage::{At, Descent, Mark};
use crate::format::ltx::{Level, Txid};
use crate::format::wal::{FrameHeader, Salt};
use crate::plan::restore::Listing;

/// What the WAL holds beside a [`Mark`], read from four places of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub salt: Salt,
    /// Bytes of the file.
    pub len: u64,
    /// The frame that ends at the mark.
    pub last: Option<FrameHeader>,
    /// A whole frame follows it.
    pub goes_on: bool,
}

/// What is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Of this replica.
    pub descent: Option<Descent>,
    pub now: Option<Now>,
    /// The generation Litestream was writing.
    pub litestream: Option<Generation>,
    /// Litestream keeps files of its own here, of whatever version.
    pub litestream_was_here: bool,
    /// The last write to the database or its WAL.
    pub written: Option<Timestamp>,
}

/// What the database is to the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In line, or at least nothing proves otherwise.
    Good,
    Behind(Lead),
    Unknown {
        /// The last write here.
        here: Option<Timestamp>,
        /// The last change over there.
        there: Option<Timestamp>,
    },
}

/// How far the replica is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    pub here: At,
    pub there: At,
    pub date: Timestamp,
}

/// `the database ends at fb6eef3866c03d87/0000001f:16512 and the replica at …:20632, of 2026-11-21T07:47:33Z`
impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |at: At| match at {
            At::Wal(pos) => pos.to_string(),
            At::Ltx(txid) => format!("transaction {txid}"),
        };
        let (here, there, date) = (at(self.here), at(self.there), self.date);
        write!(f, "the database ends at {here} and the replica goes on to {there}, of {date:.0}")
    }
}

impl Standing {
    /// Was a database of unknown origin last written before the replica was?
    pub fn is_older(self) -> bool {
        match self {
            Self::Unknown { here: Some(here), there: Some(there) } => {
                here.checked_add(SLACK).is_ok_and(|here| here < there)
            }
            Self::Unknown { .. } | Self::Good | Self::Behind(_) => false,
        }
    }
}

/// Compares.
pub fn standing(record: &Record, listing: &Listing) -> Standing {
    match &record.descent {
        Some(descent) => {
            let lead = descent
                .mark
                .zip(record.now)
                .and_then(|(mark, now)| lead(record, descent, mark, now, listing));
            lead.map_or(Standing::Good, Standing::Behind)
        }
        None if record.litestream_was_here => Standing::Good,
        None => Standing::Unknown { here: record.written, there: last_change(listing) },
    }
}

fn lead(record: &Record, descent: &Descent, mark: Mark, now: Now, listing: &Listing) -> Option<Lead> {
    if now.salt != mark.salt {
        return None;
    }
    let lead = |there, date| Lead { here: mark.at, there, date };
    let unchanged =
        now.last.is_some_and(|f| f.checksum == mark.checksum && f.salt == mark.salt) && !now.goes_on;
    match mark.at {
        At::Wal(pos) => {
            let beyond = |n: Name| unchanged && is_beyond(n, pos) || is_lost(n, pos, mark, now);
            let ours =
                listing.generations().find(|(g, _)| *g == pos.generation).map(|(_, objects)| objects)?;
            let further = ours.segments.iter().filter(|s| beyond(s.name)).max_by_key(|s| s.name);
            if let Some(segment) = further {
                return Some(lead(At::Wal(begins(segment.name)?), segment.created));
            }
            let (_, ended) = ours.dates()?;
            let known = |g: Generation| descent.own.contains(&g) || record.litestream == Some(g);
            let later =
                listing.generations().filter(|(g, _)| unchanged && !known(*g)).filter_map(|(_, objects)| {
                    let (began, last) = objects.dates()?;
                    let segment = objects.segments.last()?;
                    (began > ended).then_some((begins(segment.name)?, last))
                });
            later.max_by_key(|(_, last)| *last).map(|(there, last)| lead(At::Wal(there), last))
        }
        At::Ltx(_) if record.litestream_was_here => None,
        At::Ltx(txid) => {
            let furthest = listing.ltx().max_by_key(|f| f.name.max)?;
            let ahead: Txid = furthest.name.max;
            (unchanged && ahead > txid).then(|| lead(At::Ltx(ahead), furthest.created))
        }
    }
}

/// A segment that begins where the mark is, or after it.
fn is_beyond(name: Name, pos: Pos) -> bool {
    begins(name).is_some_and(|at| (at.index, at.offset) >= (pos.index, pos.offset))
}

/// A segment of the very WAL that is here, from behind its end. Only where offsets of the index are offsets of the WAL.
fn is_lost(name: Name, pos: Pos, mark: Mark, now: Now) -> bool {
    pos.offset == mark.end && begins(name).is_some_and(|at| at.index == pos.index && at.offset >= now.len)
}

fn begins(name: Name) -> Option<Pos> {
    match name {
        Name::Segment { generation, index, offset } => Some(Pos { generation, index, offset }),
        Name::Snapshot { .. } => None,
    }
}

/// The date of the youngest object that only a commit can have made.
fn last_change(listing: &Listing) -> Option<Timestamp> {
    let segments = listing.generations().flat_map(|(_, o)| o.segments.iter().map(|s| s.created));
    let uploads = listing.ltx().filter(|f| f.name.level == Level::ZERO).map(|f| f.created);
    segments.chain(uploads).max()
}

/// How much younger than the database a replica may be without holding more.
pub(super) const SLACK: Duration = Duration::from_secs(60 * 60);
