//! One replica's part of the database machine: its cursor, its uploads in flight, its chores. Decisions only.
//!
//! ```text
//! Unknown ─Inspect▶ Inspecting ─ proof holds ─────────────▶ Follow ◀─ Snapshot ok ─ Base
//!                        └─ no proof ─▶ Broken(reason) ─ new generation ───────────▶ ┘
//! any ─ WAL restarted behind the pin, another writer ─▶ Broken(reason)            any ─ too far behind ─▶ Unknown
//! ```
//! *Base* ships the WAL the database file may already contain, then the snapshot, and nothing past it: a snapshot is
//! published only when everything it may hold is there to be replayed over it (spec litestream-v03 §11.2). Positions
//! of a generation count as acknowledged once its base is published.
//!
//! A generation that begins in a WAL that was handed over begins at its end: the database file holds all of it, and
//! nobody may hold its bytes. Its first index then begins inside the WAL, as one does that would get too long (*split
//! index*): what is before is in the snapshot, or in the index before.
//!
//! A failed upload is repeated with the same bounds, because objects are created once: the same key must hold the
//! same bytes.

mod broken;
mod decide;
mod flight;

use std::collections::VecDeque;
use std::time::Duration;

pub use broken::{Broken, Fault, FaultKind};
use flight::{Bounds, Flight};

use super::chance::Dice;
use super::database::{Action, Policy, ReplicaPolicy, Wal, WalPos};
use super::ltx;
use super::retry;
use crate::format::layout::{Generation, Pos, WalIndex};
use crate::format::wal::{FrameHeader, HEADER_LEN, Salt};

/// The end of a replica's newest generation, beside what the live WAL holds at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub generation: Generation,
    pub index: WalIndex,
    /// End of the last segment, bytes into the WAL.
    pub end: u64,
    /// Salt of the WAL the segment belongs to; `None` when the generation has no segment.
    pub salt: Option<Salt>,
    /// The last replicated frame; `None` when only the WAL header is.
    pub last: Option<FrameHeader>,
    /// The frame that ends at `end` in the live WAL.
    pub local: Option<FrameHeader>,
    /// The newest snapshot's index and age.
    pub snapshot: Option<(WalIndex, Duration)>,
}

/// How far a replica has come. `offset` counts bytes of the WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) generation: Generation,
    pub(super) index: WalIndex,
    pub(super) incarnation: u64,
    pub(super) offset: u64,
    /// Where the index begins in the WAL file: 0, or the frame a split index starts with.
    pub(super) base: u64,
    /// No transaction is cut at `offset`.
    pub(super) whole: bool,
}

impl Cursor {
    /// The offset in the index, which is what the segment's name says.
    pub(super) fn named(&self) -> u64 {
        named(self.base, self.offset)
    }
}

/// Where byte `offset` of the WAL stands in an index that begins at `base`. The first segment of an index brings the
/// header along, its own where the WAL has none at that place, so it starts at 0.
pub fn named(base: u64, offset: u64) -> u64 {
    match (base, offset - base) {
        (0, _) => offset,
        (_, 0) => 0,
        (_, behind) => behind + HEADER_LEN as u64,
    }
}

/// `Unknown` and `Inspecting` say why the replica was let go, if it was known before.
#[derive(Debug)]
enum State {
    Unknown(Option<Broken>),
    Inspecting(Option<Broken>),
    Broken(Broken),
    /// The base may be published from this position on: an older generation may have been acknowledged up to there.
    Base(Cursor, WalPos),
    Follow(Cursor),
}

/// What a replica does beside replicating, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Retaining,
    /// Reads the live WAL: the pin must stay.
    Validating,
}

/// The machine of one replica.
#[derive(Debug)]
pub(super) struct Replica {
    policy: ReplicaPolicy,
    state: State,
    segment: Flight,
    snapshot: Flight,
    /// A failed attempt ended here and must be repeated exactly.
    repeat: Option<Bounds>,
    failures: u32,
    retry_at: Duration,
    stopping: bool,
    error: Option<Fault>,
    last_put: Option<Duration>,
    acknowledged: Option<Pos>,
    snapshot_index: Option<WalIndex>,
    snapshot_at: Duration,
    stale: bool,
    chore: Option<Chore>,
    retention_at: Duration,
    validation_at: Duration,
}

