//! The checkpoint protocol: how the pin moves, and when the WAL may restart behind us. Decisions only.
//!
//! Two connections, [`Slot::A`] and [`Slot::B`], take turns at holding the read transaction that pins the WAL. A
//! round moves the pin to the newest mark, backfills, and begins the other pin, which lands on `READ_LOCK(0)` iff
//! every frame is in the database file. Only then, and only after everything up to there is captured, is the older
//! pin dropped: the next writer restarts the WAL. No write lock is taken and no frame can be lost.
//!
//! ```text
//! Begin(new) ─▶ [full? Capture] ─▶ End(old) ─▶ Checkpoint(old's connection) ─▶ Begin(old) ─▶ full? Capture ─▶ End(new) ─▶ Look
//!                                                                                └─ not full: End(new), again while tries last
//! sealed: BeginWrite(new) ─▶ Capture ─▶ End(old) ─▶ Checkpoint ─▶ Begin(old) ─▶ End(new)
//! ```
//!
//! The one rule all of it serves: *before a pin is dropped while the remaining one may be on `READ_LOCK(0)`, every
//! frame up to there is captured*. `frames == backfilled`, seen after a pin began, is that "may be": SQLite gives
//! `READ_LOCK(0)` exactly when they are equal (`walTryBeginRead` in wal.c), and a commit that makes them differ
//! afterwards also makes a restart impossible, because nothing can be backfilled past a `READ_LOCK(0)` reader.

use std::time::Duration;

use crate::format::wal::Salt;

/// One of the two pin connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What the WAL index says: one consistent read of its header and checkpoint counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub salt: Salt,
    /// Committed frames in this incarnation.
    pub frames: u32,
    /// How many of them are in the database file.
    pub backfilled: u32,
}

impl Marks {
    /// Everything is backfilled: a pin begun now lands on `READ_LOCK(0)`.
    pub fn full(&self) -> bool {
        self.frames == self.backfilled
    }
}

/// How far a round may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only move the pin to the newest mark: takes it off `READ_LOCK(0)`, where it would block every backfill.
    Repin,
    /// Hand-over without a lock, at most `tries` times.
    Gentle { tries: u32 },
    /// Under `BEGIN IMMEDIATE`: certain, but the app's writers wait.
    Sealed,
}

/// What the shell does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Begin a read transaction on this connection, then answer [`Seen::Marks`].
    Begin(Slot),
    /// Begin a write transaction on this connection; answer [`Seen::Marks`] or [`Seen::Busy`].
    BeginWrite(Slot),
    /// End this connection's transaction.
    End(Slot),
    /// `PRAGMA wal_checkpoint(PASSIVE)` on this connection, which holds no transaction.
    Checkpoint(Slot),
    /// Hold every frame up to `frames` in memory, for those who have not acknowledged them.
    Capture { frames: u32 },
    /// Wait, then answer [`Seen::Done`].
    Pause(Duration),
    /// Look at the marks again.
    Look,
    /// The round is over and `pin` holds the WAL.
    Finish { pin: Slot, outcome: Outcome },
}

/// What the shell saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Marks(Marks),
    Done,
    /// The checkpoint or the write lock was taken by somebody else, or a read transaction did not begin.
    Busy,
    /// The tail is larger than may be held.
    TooLarge,
    /// The frames to capture are not there any more: on `READ_LOCK(0)` the WAL has restarted. Whoever captures
    /// verifies salt and running checksum up to the last frame, and answers this rather than hold other bytes.
    Gone,
}

/// How a round ended. The pin holds in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every frame is backfilled and captured: the next writer may restart the WAL.
    HandedOver(Marks),
    /// Commits kept coming, or a reader holds an older mark.
    NotYet(Marks),
    /// Somebody is too far behind to let the WAL go.
    TooLarge(Marks),
}

/// A round in progress.
#[derive(Debug)]
pub struct HandOver {
    mode: Mode,
    /// The connection whose pin the round began with; swapped as the pin moves.
    old: Slot,
    tries: u32,
    busy: u32,
    /// The incarnation the round is about; in any other it must not touch the pin.
    salt: Salt,
    marks: Option<Marks>,
    /// What was captured last: the WAL may restart behind exactly this.
    captured: Option<Marks>,
    at: At,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Start,
    Beginning,
    CapturingFirst,
    EndingOld,
    /// The new pin landed on a full WAL and everything is captured: dropping the old one is the hand-over.
    EndingOldFull,
    Checkpointing,
    Pausing,
    BeginningAgain,
    PausingAgain,
    CapturingLast,
    EndingNewFull,
    EndingNewRetry,
    Looking,
    /// The newer pin is dropped and the older stays.
    GivingUp(Slot, fn(Marks) -> Outcome),
    Finished(Slot, Outcome),
}

