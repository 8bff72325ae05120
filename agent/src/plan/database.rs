//! What to do next for one database and its replicas. Decisions only: events and the time in, actions out.
//!
//! The machine knows the WAL by [`View`]s the shell takes of it, and each replica by what it acknowledged. The shell
//! calls [`Database::handle`] with everything that happened, then performs every [`Action`] that [`Database::poll`]
//! hands out, and sleeps until [`Database::wake_at`], an event, or, while [`Database::wants_watch`], a commit.
//!
//! *Incarnations.* A WAL between two restarts has a local number. Each replica maps it to a [`WalIndex`] of its own
//! generation. A restart is continuous only if the pin allowed it: the last hand-over captured exactly the frames
//! the old incarnation ended with, or it had none. Everything else is [`Broken`] and starts a new generation.
//!
//! *Time* is a [`Duration`] since the agent started.

mod checkpoint;
mod wal;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::chance::Dice;
use super::follower::Follower;
use super::handover::{Marks, Mode, Outcome};
use super::ltx;
use super::position::Position;
use super::replica::{Broken, Fault, Head, Surroundings};
use crate::format::layout::{Generation, Pos, WalIndex};
use crate::format::ltx::Txid;
use crate::format::wal::{PageSize, Salt};
use checkpoint::{Checkpoint, Running};
use wal::Handed;
pub(super) use wal::Wal;

/// One look at the live WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub page_size: PageSize,
    pub marks: Marks,
    /// What the pin allows.
    pub pin: Pin,
}

/// Which read mark the pin holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// `READ_LOCK(0)`: nothing can be backfilled, and the WAL restarts at the next write if everything is.
    Zero,
    /// At most this many frames can be backfilled and the WAL cannot restart.
    Mark(u32),
}

/// A live WAL number and a place in it. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalPos {
    pub incarnation: u64,
    pub offset: u64,
}

/// The configured pace of one database. Page counts and bytes as `litestream.yml` has them.
#[derive(Debug, Clone)]
pub struct Policy {
    pub min_checkpoint_pages: u32,
    pub max_checkpoint_pages: u32,
    pub checkpoint_interval: Duration,
    /// Past this a replica that keeps failing is let go, and a sealed checkpoint is allowed.
    pub max_wal_bytes: u64,
    /// Bytes of closed incarnations that may be held in memory.
    pub tail_bytes: u64,
    /// A segment starts below this offset; at it, a new index begins in the middle of the WAL.
    pub index_bytes: u64,
}

/// The configured pace of one replica; zero switches an interval off.
#[derive(Debug, Clone)]
pub struct ReplicaPolicy {
    pub sync_interval: Duration,
    pub snapshot_interval: Duration,
    pub retention: Duration,
    pub retention_check_interval: Duration,
    pub validation_interval: Duration,
    /// The pace of one that holds LTX files.
    pub ltx: ltx::Policy,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    View(View),
    /// The pin is gone or the file at the path is another one: everything known about the WAL is void.
    SourceLost,
    /// Answer to [`Action::Inspect`]; `None` for a replica without a usable generation.
    Inspected {
        replica: usize,
        result: Result<Option<Head>, Fault>,
    },
    /// Answer to [`Action::Inspect`] for a replica that holds LTX files, or is to.
    LtxInspected {
        replica: usize,
        result: Result<ltx::replica::Head, Fault>,
    },
    /// Answer to [`Action::Ltx`].
    LtxDone {
        replica: usize,
        done: ltx::replica::Done,
    },
    /// The time of day, which the levels of LTX files follow.
    Wall(Timestamp),
    /// The segment's bytes are out of the WAL; it ends at `to`. The WAL may restart from here on.
    ///
    /// It holds whole transactions; only where one is larger than [`SEGMENT_BYTES`] it is cut after as many frames as
    /// fit, so that its length tells.
    ///
    /// [`SEGMENT_BYTES`]: super::replica::SEGMENT_BYTES
    Read {
        replica: usize,
        to: u64,
    },
    /// Answer to [`Action::Segment`].
    Segment {
        replica: usize,
        result: Result<(), Fault>,
    },
    /// The database file is read; the pin may move from here on.
    SnapshotRead {
        replica: usize,
    },
    /// Answer to [`Action::Snapshot`]: the index it was published under.
    Snapshot {
        replica: usize,
        result: Result<WalIndex, Fault>,
    },
    /// Answer to [`Action::HandOver`].
    HandOver {
        outcome: Outcome,
    },
    /// Answer to [`Action::Retain`]; `stale` when the newest snapshot is older than the retention.
    Retained {
        replica: usize,
        stale: bool,
    },
    /// Answer to [`Action::Validate`].
    Validated {
        replica: usize,
    },
    /// From now on send at once: the app is being stopped.
    Flush,
    /// Replicate everything there is and come to rest.
    Stop,
}

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Find the replica's newest generation and the end of its WAL.
    Inspect { replica: usize },
    /// Read, verify, encode and put one segment; report [`Event::Read`], then [`Event::Segment`].
    Segment { replica: usize, job: SegmentJob },
    /// Copy the database file; report [`Event::SnapshotRead`], then [`Event::Snapshot`].
    ///
    /// The copy may hold pages of the WAL `index` up to byte `needs` of it, and is whole only together with them.
    Snapshot { replica: usize, generation: Generation, index: WalIndex, needs: u64 },
    /// Run a round of [`super::handover`]; capture from `from` on if it is `Some`.
    HandOver { mode: Mode, salt: Salt, from: Option<WalPos> },
    /// Drop the captured bytes of incarnations before this one.
    Forget { before: u64 },
    /// List, let `plan::retain` choose, delete.
    Retain { replica: usize, generation: Generation },
    /// Restore to scratch up to the acknowledged position and compare.
    Validate { replica: usize, pos: Pos },
    /// Continuity is broken, for this reason, and a new generation begins.
    Began { replica: usize, generation: Generation, reason: Broken },
    /// Work on a replica of LTX files.
    Ltx { replica: usize, work: ltx::replica::Work },
    /// As [`Action::Began`], on a replica of LTX files: a full copy with this number follows.
    LtxBegan { replica: usize, txid: Txid, reason: Broken },
}