impl Replica {
    pub(super) fn new(policy: ReplicaPolicy) -> Self {
        let retention_at = policy.retention_check_interval.min(policy.retention);
        let (validation_at, snapshot_at) = (policy.validation_interval, policy.snapshot_interval);
        Self {
            policy,
            state: State::Unknown(None),
            segment: Flight::Idle,
            snapshot: Flight::Idle,
            repeat: None,
            failures: 0,
            retry_at: Duration::ZERO,
            stopping: false,
            error: None,
            last_put: None,
            acknowledged: None,
            snapshot_index: None,
            snapshot_at,
            stale: false,
            chore: None,
            retention_at,
            validation_at,
        }
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        match self.state {
            State::Base(c, _) | State::Follow(c) => Some(c),
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) => None,
        }
    }

    pub(super) fn acknowledged(&self) -> Option<Pos> {
        self.acknowledged
    }

    pub(super) fn error(&self) -> Option<&Fault> {
        self.error.as_ref()
    }

    /// Failing for longer than a hiccup.
    pub(super) fn failing(&self) -> bool {
        self.failures >= 3
    }

    /// Bytes are being read that a moved pin would pull away.
    pub(super) fn holds_the_pin(&self) -> bool {
        let validating = self.chore == Some(Chore::Validating);
        self.segment.is_reading() || self.snapshot.is_reading() || validating
    }

    /// The live WAL may be what its generation goes on with; nobody has looked yet.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.state, State::Unknown(None) | State::Inspecting(None))
    }

    /// Somebody is looking at it.
    pub(super) fn is_inspecting(&self) -> bool {
        matches!(self.state, State::Inspecting(_))
    }

    /// What it is once the look has found that it holds LTX files.
    pub(super) fn become_ltx(&self) -> ltx::replica::Replica {
        let let_go = match self.state {
            State::Unknown(why) | State::Inspecting(why) => why,
            State::Broken(reason) => Some(reason),
            State::Base(..) | State::Follow(_) => None,
        };
        let ReplicaPolicy { sync_interval, ltx, .. } = self.policy.clone();
        let mut replica = ltx::replica::Replica::new(sync_interval, ltx, let_go);
        if self.stopping {
            replica.on_stop();
        }
        replica
    }

    /// The base is published and everything up to `target` acknowledged.
    pub(super) fn holds(&self, target: WalPos) -> bool {
        match self.state {
            State::Follow(c) => WalPos { incarnation: c.incarnation, offset: c.offset } >= target,
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) | State::Base(..) => false,
        }
    }

    /// A snapshot is due and the index already has one.
    pub(super) fn wants_new_index(&self) -> bool {
        match self.state {
            State::Follow(c) => self.stale && self.snapshot_index == Some(c.index) && c.offset > 0,
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) | State::Base(..) => false,
        }
    }

    /// This WAL cannot be shipped from its start; the next one can, and of this one nothing is needed once it is handed
    /// over.
    pub(super) fn waits_for_handover(&self, wal: &Wal, policy: &Policy) -> bool {
        matches!(self.state, State::Broken(Broken::TooLong))
            && !wal.handed()
            && wal.end() >= policy.index_bytes
    }

    /// A commit seen now would be sent now.
    pub(super) fn wants_commit(&self, now: Duration, wal: Option<&Wal>) -> bool {
        let free = self.segment == Flight::Idle && self.retry_at <= now;
        match self.state {
            State::Follow(_) => free && wal.is_some() && self.paced(now),
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) | State::Base(..) => false,
        }
    }

    /// The times at which this replica has something to do, or to look at.
    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let pace = self.last_put.map(|t| t + self.policy.sync_interval);
        let snapshot = self.on(self.policy.snapshot_interval, self.snapshot_at);
        let retention = self.on(self.policy.retention, self.retention_at);
        let validation = self.on(self.policy.validation_interval, self.validation_at);
        let all = [Some(self.retry_at), pace, snapshot, retention, validation];
        all.into_iter().flatten().filter(|t| *t > now).min()
    }

    fn on(&self, interval: Duration, at: Duration) -> Option<Duration> {
        (!interval.is_zero()).then_some(at)
    }

    fn paced(&self, now: Duration) -> bool {
        self.last_put.is_none_or(|t| now >= t + self.policy.sync_interval)
    }

    /// Gives the generation up. What is in flight runs out first.
    pub(super) fn break_off(&mut self, reason: Broken) {
        (self.segment, self.snapshot) = (self.segment.orphaned(), self.snapshot.orphaned());
        self.repeat = None;
        self.state = match (&self.state, reason) {
            // Nothing was inspected yet: the inspection itself will tell.
            (State::Unknown(why), _) => State::Unknown(*why),
            (State::Inspecting(why), _) => State::Inspecting(*why),
            // The store may answer again while the WAL still holds what it lacks.
            (_, Broken::FellBehind) => State::Unknown(Some(reason)),
            (State::Broken(_) | State::Base(..) | State::Follow(_), _) => State::Broken(reason),
        };
    }

    pub(super) fn on_inspected(
        &mut self,
        now: Duration,
        dice: &mut Dice,
        wal: Option<&Wal>,
        result: Result<Option<Head>, Fault>,
    ) {
        let State::Inspecting(let_go) = self.state else { return };
        let head = match result {
            Ok(head) => head,
            Err(fault) => {
                self.state = State::Unknown(let_go);
                return self.fail(now, dice, fault);
            }
        };
        self.recover();
        let Some(wal) = wal else {
            self.state = State::Unknown(let_go);
            return;
        };
        self.state = match prove(wal, head) {
            Err(reason) => State::Broken(let_go.unwrap_or(reason)),
            Ok(head) => {
                let cursor = Cursor {
                    generation: head.generation,
                    index: head.index,
                    incarnation: wal.incarnation,
                    offset: head.end,
                    base: 0,
                    whole: head.last.is_none_or(|f| f.commit > 0),
                };
                match head.snapshot {
                    None => State::Base(cursor, end_of(wal)),
                    Some((index, age)) => {
                        self.snapshot_index = Some(index);
                        let due = self.policy.snapshot_interval.saturating_sub(age);
                        self.snapshot_at = now + due;
                        self.acknowledged = Some(Pos {
                            generation: cursor.generation,
                            index: cursor.index,
                            offset: cursor.offset,
                        });
                        State::Follow(cursor)
                    }
                }
            }
        };
    }

    pub(super) fn on_read(&mut self, to: u64) {
        self.segment = match self.segment {
            Flight::Reading(bounds) => Flight::Sending(bounds.cut(to)),
            other => other.read(),
        };
    }

    pub(super) fn on_segment(&mut self, now: Duration, dice: &mut Dice, result: Result<(), Fault>) {
        let flight = std::mem::replace(&mut self.segment, Flight::Idle);
        let sent = match flight {
            Flight::Sending(bounds) => Some(bounds),
            Flight::Reading(_) => None,
            Flight::Orphan { .. } | Flight::Idle => return,
        };
        match result {
            Ok(()) => {
                self.repeat = None;
                self.recover();
                if let (State::Base(c, _) | State::Follow(c), Some(sent)) = (&mut self.state, sent) {
                    (c.offset, c.whole) = (sent.to, sent.whole);
                }
                self.acknowledge();
            }
            Err(fault) if fault.kind == FaultKind::Diverged => {
                self.error = Some(fault);
                self.break_off(Broken::Diverged);
            }
            Err(fault) => {
                // A repetition that was not even read still has to be repeated.
                self.repeat = sent.or(self.repeat);
                self.fail(now, dice, fault);
            }
        }
    }

    pub(super) fn on_snapshot_read(&mut self) {
        self.snapshot = self.snapshot.read();
    }

    pub(super) fn on_snapshot(&mut self, now: Duration, dice: &mut Dice, result: Result<WalIndex, Fault>) {
        let flight = std::mem::replace(&mut self.snapshot, Flight::Idle);
        if matches!(flight, Flight::Orphan { .. } | Flight::Idle) {
            return;
        }
        match result {
            Err(fault) => self.fail(now, dice, fault),
            Ok(index) => {
                self.recover();
                self.snapshot_index = Some(index);
                self.stale = false;
                self.snapshot_at = now + self.policy.snapshot_interval;
                if let State::Base(c, _) = self.state {
                    self.state = State::Follow(c);
                }
                self.acknowledge();
            }
        }
    }

    pub(super) fn on_retained(&mut self, stale: bool) {
        self.chore = None;
        self.stale |= stale;
    }

    pub(super) fn on_validated(&mut self) {
        self.chore = None;
    }

    /// The interval saves requests; at the end of the app's life there is nothing to save them for.
    pub(super) fn on_flush(&mut self) {
        self.policy.sync_interval = Duration::ZERO;
    }

    /// A stop must not wait out a back-off, nor lose its few seconds to the next ones.
    pub(super) fn on_stop(&mut self) {
        self.retry_at = Duration::ZERO;
        self.stopping = true;
    }

    fn acknowledge(&mut self) {
        if let State::Follow(c) = self.state {
            self.acknowledged = Some(Pos { generation: c.generation, index: c.index, offset: c.named() });
        }
    }

    fn fail(&mut self, now: Duration, dice: &mut Dice, fault: Fault) {
        self.failures += 1;
        let wait = retry::pause(fault.kind.class(), self.failures, dice);
        self.retry_at = now + if self.stopping { wait.min(STOPPING_WAIT) } else { wait };
        self.error = Some(fault);
    }

    fn recover(&mut self) {
        self.failures = 0;
        self.retry_at = Duration::ZERO;
        self.error = None;
    }
}