impl HandOver {
    /// A round that starts while `pin` holds the incarnation `salt`.
    pub fn new(pin: Slot, salt: Salt, mode: Mode) -> Self {
        let tries = match mode {
            Mode::Gentle { tries } => tries,
            Mode::Repin | Mode::Sealed => 1,
        };
        Self { mode, old: pin, tries, busy: BUSY_TRIES, salt, marks: None, captured: None, at: At::Start }
    }

    /// The next step, given what the last one showed (`Seen::Done` for the first call).
    pub fn next(&mut self, seen: Seen) -> Step {
        if let Seen::Marks(m) = seen {
            self.marks = Some(m);
        }
        let (old, new) = (self.old, self.old.other());
        match (self.at, seen) {
            (At::Start, _) => self.begin(),
            (At::Beginning, Seen::Busy) => self.busy_writer(),
            // The WAL restarted since it was last looked at: whoever asked for this round decided on old news.
            (At::Beginning, _) if self.marks.is_some_and(|m| m.salt != self.salt) => {
                self.go(At::GivingUp(old, Outcome::NotYet), Step::End(new))
            }
            (At::Beginning, _) => match (self.mode, self.full()) {
                (Mode::Sealed, _) | (_, true) => self.capture(At::CapturingFirst),
                (_, false) => self.go(At::EndingOld, Step::End(old)),
            },
            (At::CapturingFirst, Seen::TooLarge) => {
                self.go(At::GivingUp(old, Outcome::TooLarge), Step::End(new))
            }
            (At::CapturingFirst, Seen::Gone) => self.go(At::GivingUp(old, Outcome::NotYet), Step::End(new)),
            (At::CapturingFirst, _) => match self.mode {
                // The new connection holds the write lock: it must not be the one that stays.
                Mode::Sealed => self.go(At::EndingOld, Step::End(old)),
                Mode::Repin | Mode::Gentle { .. } => self.go(At::EndingOldFull, Step::End(old)),
            },
            (At::EndingOldFull, _) => {
                self.old = new;
                self.look()
            }
            (At::EndingOld, _) if self.mode == Mode::Repin => self.finish(new, Outcome::NotYet),
            (At::EndingOld | At::Pausing, _) => self.go(At::Checkpointing, Step::Checkpoint(old)),
            // The app's own checkpoint holds the lock at the same threshold; its backfill serves as well.
            (At::Checkpointing, Seen::Busy) if self.busy > 0 => {
                self.busy -= 1;
                self.go(At::Pausing, Step::Pause(BUSY_PAUSE))
            }
            (At::Checkpointing | At::PausingAgain, _) => self.go(At::BeginningAgain, Step::Begin(old)),
            // Nothing but the newer pin holds the WAL. In a sealed round it must not stay, so there is only to wait.
            (At::BeginningAgain, Seen::Busy) if self.busy > 0 || self.mode == Mode::Sealed => {
                self.busy = self.busy.saturating_sub(1);
                self.go(At::PausingAgain, Step::Pause(BUSY_PAUSE))
            }
            (At::BeginningAgain, Seen::Busy) => self.finish(new, Outcome::NotYet),
            (At::BeginningAgain, _) if self.full() => self.capture(At::CapturingLast),
            (At::BeginningAgain, _) => self.go(At::EndingNewRetry, Step::End(new)),
            (At::CapturingLast, Seen::TooLarge) => {
                self.go(At::GivingUp(new, Outcome::TooLarge), Step::End(old))
            }
            (At::CapturingLast, Seen::Gone) => self.go(At::GivingUp(new, Outcome::NotYet), Step::End(old)),
            (At::CapturingLast, _) => self.go(At::EndingNewFull, Step::End(new)),
            (At::EndingNewFull, _) => self.look(),
            (At::EndingNewRetry, _) => self.again(Outcome::NotYet),
            (At::Looking, _) => self.judge(),
            (At::GivingUp(pin, outcome), _) => self.finish(pin, outcome),
            (At::Finished(pin, outcome), _) => Step::Finish { pin, outcome },
        }
    }

    fn begin(&mut self) -> Step {
        let new = self.old.other();
        match self.mode {
            Mode::Sealed => self.go(At::Beginning, Step::BeginWrite(new)),
            Mode::Repin | Mode::Gentle { .. } => self.go(At::Beginning, Step::Begin(new)),
        }
    }