/// One segment to ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentJob {
    pub generation: Generation,
    pub index: WalIndex,
    pub incarnation: u64,
    /// First byte, in the WAL; 0 includes the header.
    pub from: u64,
    /// No byte at or past this is committed, or was part of the failed attempt this one repeats.
    pub to: u64,
    /// The attempt repeats another and must end exactly at `to`.
    pub exact: bool,
    /// Where this index begins in the WAL: 0, or the frame a split index starts with.
    pub base: u64,
}

/// The machine of one database.
#[derive(Debug)]
pub struct Database {
    policy: Policy,
    dice: Dice,
    now: Duration,
    wal: Option<Wal>,
    replicas: Vec<Follower>,
    /// Ended incarnations some replica has not acknowledged whole: number and end.
    closed: Vec<(u64, u64)>,
    /// Bytes held of each of them.
    held: Vec<u64>,
    next_incarnation: u64,
    checkpoint: Checkpoint,
    /// The end of the WAL at the first look after the stop.
    stop: Option<Option<WalPos>>,
    out: VecDeque<Action>,
}

impl Database {
    /// A database nobody has looked at yet.
    pub fn new(policy: Policy, replicas: Vec<ReplicaPolicy>, seed: u64) -> Self {
        Self {
            policy,
            dice: Dice::new(seed),
            now: Duration::ZERO,
            wal: None,
            replicas: replicas.into_iter().map(Follower::new).collect(),
            closed: Vec::new(),
            held: Vec::new(),
            next_incarnation: 0,
            checkpoint: Checkpoint::default(),
            stop: None,
            out: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Duration, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::View(view) => self.on_view(now, view),
            Event::SourceLost => self.on_source_lost(),
            Event::Inspected { replica, result } => {
                let wal = self.wal;
                self.replicas[replica].on_inspected(now, &mut self.dice, wal.as_ref(), result);
            }
            Event::LtxInspected { replica, result } => {
                let wal = self.wal;
                self.replicas[replica].on_ltx(now, &mut self.dice, wal.as_ref(), result);
            }
            Event::LtxDone { replica, done } => {
                self.replicas[replica].on_done(now, &mut self.dice, done);
                self.forget();
            }
            Event::Wall(wall) => self.replicas.iter_mut().for_each(|r| r.on_wall(now, wall)),
            Event::Read { replica, to } => self.replicas[replica].on_read(to),
            Event::Segment { replica, result } => {
                self.replicas[replica].on_segment(now, &mut self.dice, result);
                self.forget();
            }
            Event::SnapshotRead { replica } => self.replicas[replica].on_snapshot_read(),
            Event::Snapshot { replica, result } => {
                self.replicas[replica].on_snapshot(now, &mut self.dice, result);
            }
            Event::HandOver { outcome } => self.on_handover(now, outcome),
            Event::Retained { replica, stale } => self.replicas[replica].on_retained(stale),
            Event::Validated { replica } => self.replicas[replica].on_validated(),
            Event::Flush => self.replicas.iter_mut().for_each(Follower::on_flush),
            Event::Stop => {
                self.stop = self.stop.or(Some(None));
                self.replicas.iter_mut().for_each(Follower::on_stop);
            }
        }
    }

