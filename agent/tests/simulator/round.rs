//! The hand-over's steps in the simulator: each takes its time, and everybody acts in between.

use std::rc::Rc;

use holdfast::format::wal::{HEADER_LEN, Salt};
use holdfast::plan::database::{Event, Pin, WalPos};
use holdfast::plan::handover::{HandOver, Marks, Outcome, Seen, Slot, Step as Move};

use super::agent::{Agent, Step};
use super::mutant::Mutant;
use super::profile::MS;
use super::ship::Tail;
use super::sqlite::Mode;
use super::world::World;

/// A round in progress.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) machine: HandOver,
    pub(crate) from: Option<WalPos>,
    pub(crate) salt: Salt,
    pub(crate) doing: Doing,
    /// What each pin saw when it began.
    pub(crate) begun: [(Salt, Pin); 2],
    /// What a shell that does not look again goes by.
    pub(crate) first: Option<Marks>,
}

/// What a step of the round is in the middle of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doing {
    /// The next step, after this.
    Next(Seen),
    /// The transaction has begun, the marks are not looked at yet.
    Looking(Slot),
    Checkpointing(Slot),
    Capturing(u32),
}

impl World {
    /// One step of a hand-over.
    pub(crate) fn round(&mut self, a: &mut Agent) {
        let Some(mut round) = a.round.take() else { return };
        let db = &mut self.dbs[a.db];
        let conn = |slot: Slot| a.conns[slot as usize].expect("an attached agent has two connections");
        // Now and then the thread is not scheduled, or a read waits for the disk.
        let mut pause =
            if self.chance.permille(20) { self.chance.range(MS, 80 * MS) } else { self.chance.range(3, 400) };
        round.doing = match round.doing {
            Doing::Looking(slot) => {
                let mut marks =
                    Marks { salt: db.index.salt, frames: db.index.frames, backfilled: db.backfilled };
                round.begun[slot as usize] = pinned(marks);
                if self.mutant == Some(Mutant::StaleMarks) {
                    match round.first {
                        Some(first) if first.salt == marks.salt => {
                            marks = Marks { backfilled: first.frames, ..first };
                        }
                        _ => round.first = Some(marks),
                    }
                }
                Doing::Next(Seen::Marks(marks))
            }
            Doing::Checkpointing(slot) => match db.step_checkpoint(conn(slot), &mut self.chance) {
                None => round.doing,
                Some(_) => Doing::Next(Seen::Done),
            },
            Doing::Capturing(frames) => Doing::Next(self.capture(a, &round, frames)),
            Doing::Next(seen) => {
                let step = round.machine.next(seen);
                self.note(format_args!("round: {seen:?} -> {step:?}"));
                let db = &mut self.dbs[a.db];
                match step {
                    Move::Begin(slot) => {
                        // Somebody recovers the WAL, or changes a mark at this moment.
                        if self.chance.permille(4) || !db.begin(conn(slot)) {
                            self.cover("pin was refused");
                            Doing::Next(Seen::Busy)
                        } else {
                            Doing::Looking(slot)
                        }
                    }
                    Move::BeginWrite(slot) => {
                        if db.begin_write(conn(slot)) {
                            self.agent_locks = true;
                            Doing::Looking(slot)
                        } else {
                            db.end(conn(slot));
                            Doing::Next(Seen::Busy)
                        }
                    }
                    Move::End(slot) => {
                        db.end(conn(slot));
                        self.agent_locks = false;
                        Doing::Next(Seen::Done)
                    }
                    Move::Checkpoint(slot) => {
                        if db.begin_checkpoint(conn(slot), Mode::Passive) {
                            Doing::Checkpointing(slot)
                        } else {
                            self.cover("checkpoint was busy");
                            Doing::Next(Seen::Busy)
                        }
                    }
                    Move::Capture { frames } => Doing::Capturing(frames),
                    Move::Pause(time) => {
                        pause = time.as_micros() as u64;
                        Doing::Next(Seen::Done)
                    }
                    Move::Look => {
                        let marks =
                            Marks { salt: db.index.salt, frames: db.index.frames, backfilled: db.backfilled };
                        let stale = round.first.filter(|f| f.salt == marks.salt);
                        Doing::Next(Seen::Marks(stale.unwrap_or(marks)))
                    }
                    Move::Finish { pin, outcome } => {
                        a.pin = pin;
                        a.pinned = round.begun[pin as usize];
                        self.check_pin(a);
                        self.cover(match outcome {
                            Outcome::HandedOver(_) => "round ended: handed over",
                            Outcome::NotYet(_) => "round ended: not yet",
                            Outcome::TooLarge(_) => "round ended: too large",
                        });
                        let look = a.look_due || self.chance.permille(500);
                        self.agent_hears(a, Event::HandOver { outcome });
                        if look {
                            let delay = self.chance.range(1, MS);
                            self.soon(a, delay, Step::Look);
                        }
                        return;
                    }
                }
            }
        };
        a.round = Some(round);
        self.check_pin(a);
        self.soon(a, pause, Step::Round);
    }

    /// P6 begins here: somebody always holds the WAL.
    pub(crate) fn check_pin(&mut self, a: &Agent) {
        let held = a.conns.iter().flatten().any(|c| self.dbs[a.db].reading(*c).is_some());
        if !held {
            self.violated("P6", "nobody pins the WAL".into());
        }
    }

    pub(crate) fn capture(&mut self, a: &mut Agent, round: &Round, frames: u32) -> Seen {
        let Some(from) = round.from else { return Seen::Done };
        if self.mutant == Some(Mutant::NoCapture) {
            return Seen::Done;
        }
        let size = self.profile.page_size;
        let end = size.offset_of(frames.into());
        if end.saturating_sub(from.offset) > self.profile.policy.tail_bytes {
            self.cover("tail too large");
            return Seen::TooLarge;
        }
        let first =
            size.frames_at(from.offset.max(HEADER_LEN as u64)).expect("a cursor stands on a frame") as u32;
        let Some(list) = self.live(a.db, round.salt, first, frames) else {
            self.cover("captured too late");
            return Seen::Gone;
        };
        let tail = Tail { from: from.offset, salt: round.salt, frames: list };
        a.tails.insert(from.incarnation, Rc::new(tail));
        Seen::Done
    }
}

pub(crate) fn pinned(marks: Marks) -> (Salt, Pin) {
    (marks.salt, if marks.full() { Pin::Zero } else { Pin::Mark(marks.frames) })
}