    fn busy_writer(&mut self) -> Step {
        if self.busy == 0 {
            return self.finish(self.old, Outcome::NotYet);
        }
        self.busy -= 1;
        self.go(At::Start, Step::Pause(BUSY_PAUSE))
    }

    fn capture(&mut self, at: At) -> Step {
        self.captured = self.marks;
        let frames = self.marks.map_or(0, |m| m.frames);
        self.go(at, Step::Capture { frames })
    }

    fn look(&mut self) -> Step {
        self.go(At::Looking, Step::Look)
    }

    /// A commit between the last begin and the drop keeps the WAL where it is: nothing is lost, nothing is won.
    /// Other salts mean that the next writer has restarted it already.
    fn judge(&mut self) -> Step {
        let (Some(captured), Some(now)) = (self.captured, self.marks) else {
            return self.again(Outcome::NotYet);
        };
        if now.salt == captured.salt && now.frames != captured.frames {
            return self.again(Outcome::NotYet);
        }
        self.marks = Some(captured);
        self.finish(self.old, Outcome::HandedOver)
    }

    fn again(&mut self, otherwise: fn(Marks) -> Outcome) -> Step {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 || self.mode == Mode::Repin {
            self.finish(self.old, otherwise)
        } else {
            self.begin()
        }
    }

    fn finish(&mut self, pin: Slot, outcome: fn(Marks) -> Outcome) -> Step {
        let none = Marks { salt: Salt([0; 8]), frames: 0, backfilled: 0 };
        let outcome = outcome(self.marks.unwrap_or(none));
        self.go(At::Finished(pin, outcome), Step::Finish { pin, outcome })
    }

    fn full(&self) -> bool {
        self.marks.is_some_and(|m| m.full())
    }

    fn go(&mut self, at: At, step: Step) -> Step {
        self.at = at;
        step
    }
}

/// A busy checkpoint lock is retried this often, this far apart (ARCHITECTURE §3.2: the app's own checkpoint).
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt([1; 8]);

    fn marks(frames: u32, backfilled: u32) -> Seen {
        Seen::Marks(Marks { salt: SALT, frames, backfilled })
    }

    /// Feeds `seen` and returns every step up to and with the last.
    fn steps(round: &mut HandOver, seen: &[Seen]) -> Vec<Step> {
        seen.iter().map(|s| round.next(*s)).collect()
    }

    #[test]
    fn a_round_without_writers_moves_the_pin_backfills_captures_and_lets_go() {
        let mut round = HandOver::new(Slot::A, SALT, Mode::Gentle { tries: 1 });
        let done = Seen::Done;
        let seen = [done, marks(9, 0), done, done, marks(9, 9), done, done, marks(9, 9)];
        assert_eq!(
            steps(&mut round, &seen),
            [
                Step::Begin(Slot::B),
                Step::End(Slot::A),
                Step::Checkpoint(Slot::A),
                Step::Begin(Slot::A),
                Step::Capture { frames: 9 },
                Step::End(Slot::B),
                Step::Look,
                Step::Finish {
                    pin: Slot::A,
                    outcome: Outcome::HandedOver(Marks { salt: SALT, frames: 9, backfilled: 9 })
                },
            ]
        );
    }

    #[test]
    fn a_pin_that_cannot_begin_leaves_the_newer_one_in_place() {
        let mut round = HandOver::new(Slot::A, SALT, Mode::Gentle { tries: 3 });
        let mut seen = vec![Seen::Done, marks(9, 0), Seen::Done, Seen::Done];
        for _ in 0..BUSY_TRIES {
            seen.extend([Seen::Busy, Seen::Done]);
        }
        seen.push(Seen::Busy);
        let steps = steps(&mut round, &seen);
        assert!(!steps.contains(&Step::End(Slot::B)), "B alone holds the WAL");
        assert!(matches!(steps.last(), Some(Step::Finish { pin: Slot::B, outcome: Outcome::NotYet(_) })));
    }

    #[test]
    fn a_tail_that_is_gone_is_never_handed_over() {
        let mut round = HandOver::new(Slot::A, SALT, Mode::Repin);
        let steps = steps(&mut round, &[Seen::Done, marks(9, 9), Seen::Gone, Seen::Done]);
        assert_eq!(steps[..3], [Step::Begin(Slot::B), Step::Capture { frames: 9 }, Step::End(Slot::B)]);
        assert!(matches!(steps[3], Step::Finish { pin: Slot::A, outcome: Outcome::NotYet(_) }));
    }
}
