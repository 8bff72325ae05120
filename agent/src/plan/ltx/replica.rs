//! One replica of LTX files, as a part of the database's machine: its cursor, its uploads, its upkeep. Decisions only.
//!
//! ```text
//! Unknown ─Inspect▶ Inspecting ─ proof holds ─────────────────────────▶ Follow
//!    ▲                   └─ no proof ─▶ Broken(reason) ─ full copy ─▶ Base ─ ok ─▶ ┘
//!    └── a copy failed, or an upload of which nobody knows whether it arrived ─────┘
//! any ─ WAL restarted behind the pin ─▶ Broken(reason)      any ─ too far behind ─▶ Unknown
//! ```
//! A *batch* is every page that whole transactions of a range of the WAL changed, and one transaction number. A *copy*
//! is the whole database at a commit: as a file of level 0 it heals a chain whose continuity nobody can prove
//! (numbers go on after the replica's highest), as a file of level 9 it is a snapshot.
//!
//! No number is ever left out: a file whose upload failed is repeated with the same bytes, or the replica is looked at
//! again before anything else is numbered.

mod answer;
mod decide;

use std::time::Duration;

use jiff::Timestamp;

use super::Policy;
use super::compact::Compaction;
use super::files::{File, Files};
use super::upkeep::{Chore, Upkeep};
use crate::format::ltx::{Name, Txid, WalPos as Range};
use crate::format::wal::{FrameHeader, PageSize, Salt};
use crate::plan::chance::Dice;
use crate::plan::database::{Wal, WalPos};
use crate::plan::replica::{Broken, Fault};
use crate::plan::retry;

/// What the shell does for a replica of LTX files.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Report `Event::Read`, then [`Done::Batch`].
    Batch(BatchJob),
    /// Report `Event::SnapshotRead`, then [`Done::Copy`].
    Copy(CopyJob),
    /// Report [`Done::Compact`].
    Compact(Compaction),
    /// Report [`Done::Delete`].
    Delete(Vec<Name>),
}

/// How it went.
#[derive(Debug, Clone)]
pub enum Done {
    Batch(Result<Shipped, Fault>),
    Copy(Result<Shipped, Fault>),
    Compact(Result<File, Fault>),
    /// What is gone, and why not all of it.
    Delete(Vec<Name>, Option<Fault>),
}

/// A file of ours that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    pub file: File,
    /// Pages of the database after it.
    pub commit: u32,
}

/// One batch to ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchJob {
    pub txid: Txid,
    pub incarnation: u64,
    /// Bytes of the WAL.
    pub from: u64,
    /// Nothing at or past this is committed, or was part of the failed attempt this one repeats.
    pub to: u64,
    /// The attempt repeats another and ends exactly at `to`.
    pub exact: bool,
    /// Pages of the database before it: what it grew by has to be in the file, also what no frame holds.
    pub before: u32,
    pub stamp: Timestamp,
}

/// A copy of the whole database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyJob {
    pub name: Name,
    /// The state is that after this many bytes of the WAL.
    pub at: u64,
    pub salt: Salt,
    pub page_size: PageSize,
    /// Some of it is in the WAL alone; if not, the database file holds all of it.
    pub in_wal: bool,
    pub stamp: Timestamp,
}

/// What the replica holds, beside what the live WAL has where its newest upload ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub files: Files,
    pub last: Option<Last>,
}

/// The newest upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub name: Name,
    pub page_size: PageSize,
    /// Pages of the database after it.
    pub commit: u32,
    pub stamp: Timestamp,
    /// Where in which WAL it comes from.
    pub wal: Range,
    /// The frame that ends there in the live WAL.
    pub local: Option<FrameHeader>,
    /// That frame is the upload's last one.
    pub same: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    at: WalPos,
    commit: u32,
}

/// `Unknown` and `Inspecting` say why the replica was let go, if it was known before.
#[derive(Debug)]
enum State {
    Unknown(Option<Broken>),
    Inspecting(Option<Broken>),
    Broken(Broken),
    /// The full copy of this state is on its way.
    Base(WalPos),
    Follow(Cursor),
}

/// An upload on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight<J> {
    Idle,
    /// Bytes are being read: the pin must stay.
    Reading(J),
    Sending(J),
}

/// The machine of one replica.
#[derive(Debug)]
pub(in crate::plan) struct Replica {
    sync_interval: Duration,
    policy: Policy,
    state: State,
    /// What is there; `None` until the replica was looked at.
    upkeep: Option<Upkeep>,
    batch: Flight<BatchJob>,
    copy: Flight<CopyJob>,
    /// A failed attempt that must be repeated exactly.
    repeat: Option<BatchJob>,
    working: bool,
    last_put: Option<Duration>,
    /// That of the chain so far, where it is known.
    page_size: Option<PageSize>,
    /// The time of the newest file: no later one may look older.
    stamp: Timestamp,
    /// When the time of day was what.
    wall: (Duration, Timestamp),
    uploads: Trouble,
    /// A merge that fails holds no upload back.
    chores: Trouble,
    snapshots: Trouble,
    stopping: bool,
    acknowledged: Option<Txid>,
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    retry_at: Duration,
    error: Option<Fault>,
}

impl Trouble {
    fn fail(&mut self, now: Duration, dice: &mut Dice, fault: Fault, most: Duration) {
        self.failures += 1;
        self.retry_at = now + retry::pause(fault.kind.class(), self.failures, dice).min(most);
        self.error = Some(fault);
    }

