//! What a replica does next: its part of the machine that hands out actions. Decisions only.

use std::time::Duration;

use super::flight::{Bounds, Flight};
use super::{Broken, Chore, Cursor, Replica, SEGMENT_BYTES, State, Surroundings, end_of};
use crate::format::layout::{Generation, Pos, WalIndex};
use crate::plan::database::{Action, SegmentJob, Wal, WalPos};

impl Replica {
    /// Hands out what this replica does next.
    pub(in crate::plan) fn decide(&mut self, now: Duration, with: &mut Surroundings<'_>) {
        if self.retry_at > now {
            return;
        }
        let Some(wal) = with.wal else { return };
        let busy = self.segment != Flight::Idle || self.snapshot != Flight::Idle;
        match self.state {
            // What is in flight may still arrive, behind a look's back.
            State::Unknown(_) | State::Broken(_) if busy => {}
            State::Unknown(let_go) => {
                self.state = State::Inspecting(let_go);
                with.out.push_back(Action::Inspect { replica: with.number });
            }
            State::Inspecting(_) => {}
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
        // Whatever the copy may hold is acknowledged: `covers`, and no checkpoint gets past the pin.
        let (generation, index, needs) = (c.generation, c.index, c.named());
        with.out.push_back(Action::Snapshot { replica: with.number, generation, index, needs });
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
            // The live image is read under the replica's own index: it must be the live WAL's, and not a split one. And
            // the database file must hold nothing newer than the position it is read at.
            let reaches = |w: &Wal| w.incarnation == c.incarnation && c.offset >= w.floor();
            let comparable = c.base == 0 && with.wal.is_some_and(reaches);
            // Nothing of a WAL that has just restarted is acknowledged yet.
            let here = |p: &Pos| (p.index, p.offset) == (c.index, c.offset);
            let Some(pos) = self.acknowledged.filter(|p| comparable && here(p) && with.pin_free) else {
                return;
            };
            self.validation_at = now + self.policy.validation_interval;
            self.chore = Some(Chore::Validating);
            with.out.push_back(Action::Validate { replica, pos });
        }
    }
}

/// Everything the database file may hold is replicated in this index, and everything before the index is in it.
///
/// A checkpoint leaves a page out that has a newer frame past the oldest reader's mark (`walCheckpoint` in wal.c), so
/// an index that begins inside the WAL has to reach as far as any checkpoint knew: the newer frame is among that.
fn covers(c: &Cursor, wal: &Wal) -> bool {
    let split = c.base == 0 || (wal.backfilled() >= c.base && c.offset >= wal.sifted());
    c.incarnation == wal.incarnation && c.offset >= wal.floor() && split
}
