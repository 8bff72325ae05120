//! One replica's part of the database machine: its cursor, its uploads in flight, its chores. Decisions only.
//!
//! ```text
//! Unknown ─Inspect▶ Inspecting ─ proof holds ─────────────▶ Follow ◀─ Snapshot ok ─ Base
//!                        └─ no proof ─▶ Broken(reason) ─ new generation ───────────▶ ┘
//! any ─ WAL restarted behind the pin, another writer, too far behind ─▶ Broken(reason)
//! ```
//! *Base* ships the WAL the database file may already contain, then the snapshot, and nothing past it: a snapshot is
//! published only when everything it may hold is there to be replayed over it (spec litestream-v03 §11.2). Positions
//! of a generation count as acknowledged once its base is published.
//!
//! A failed upload is repeated with the same bounds, because objects are created once: the same key must hold the
//! same bytes.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::chance::Dice;
use super::database::{Action, Policy, ReplicaPolicy, SegmentJob, Wal, WalPos};
use crate::format::layout::{Generation, Pos, WalIndex};
use crate::format::wal::{FrameHeader, HEADER_LEN, Salt};

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
            Self::NoGeneration => "no generation exists",
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
    /// The object exists with other content.
    Diverged,
    /// The local WAL or database could not be read or verified.
    Local,
}

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

/// An upload on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    Idle,
    /// Bytes are being read: the pin must stay.
    Reading(Bounds),
    /// The WAL is no longer needed up to the end.
    Sending(Bounds),
    /// Its generation is given up; whatever it answers is void. The pin must stay all the same while a snapshot is
    /// being read: it may be published, and the old generation is what restores until the new one has a base.
    Orphan {
        reading: bool,
    },
}

impl Flight {
    fn orphaned(self) -> Self {
        match self {
            Self::Idle => Self::Idle,
            Self::Reading(_) => Self::Orphan { reading: true },
            Self::Sending(_) => Self::Orphan { reading: false },
            Self::Orphan { reading } => Self::Orphan { reading },
        }
    }

    /// The bytes are read.
    fn read(self) -> Self {
        match self {
            Self::Idle => Self::Idle,
            Self::Reading(bounds) | Self::Sending(bounds) => Self::Sending(bounds),
            Self::Orphan { .. } => Self::Orphan { reading: false },
        }
    }

    fn is_reading(self) -> bool {
        matches!(self, Self::Reading(_) | Self::Orphan { reading: true })
    }
}

/// Where an upload ends in the WAL, and whether a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    from: u64,
    to: u64,
    whole: bool,
    /// Bytes in a frame.
    frame: u64,
}

impl Bounds {
    /// Nothing of the WAL.
    const NONE: Self = Self { from: 0, to: 0, whole: true, frame: 0 };

    /// It was cut at `to`: inside a transaction, if at all, only when no further frame fitted.
    fn cut(self, to: u64) -> Self {
        let frames = to.saturating_sub(self.from.max(HEADER_LEN as u64));
        let whole = if to == self.to { self.whole } else { frames + self.frame <= SEGMENT_BYTES };
        Self { to, whole, ..self }
    }
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

    pub(super) fn behind(&self, wal: &Wal) -> u64 {
        match self.cursor() {
            Some(c) if c.incarnation == wal.incarnation => wal.end().saturating_sub(c.offset),
            Some(_) | None => wal.end(),
        }
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
        let wait = dice.backoff(self.failures);
        self.retry_at = now + if self.stopping { wait.min(STOPPING_WAIT) } else { wait };
        self.error = Some(fault);
    }

    fn recover(&mut self) {
        self.failures = 0;
        self.retry_at = Duration::ZERO;
        self.error = None;
    }

    /// Hands out what this replica does next.
    pub(super) fn decide(&mut self, now: Duration, with: &mut Surroundings<'_>) {
        if self.retry_at > now {
            return;
        }
        let Some(wal) = with.wal else { return };
        match self.state {
            State::Unknown(let_go) => {
                self.state = State::Inspecting(let_go);
                with.out.push_back(Action::Inspect { replica: with.number });
            }
            State::Inspecting(_) => {}
            State::Broken(_) if self.segment != Flight::Idle || self.snapshot != Flight::Idle => {}
            State::Broken(_) if self.waits_for_handover(wal, with.policy) => {}
            State::Broken(reason) => {
                let generation = Generation::new(with.dice.roll());
                let (incarnation, index) = (wal.incarnation, WalIndex::ZERO);
                // Once it is handed over nothing of it is needed: the database file holds it all.
                let at = if wal.handed() { wal.end() } else { 0 };
                let cursor = Cursor { generation, index, incarnation, offset: at, base: at, whole: true };
                self.snapshot_index = None;
                self.state = State::Base(cursor, end_of(wal));
                with.out.push_back(Action::Began { replica: with.number, generation, reason });
                self.decide_base(now, with, wal);
            }
            State::Base(..) => self.decide_base(now, with, wal),
            State::Follow(_) => {
                self.decide_segment(now, with, wal, wal.end());
                self.decide_snapshot(now, with, wal);
                self.decide_chores(now, with);
            }
        }
    }