    /// As [`Trouble::fail`], of work that can wait.
    fn fail_chore(&mut self, now: Duration, dice: &mut Dice, fault: Fault, most: Duration) {
        self.failures += 1;
        self.retry_at = now + retry::chore(fault.kind.class(), self.failures, dice).min(most);
        self.error = Some(fault);
    }
}

impl Replica {
    /// One that is being looked at.
    pub(in crate::plan) fn new(sync_interval: Duration, policy: Policy, let_go: Option<Broken>) -> Self {
        Self {
            sync_interval,
            policy,
            state: State::Inspecting(let_go),
            upkeep: None,
            batch: Flight::Idle,
            copy: Flight::Idle,
            repeat: None,
            working: false,
            last_put: None,
            page_size: None,
            stamp: Timestamp::MIN,
            wall: (Duration::ZERO, Timestamp::UNIX_EPOCH),
            uploads: Trouble::default(),
            chores: Trouble::default(),
            snapshots: Trouble::default(),
            stopping: false,
            acknowledged: None,
        }
    }

    pub(in crate::plan) fn cursor(&self) -> Option<WalPos> {
        match self.state {
            State::Base(at) | State::Follow(Cursor { at, .. }) => Some(at),
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) => None,
        }
    }

    pub(in crate::plan) fn acknowledged(&self) -> Option<Txid> {
        self.acknowledged
    }

    pub(in crate::plan) fn error(&self) -> Option<&Fault> {
        [&self.uploads, &self.snapshots, &self.chores].into_iter().find_map(|t| t.error.as_ref())
    }

    pub(in crate::plan) fn failing(&self) -> bool {
        self.uploads.failures >= 3
    }

    pub(in crate::plan) fn holds_the_pin(&self) -> bool {
        matches!(self.batch, Flight::Reading(_)) || matches!(self.copy, Flight::Reading(_))
    }

    pub(in crate::plan) fn is_unknown(&self) -> bool {
        matches!(self.state, State::Unknown(None) | State::Inspecting(None))
    }

    pub(in crate::plan) fn holds(&self, target: WalPos) -> bool {
        match self.state {
            State::Follow(c) => c.at >= target,
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) | State::Base(_) => false,
        }
    }

    pub(in crate::plan) fn wants_commit(&self, now: Duration, wal: Option<&Wal>) -> bool {
        let free = self.batch == Flight::Idle && self.uploads.retry_at <= now;
        matches!(self.state, State::Follow(_)) && free && wal.is_some() && self.paced(now)
    }

    /// The times at which there is something to do, or to look at.
    pub(in crate::plan) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let pace = self.last_put.map(|at| at + self.sync_interval);
        let all =
            [Some(self.uploads.retry_at), pace, Some(self.snapshots.retry_at), Some(self.chores.retry_at)];
        // A time that has passed is being waited for by something else than time, and hides no other.
        all.into_iter().chain(self.upkeep_due()).flatten().filter(|t| *t > now).min()
    }

    /// When the next merge, deletion and snapshot are due.
    fn upkeep_due(&self) -> [Option<Duration>; 3] {
        let (at, wall) = self.wall;
        let after = |due: Timestamp| at + Duration::try_from(due.duration_since(wall)).unwrap_or_default();
        match (&self.upkeep, self.acknowledged) {
            (Some(upkeep), Some(head)) => upkeep.due(head).map(|due| due.map(after)),
            (None, _) | (_, None) => [None; 3],
        }
    }

    fn paced(&self, now: Duration) -> bool {
        self.last_put.is_none_or(|at| now >= at + self.sync_interval)
    }

    /// The chain can not go on. What is in flight runs out first: its number counts.
    pub(in crate::plan) fn break_off(&mut self, reason: Broken) {
        self.repeat = None;
        self.state = match (&self.state, reason) {
            // Nothing was inspected yet: the inspection itself will tell.
            (State::Unknown(why), _) => State::Unknown(*why),
            (State::Inspecting(why), _) => State::Inspecting(*why),
            // The store may answer again while the WAL still holds what it lacks. And of a batch that failed nobody
            // knows whether its number is taken.
            (_, Broken::FellBehind) => State::Unknown(Some(reason)),
            (State::Follow(_), _) if self.uploads.failures > 0 => State::Unknown(Some(reason)),
            (State::Broken(_) | State::Base(..) | State::Follow(_), _) => State::Broken(reason),
        };
    }

    pub(in crate::plan) fn on_wall(&mut self, now: Duration, wall: Timestamp) {
        self.wall = (now, wall);
    }

    pub(in crate::plan) fn on_flush(&mut self) {
        self.sync_interval = Duration::ZERO;
    }

    pub(in crate::plan) fn on_stop(&mut self) {
        self.uploads.retry_at = Duration::ZERO;
        self.stopping = true;
    }

    fn put(&mut self, file: File) {
        if let Some(upkeep) = &mut self.upkeep {
            upkeep.put(file);
        }
    }

    fn deleted(&mut self, names: &[Name]) {
        if let Some(upkeep) = &mut self.upkeep {
            upkeep.deleted(names);
        }
    }

    /// The longest wait between two attempts.
    fn most(&self) -> Duration {
        if self.stopping { Duration::from_secs(1) } else { Duration::MAX }
    }
}

#[cfg(test)]
mod tests;
