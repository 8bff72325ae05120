//! What a replica of LTX files does next. Decisions only.

use std::time::Duration;

use jiff::{Timestamp, Unit};

use super::{BatchJob, Chore, CopyJob, Cursor, Flight, Replica, State, Work};
use crate::format::ltx::{Level, Name, Txid};
use crate::plan::database::{Action, Wal, WalPos};
use crate::plan::replica::{Broken, SEGMENT_BYTES, Surroundings};

impl Replica {
    /// Hands out what this replica does next.
    pub(in crate::plan) fn decide(&mut self, now: Duration, with: &mut Surroundings<'_>) {
        let Some(wal) = with.wal else { return };
        let ready = self.uploads.retry_at <= now;
        match self.state {
            // What is in flight takes its number first, or not.
            State::Unknown(let_go) if ready && self.batch == Flight::Idle && self.copy == Flight::Idle => {
                self.state = State::Inspecting(let_go);
                with.out.push_back(Action::Inspect { replica: with.number });
            }
            State::Broken(reason) if ready && self.batch == Flight::Idle && self.copy == Flight::Idle => {
                self.decide_base(now, with, wal, reason);
            }
            State::Unknown(_) | State::Inspecting(_) | State::Broken(_) | State::Base(_) => {}
            State::Follow(_) => {
                // First: under a writer that never pauses there is always another batch.
                self.decide_snapshot(now, with, wal);
                if ready {
                    self.decide_batch(now, with, wal);
                }
                self.decide_chores(now, with);
            }
        }
    }

    fn decide_base(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal, reason: Broken) {
        let Some(upkeep) = &mut self.upkeep else { return };
        let highest = upkeep.files().highest();
        let next = highest.map_or(Some(Txid::ONE), Txid::next);
        // 2^64 batches of a millisecond each are half a billion years.
        let (true, Some(txid)) = (with.pin_free, next) else { return };
        // A round may have moved the pin past the last look: the database file may hold more than that look showed.
        if wal.end() < wal.floor() {
            return;
        }
        let page_size = wal.view.page_size;
        if self.page_size.replace(page_size).is_some_and(|before| before != page_size) {
            upkeep.outdate_snapshots();
        }
        if std::mem::take(&mut self.policy.foreign) {
            self.policy.hold = upkeep.files().highest();
            upkeep.hold(self.policy.hold);
        }
        let name = Name { level: Level::ZERO, min: txid, max: txid };
        let at = WalPos { incarnation: wal.incarnation, offset: wal.end() };
        self.state = State::Base(at);
        with.out.push_back(Action::LtxBegan { replica: with.number, txid, reason });
        self.start_copy(now, with, wal, name, at.offset);
    }

    fn decide_batch(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal) {
        if self.batch != Flight::Idle || !with.pin_free {
            return;
        }
        let State::Follow(Cursor { at, commit }) = &mut self.state else { return };
        let end = loop {
            if at.incarnation == wal.incarnation {
                break wal.end();
            }
            let Some(&(_, end)) = with.closed.iter().find(|(n, _)| *n == at.incarnation) else {
                return self.break_off(Broken::WalRestarted);
            };
            if at.offset < end {
                break end;
            }
            *at = WalPos { incarnation: at.incarnation + 1, offset: 0 };
        };
        let (at, before) = (*at, *commit);
        if at.offset >= end {
            return;
        }
        let live = at.incarnation == wal.incarnation;
        let backlog = end - at.offset > SEGMENT_BYTES;
        if !(self.paced(now) || backlog || with.stopping || self.repeat.is_some() || !live) {
            return;
        }
        let Some(txid) = self.acknowledged.and_then(Txid::next) else { return };
        let stamp = self.stamp(now);
        let job = self.repeat.unwrap_or(BatchJob {
            txid,
            incarnation: at.incarnation,
            from: at.offset,
            to: end,
            exact: false,
            before,
            stamp,
        });
        self.batch = Flight::Reading(job);
        self.last_put = Some(now);
        with.out.push_back(Action::Ltx { replica: with.number, work: Work::Batch(job) });
    }

    fn decide_snapshot(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal) {
        let State::Follow(Cursor { at, .. }) = self.state else { return };
        let (Some(upkeep), Some(txid)) = (&self.upkeep, self.acknowledged) else { return };
        let idle = self.copy == Flight::Idle && self.snapshots.retry_at <= now;
        // A batch on its way moves the state the number stands for.
        let settled = idle && self.batch == Flight::Idle && with.pin_free && !with.stopping;
        // The database file must hold nothing newer than the state that is copied.
        let covered = at.incarnation == wal.incarnation && at.offset >= wal.floor();
        if settled && covered && upkeep.wants_snapshot(self.wall(now), txid) {
            let name = Name { level: Level::SNAPSHOT, min: Txid::ONE, max: txid };
            self.start_copy(now, with, wal, name, at.offset);
        }
    }

    fn start_copy(&mut self, now: Duration, with: &mut Surroundings<'_>, wal: &Wal, name: Name, at: u64) {
        // Once it is handed over the next writer may restart the WAL, and the database file holds all of it.
        let in_wal = at > 0 && !(wal.handed() && at == wal.end());
        let (salt, page_size) = (wal.view.marks.salt, wal.view.page_size);
        let job = CopyJob { name, at, salt, page_size, in_wal, stamp: self.stamp(now) };
        self.copy = Flight::Reading(job);
        with.out.push_back(Action::Ltx { replica: with.number, work: Work::Copy(job) });
    }

    fn decide_chores(&mut self, now: Duration, with: &mut Surroundings<'_>) {
        let wall = self.wall(now);
        if self.working || with.stopping || self.chores.retry_at > now {
            return;
        }
        let Some(chore) = self.upkeep.as_mut().and_then(|u| u.next(wall)) else { return };
        self.working = true;
        let work = match chore {
            Chore::Compact(compaction) => Work::Compact(compaction),
            Chore::Delete(names) => Work::Delete(names),
        };
        with.out.push_back(Action::Ltx { replica: with.number, work });
    }

    /// The time of day.
    fn wall(&self, now: Duration) -> Timestamp {
        let (at, wall) = self.wall;
        wall.checked_add(now.saturating_sub(at)).unwrap_or(wall)
    }

    /// The time of a file that begins now: to the millisecond, as its header has it, and not before any other's.
    fn stamp(&mut self, now: Duration) -> Timestamp {
        let wall = self.wall(now).round(Unit::Millisecond).unwrap_or(Timestamp::UNIX_EPOCH);
        self.stamp = self.stamp.max(wall);
        self.stamp
    }
}
