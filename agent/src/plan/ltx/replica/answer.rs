//! What a replica of LTX files makes of the answers it gets: of a look, of uploads, of upkeep. Decisions only.

use std::time::Duration;

use super::{BatchJob, Cursor, Done, Flight, Head, Replica, Shipped, State, Trouble};
use crate::format::ltx::Level;
use crate::format::wal::HEADER_LEN;
use crate::plan::chance::Dice;
use crate::plan::database::{Wal, WalPos};
use crate::plan::ltx::upkeep::Upkeep;
use crate::plan::replica::{Broken, Fault, FaultKind};

impl Replica {
    pub(in crate::plan) fn on_inspected(
        &mut self,
        now: Duration,
        dice: &mut Dice,
        wal: Option<&Wal>,
        result: Result<Head, Fault>,
    ) {
        let State::Inspecting(let_go) = self.state else { return };
        let head = match result {
            Ok(head) => head,
            Err(fault) => {
                self.state = State::Unknown(let_go);
                return self.uploads.fail(now, dice, fault, self.most());
            }
        };
        self.uploads = Trouble::default();
        let Some(wal) = wal else {
            self.state = State::Unknown(let_go);
            return;
        };
        self.page_size = head.last.map(|last| last.page_size).or(self.page_size);
        let newest = head.files.iter().map(|f| f.created).max();
        self.stamp = head.last.map(|l| l.stamp).or(newest).unwrap_or(self.stamp).max(self.stamp);
        self.state = match prove(wal, &head) {
            Ok(cursor) => {
                self.acknowledged = head.files.highest();
                self.policy.foreign = false;
                State::Follow(cursor)
            }
            Err(reason) => State::Broken(let_go.unwrap_or(reason)),
        };
        self.upkeep = Some(Upkeep::new(self.policy.clone(), head.files));
    }

    pub(in crate::plan) fn on_read(&mut self, to: u64) {
        if let Flight::Reading(job) | Flight::Sending(job) = self.batch {
            self.batch = Flight::Sending(BatchJob { to, ..job });
        }
    }

    pub(in crate::plan) fn on_snapshot_read(&mut self) {
        if let Flight::Reading(job) = self.copy {
            self.copy = Flight::Sending(job);
        }
    }

    pub(in crate::plan) fn on_done(&mut self, now: Duration, dice: &mut Dice, done: Done) {
        match done {
            Done::Batch(result) => self.on_batch(now, dice, result),
            Done::Copy(result) => self.on_copy(now, dice, result),
            Done::Compact(Ok(file)) => {
                self.working = false;
                self.chores = Trouble::default();
                self.put(file);
            }
            Done::Delete(names, None) => {
                self.working = false;
                self.chores = Trouble::default();
                self.deleted(&names);
            }
            Done::Compact(Err(fault)) => {
                self.working = false;
                self.chores.fail_chore(now, dice, fault, self.most());
            }
            Done::Delete(names, Some(fault)) => {
                self.working = false;
                self.deleted(&names);
                self.chores.fail_chore(now, dice, fault, self.most());
            }
        }
    }

    fn on_batch(&mut self, now: Duration, dice: &mut Dice, result: Result<Shipped, Fault>) {
        let flight = std::mem::replace(&mut self.batch, Flight::Idle);
        let (job, read) = match flight {
            Flight::Idle => return,
            Flight::Reading(job) => (job, false),
            Flight::Sending(job) => (job, true),
        };
        match (result, &mut self.state) {
            (Ok(shipped), state) => {
                self.repeat = None;
                self.uploads = Trouble::default();
                if let State::Follow(c) = state {
                    c.at.offset = job.to;
                    c.commit = shipped.commit;
                    self.acknowledged = Some(job.txid);
                }
                self.put(shipped.file);
            }
            (Err(fault), State::Follow(_)) if fault.kind != FaultKind::Diverged => {
                // A repetition that was not even read still has to be repeated.
                self.repeat = if read { Some(BatchJob { exact: true, ..job }) } else { self.repeat };
                self.uploads.fail(now, dice, fault, self.most());
            }
            // Nobody knows what is there under this number.
            (Err(fault), state) => {
                let why = match (&*state, fault.kind) {
                    (State::Broken(reason), _) => Some(*reason),
                    (State::Unknown(why) | State::Inspecting(why), _) => *why,
                    (_, FaultKind::Diverged) => Some(Broken::Diverged),
                    (State::Base(_) | State::Follow(_), _) => None,
                };
                *state = State::Unknown(why);
                self.repeat = None;
                self.uploads.fail(now, dice, fault, self.most());
            }
        }
    }

    fn on_copy(&mut self, now: Duration, dice: &mut Dice, result: Result<Shipped, Fault>) {
        let flight = std::mem::replace(&mut self.copy, Flight::Idle);
        let (Flight::Reading(job) | Flight::Sending(job)) = flight else { return };
        if job.name.level == Level::SNAPSHOT {
            match result {
                Ok(shipped) => {
                    self.snapshots = Trouble::default();
                    self.put(shipped.file);
                }
                Err(fault) => self.snapshots.fail(now, dice, fault, self.most()),
            }
            return;
        }
        match (result, &self.state) {
            (Ok(shipped), state) => {
                self.uploads = Trouble::default();
                if let State::Base(at) = *state {
                    self.state = State::Follow(Cursor { at, commit: shipped.commit });
                    self.acknowledged = Some(job.name.max);
                }
                self.put(shipped.file);
            }
            (Err(fault), state) => {
                let why = match *state {
                    State::Broken(reason) => Some(reason),
                    State::Unknown(why) | State::Inspecting(why) => why,
                    State::Base(_) | State::Follow(_) => None,
                };
                self.state = State::Unknown(why);
                self.uploads.fail(now, dice, fault, self.most());
            }
        }
    }
}

/// Does the newest upload end exactly on a commit of the live WAL, and is it the replica's newest state?
fn prove(wal: &Wal, head: &Head) -> Result<Cursor, Broken> {
    let last = head.last.ok_or(Broken::NoGeneration)?;
    if head.files.highest() != Some(last.name.max) {
        return Err(Broken::NoWal);
    }
    let marks = &wal.view.marks;
    let start = HEADER_LEN as u64;
    let end = last.wal.offset.saturating_add(last.wal.size);
    // Every empty WAL looks the same, with salts of zero: between two of them anything may have been written.
    if marks.frames == 0 || last.wal.salt != marks.salt {
        return Err(Broken::HeaderMismatch);
    }
    if last.page_size != wal.view.page_size {
        return Err(Broken::Unaligned);
    }
    let at = |offset| WalPos { incarnation: wal.incarnation, offset };
    if last.wal.offset == start && last.wal.size == 0 {
        return Ok(Cursor { at: at(0), commit: last.commit });
    }
    let frames = wal.view.page_size.frames_at(end).ok_or(Broken::Unaligned)?;
    if frames > u64::from(marks.frames) {
        return Err(Broken::WalTruncated);
    }
    let commit = last.local.map_or(0, |f| f.commit);
    if !last.same || commit != last.commit {
        return Err(Broken::WalOverwritten);
    }
    Ok(Cursor { at: at(end), commit })
}