    /// The next thing to do, `None` when there is nothing until something happens.
    pub fn poll(&mut self, now: Duration) -> Option<Action> {
        self.now = self.now.max(now);
        if self.out.is_empty() {
            self.decide(now);
        }
        self.out.pop_front()
    }

    /// When to look at the WAL and poll again, if nothing happens before. May change after every call.
    pub fn wake_at(&self) -> Option<Duration> {
        // A time that has passed is being waited for by something else than time.
        let checkpoint = self.checkpoint_wake().filter(|t| *t > self.now);
        self.replicas.iter().filter_map(|r| r.wake_at(self.now)).chain(checkpoint).min()
    }

    /// A commit would be acted upon at once: the shell should listen for one.
    pub fn wants_watch(&self, now: Duration) -> bool {
        self.wal.is_none() || self.replicas.iter().any(|r| r.wants_commit(now, self.wal.as_ref()))
    }

    /// After [`Event::Stop`]: every replica holds a base and everything up to the first look after the stop.
    pub fn at_rest(&self) -> bool {
        match self.stop {
            Some(Some(target)) => self.replicas.iter().all(|r| r.holds(target)),
            Some(None) | None => false,
        }
    }

    /// The end of the live WAL in bytes.
    pub fn wal_end(&self) -> WalPos {
        self.wal.map_or(WalPos { incarnation: 0, offset: 0 }, |w| WalPos {
            incarnation: w.incarnation,
            offset: w.end(),
        })
    }

    /// What the replica has acknowledged, once its generation has a base.
    pub fn acknowledged(&self, replica: usize) -> Option<Pos> {
        match self.position(replica)? {
            Position::Wal(pos) => Some(pos),
            Position::Ltx(_) => None,
        }
    }

    /// As [`Database::acknowledged`], in the words of the replica's layout.
    pub fn position(&self, replica: usize) -> Option<Position> {
        self.replicas[replica].position()
    }

    /// Bytes committed and not acknowledged by this replica, over all incarnations.
    pub fn lag_bytes(&self, replica: usize) -> u64 {
        let Some(at) = self.replicas[replica].cursor() else {
            return self.wal.map_or(0, |w| w.end());
        };
        let closed: u64 = self.closed.iter().filter(|(n, _)| *n >= at.incarnation).map(|(_, end)| end).sum();
        (closed + self.wal.map_or(0, |w| w.end())).saturating_sub(at.offset)
    }

    /// The replica's error, while it lasts.
    pub fn error(&self, replica: usize) -> Option<&Fault> {
        self.replicas[replica].error()
    }

    fn on_view(&mut self, now: Duration, view: View) {
        self.wal = Some(match self.wal {
            None => self.open(now, view),
            Some(old) if old.view.marks.salt == view.marks.salt => {
                if view.marks.frames < old.view.marks.frames || view.page_size != old.view.page_size {
                    self.break_all(Broken::WalShrank);
                    self.open(now, view)
                } else {
                    let handed = old.handed.filter(|h| h.frames == view.marks.frames);
                    let since = if old.view.marks.frames == 0 { now } else { old.since };
                    let moved = if view.marks.frames == old.view.marks.frames { old.moved } else { now };
                    let mut wal = Wal { view, handed, since, moved, ..old };
                    if view.marks.backfilled > old.view.marks.backfilled {
                        wal.sifted = wal.end();
                    }
                    wal
                }
            }
            // An incarnation without a frame had nothing to lose: same number, other salt.
            Some(old) if old.view.marks.frames == 0 => {
                Wal { view, handed: None, since: now, moved: now, ..old }
            }
            Some(old) => match old.handed {
                Some(handed) if handed.frames == old.view.marks.frames => {
                    // Whoever began after the hand-over needs bytes that nobody holds.
                    for r in self.replicas.iter_mut().filter(|r| !handed.serves(r, &old)) {
                        r.break_off(Broken::WalRestarted);
                    }
                    self.closed.push((old.incarnation, old.end()));
                    self.held.push(handed.from.map_or(0, |from| old.end().saturating_sub(from)));
                    self.checkpoint.failures = 0;
                    let new = self.open(now, view);
                    self.forget();
                    new
                }
                Some(_) | None => {
                    self.break_all(Broken::WalRestarted);
                    self.open(now, view)
                }
            },
        });
        if let Some(None) = self.stop {
            self.stop = Some(Some(self.wal_end()));
        }
    }