/// What a replica decides with, besides itself.
pub(super) struct Surroundings<'a> {
    pub(super) number: usize,
    pub(super) policy: &'a Policy,
    pub(super) dice: &'a mut Dice,
    pub(super) wal: Option<&'a Wal>,
    /// Ended incarnations whose tails are held: number and end.
    pub(super) closed: &'a [(u64, u64)],
    pub(super) stopping: bool,
    /// No round is running: bytes may be read.
    pub(super) pin_free: bool,
    pub(super) out: &'a mut VecDeque<Action>,
}

fn end_of(wal: &Wal) -> WalPos {
    WalPos { incarnation: wal.incarnation, offset: wal.end() }
}

/// Does the replica end exactly on a frame of the live WAL?
fn prove(wal: &Wal, head: Option<Head>) -> Result<Head, Broken> {
    let head = head.ok_or(Broken::NoGeneration)?;
    let salt = head.salt.ok_or(Broken::NoWal)?;
    if head.index == WalIndex::MAX {
        return Err(Broken::MaxIndex);
    }
    if wal.view.marks.frames == 0 || salt != wal.view.marks.salt {
        return Err(Broken::HeaderMismatch);
    }
    let frames = wal.view.page_size.frames_at(head.end).ok_or(Broken::Unaligned)?;
    if frames > u64::from(wal.view.marks.frames) {
        return Err(Broken::WalTruncated);
    }
    if frames > 0 && (head.last.is_none() || head.last != head.local) {
        return Err(Broken::WalOverwritten);
    }
    Ok(head)
}

/// The longest wait between two attempts once the end is near.
const STOPPING_WAIT: Duration = Duration::from_secs(1);

/// Plain bytes in a segment at most, but for a frame that does not end there. Bounds the memory of an upload; a
/// larger backlog becomes several objects, and a larger transaction several that restore as one.
pub const SEGMENT_BYTES: u64 = 4 << 20;