    fn decide_base(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal) {
        let State::Base(c, least) = self.state else { return };
        let acknowledged = if least.incarnation == wal.incarnation { least.offset } else { 0 };
        // The database file has to hold what is before the index, for which the pin has to move, for which the rest
        // of the WAL has to be small.
        let rest = if c.base > 0 { wal.end() } else { 0 };
        self.decide_segment(now, with, wal, wal.floor().max(acknowledged).max(rest));
        let State::Base(c, _) = self.state else { return };
        let far = WalPos { incarnation: c.incarnation, offset: c.offset } >= least && covers(&c, wal);
        if with.pin_free && self.segment == Flight::Idle && self.snapshot == Flight::Idle && far {
            self.start_snapshot(with, c);
        }
    }

    fn decide_segment(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal, live_end: u64) {
        if self.segment != Flight::Idle || !with.pin_free {
            return;
        }
        let following = matches!(self.state, State::Follow(_));
        let (State::Base(c, _) | State::Follow(c)) = &mut self.state else { return };
        let end = loop {
            if c.incarnation == wal.incarnation {
                break live_end;
            }
            let Some(&(_, end)) = with.closed.iter().find(|(n, _)| *n == c.incarnation) else {
                return self.break_off(Broken::WalRestarted);
            };
            if c.offset < end {
                break end;
            }
            // An index nothing was sent of stays: a reader misses one that is not there.
            let index = if c.base > 0 && c.offset == c.base { Some(c.index) } else { c.index.next() };
            let Some(index) = index else { return self.break_off(Broken::MaxIndex) };
            *c = Cursor { index, incarnation: c.incarnation + 1, offset: 0, base: 0, ..*c };
        };
        if c.offset >= end {
            return;
        }
        let live = c.incarnation == wal.incarnation;
        let backlog = end - c.offset > SEGMENT_BYTES;
        let paced = self.last_put.is_none_or(|t| now >= t + self.policy.sync_interval);
        if !(paced || backlog || with.stopping || !following || self.repeat.is_some() || !live) {
            return;
        }
        if c.named() >= with.policy.index_bytes && c.whole {
            let Some(index) = c.index.next() else { return self.break_off(Broken::MaxIndex) };
            *c = Cursor { index, base: c.offset, ..*c };
        }
        // Each index is a WAL of its own to a reader: a transaction cut between two would be none in either.
        if c.named() >= with.policy.index_bytes + with.policy.index_bytes / 15 {
            return self.break_off(Broken::TooLong);
        }
        let exact = self.repeat.is_some();
        let frame = wal.view.page_size.frame_len();
        let bounds = self.repeat.unwrap_or(Bounds { from: c.offset, to: end, whole: true, frame });
        let job = SegmentJob {
            generation: c.generation,
            index: c.index,
            incarnation: c.incarnation,
            from: c.offset,
            to: bounds.to,
            exact,
            base: c.base,
        };
        self.segment = Flight::Reading(bounds);
        self.last_put = Some(now);
        with.out.push_back(Action::Segment { replica: with.number, job });
    }

    fn decide_snapshot(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal) {
        let State::Follow(c) = self.state else { return };
        let timer = !self.policy.snapshot_interval.is_zero() && now >= self.snapshot_at;
        if timer {
            self.snapshot_at = now + self.policy.snapshot_interval;
            self.stale = true;
        }
        // A snapshot of an index that has one would replace it; without new WAL there is nothing to add.
        let fresh = self.snapshot_index.is_none_or(|s| c.index > s);
        if !self.stale || with.stopping || self.snapshot != Flight::Idle || !with.pin_free {
            return;
        }
        if !fresh {
            self.stale = c.offset > 0;
        } else if covers(&c, wal) {
            self.start_snapshot(with, c);
        }
    }

    fn start_snapshot(&mut self, with: &mut Surroundings<'_>, c: Cursor) {
        self.snapshot = Flight::Reading(Bounds::NONE);
        let (generation, index) = (c.generation, c.index);
        with.out.push_back(Action::Snapshot { replica: with.number, generation, index });
    }

    fn decide_chores(&mut self, now: Duration, with: &mut Surroundings<'_>) {
        let State::Follow(c) = self.state else { return };
        if self.chore.is_some() || with.stopping {
            return;
        }
        let replica = with.number;
        if !self.policy.retention.is_zero() && now >= self.retention_at {
            self.retention_at = now + self.policy.retention_check_interval.min(self.policy.retention);
            self.chore = Some(Chore::Retaining);
            with.out.push_back(Action::Retain { replica, generation: c.generation });
        } else if !self.policy.validation_interval.is_zero() && now >= self.validation_at {
            // The live image is read under the replica's own index: it must be the live WAL's, and not a split one.
            let comparable = c.base == 0 && with.wal.is_some_and(|w| w.incarnation == c.incarnation);
            let Some(pos) = self.acknowledged.filter(|_| comparable && with.pin_free) else { return };
            self.validation_at = now + self.policy.validation_interval;
            self.chore = Some(Chore::Validating);
            with.out.push_back(Action::Validate { replica, pos });
        }
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

/// Everything the database file may hold is replicated in this index, and everything before the index is in it.
///
/// A checkpoint leaves a page out that has a newer frame past the oldest reader's mark (`walCheckpoint` in wal.c), so
/// an index that begins inside the WAL has to reach as far as any checkpoint knew: the newer frame is among that.
fn covers(c: &Cursor, wal: &Wal) -> bool {
    let split = c.base == 0 || (wal.backfilled() >= c.base && c.offset >= wal.sifted());
    c.incarnation == wal.incarnation && c.offset >= wal.floor() && split
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