    fn open(&mut self, now: Duration, view: View) -> Wal {
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let mut wal = Wal { incarnation, view, sifted: 0, handed: None, since: now, moved: now };
        wal.sifted = wal.end();
        wal
    }

    fn on_source_lost(&mut self) {
        self.break_all(Broken::DatabaseReplaced);
        self.wal = None;
        self.checkpoint.running = None;
    }

    fn break_all(&mut self, reason: Broken) {
        self.closed.clear();
        self.held.clear();
        // What was to be reached stood in a WAL that is void: whatever the next look shows has to be there.
        self.stop = self.stop.map(|_| None);
        for r in &mut self.replicas {
            r.break_off(reason);
        }
        self.out.push_back(Action::Forget { before: u64::MAX });
    }

    fn on_handover(&mut self, now: Duration, outcome: Outcome) {
        let Some(Running { mode, from, early }) = self.checkpoint.running.take() else { return };
        let Some(wal) = &mut self.wal else { return };
        match outcome {
            Outcome::HandedOver(marks) => {
                if marks.salt == wal.view.marks.salt {
                    wal.view.marks = marks;
                    wal.view.pin = Pin::Zero;
                    wal.sifted = wal.end();
                    wal.handed = Some(Handed { frames: marks.frames, from: from.map(|f| f.offset) });
                }
                self.checkpoint.failures = 0;
                self.checkpoint.not_before = now;
                self.checkpoint.last = now;
            }
            Outcome::NotYet(marks) | Outcome::TooLarge(marks) => {
                // The pin may have moved, at most to here; the next look says more.
                let known = marks.salt == wal.view.marks.salt;
                if known {
                    let before = match wal.view.pin {
                        Pin::Zero => 0,
                        Pin::Mark(mark) => mark,
                    };
                    wal.view.pin = Pin::Mark(marks.frames.max(before));
                }
                if !(known && mode == Mode::Repin && matches!(outcome, Outcome::NotYet(_))) {
                    self.checkpoint.failed = now;
                    // An attempt more than was due delays none that is.
                    if !early {
                        self.checkpoint.failures += 1;
                        self.checkpoint.not_before = now + self.dice.backoff(self.checkpoint.failures);
                    }
                }
            }
        }
    }

    fn decide(&mut self, now: Duration) {
        let pin_free = self.checkpoint.running.is_none();
        for (number, r) in self.replicas.iter_mut().enumerate() {
            let mut with = Surroundings {
                number,
                policy: &self.policy,
                dice: &mut self.dice,
                wal: self.wal.as_ref(),
                closed: &self.closed,
                stopping: self.stop.is_some(),
                pin_free,
                out: &mut self.out,
            };
            r.decide(now, &mut with);
        }
        self.forget();
        if let Some(wal) = &mut self.wal {
            let view = *wal;
            wal.handed = wal.handed.filter(|h| self.replicas.iter().all(|r| h.serves(r, &view)));
        }
        if let (true, Some(wal)) = (pin_free, self.wal) {
            self.decide_checkpoint(now, &wal);
        }
    }

    /// Closed incarnations everybody has acknowledged are over.
    fn forget(&mut self) {
        let oldest = self.replicas.iter().filter_map(Follower::cursor).map(|c| c.incarnation).min();
        let keep = oldest.unwrap_or(self.next_incarnation);
        let over = self.closed.iter().take_while(|(n, _)| *n < keep).count();
        if over > 0 {
            self.closed.drain(..over);
            self.held.drain(..over);
            self.out.push_back(Action::Forget { before: keep });
        }
    }
}

#[cfg(test)]
mod tests;
