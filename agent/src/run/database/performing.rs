//! Performs what the machine decides, each action as a task of its own, and takes in what became of it.

use std::time::Duration;

use super::Loop;
use super::attaching::Returned;
use crate::format::lineage::{At, Mark};
use crate::format::ltx::{PageEncoding, Txid};
use crate::plan::database::{Action, Event};
use crate::plan::handover::{Marks, Outcome};
use crate::plan::holds::{Past, Seen};
use crate::plan::ltx::replica::{Done, Work};
use crate::plan::opening::Format;
use crate::plan::position::Position;
use crate::plan::replica::{Fault, FaultKind};
use crate::run::clock::Clock;
use crate::run::flights::{Bytesource, Landed, Wing};
use crate::source::live::Round;

impl Loop {
    pub(super) fn perform(&mut self, now: Duration) {
        self.machine.handle(now, Event::Wall(Clock::wall()));
        while let Some(action) = self.machine.poll(now) {
            self.books.decided(now, &action);
            match action {
                Action::Inspect { replica } => match (self.wal.clone(), self.view) {
                    (Some(wal), Some(view)) => {
                        drop(tokio::spawn(self.wing(replica).inspect(self.formats[replica], wal, view)));
                    }
                    _ => self.machine.handle(now, Event::Inspected { replica, result: Err(detached()) }),
                },
                Action::Segment { replica, job } => match self.bytes(job.incarnation, job.from, job.to) {
                    Some(source) => {
                        drop(tokio::spawn(self.wing(replica).segment(job, source, self.trails[replica])));
                    }
                    None => self.machine.handle(now, Event::Segment { replica, result: Err(detached()) }),
                },
                Action::Snapshot { replica, generation, index, needs } => match self.kept.clone() {
                    Some(files) => {
                        drop(tokio::spawn(self.wing(replica).snapshot(files, generation, index, needs)));
                    }
                    None => self.machine.handle(now, Event::Snapshot { replica, result: Err(detached()) }),
                },
                Action::HandOver { mode, salt, from } => {
                    self.start_round(Round { mode, salt, from, limit: self.limits.tail_bytes });
                }
                Action::Forget { before } => self.tails.forget(before),
                Action::Retain { replica, generation } => {
                    let retention = self.config.replicas[replica].retention;
                    let descent = self.keeper.descent(&self.url(replica));
                    tokio::spawn(self.wing(replica).retain(generation, retention, descent));
                }
                Action::Validate { replica, pos } => match (self.wal.clone(), self.view, self.kept.clone()) {
                    (Some(wal), Some(view), Some(files)) => {
                        drop(tokio::spawn(self.wing(replica).validate(pos, files, wal, view)));
                    }
                    _ => self.machine.handle(now, Event::Validated { replica }),
                },
                Action::Ltx { replica, work } => self.work(now, replica, work),
                Action::LtxBegan { replica: number, txid, reason } => {
                    let held = self.keeper.copied(&self.url(number), Txid::new(txid.get() - 1));
                    let (db, replica) = (self.config.path.display(), &self.config.replicas[number].name);
                    if held {
                        tracing::warn!(%db, replica, "the LTX files there are on hold: not this database's past");
                    }
                    tracing::info!(%db, replica, %txid, %reason, "sync: full copy");
                    self.weigh(number);
                }
                Action::Began { replica: number, generation, reason } => {
                    self.keeper.began(&self.url(number), generation);
                    let (db, replica) = (self.config.path.display(), &self.config.replicas[number].name);
                    tracing::info!(%db, replica, %generation, %reason, "sync: new generation");
                    self.weigh(number);
                }
            }
        }
    }

    /// Work on a replica of LTX files.
    pub(super) fn work(&mut self, now: Duration, replica: usize, work: Work) {
        let wing = self.wing(replica);
        let encoding = match self.config.replicas[replica].ltx.page_encoding {
            holdfast_config::PageEncoding::Block => PageEncoding::Block,
            holdfast_config::PageEncoding::Frame => PageEncoding::Frame,
        };
        let done = match work {
            Work::Compact(compaction) => return drop(tokio::spawn(wing.compact(compaction, encoding))),
            Work::Delete(names) => return drop(tokio::spawn(wing.delete(names))),
            Work::Batch(job) => match (self.bytes(job.incarnation, job.from, job.to), self.kept.clone()) {
                (Some(source), Some(files)) => {
                    return drop(tokio::spawn(wing.batch(job, source, files, encoding)));
                }
                _ => Done::Batch(Err(detached())),
            },
            Work::Copy(job) => match (self.wal.clone(), self.kept.clone()) {
                (Some(wal), Some(files)) => {
                    return drop(tokio::spawn(wing.whole(job, wal, files, encoding)));
                }
                _ => Done::Copy(Err(detached())),
            },
        };
        self.machine.handle(now, Event::LtxDone { replica, done });
    }

    pub(super) fn start_round(&mut self, round: Round) {
        let Some(mut live) = self.live.take() else {
            // The attempt to take the write lock has it. The next look decides anew.
            let marks = Marks { salt: round.salt, frames: 0, backfilled: 0 };
            let outcome = Outcome::TooLarge(marks);
            return self.machine.handle(self.clock.now(), Event::HandOver { outcome });
        };
        self.away = true;
        self.books.round_begins(self.clock.now(), round.mode);
        let (back, tails) = (self.returned.0.clone(), self.tails.clone());
        tokio::task::spawn_blocking(move || {
            let result = live.round(&round, &tails);
            let _ = back.send(Box::new(Returned::Rounded(live, result)));
        });
    }

    pub(super) fn wing(&self, replica: usize) -> Wing {
        Wing {
            replica,
            store: self.stores[replica].clone(),
            gate: self.gates[replica].clone(),
            db: self.config.path.display().to_string(),
            name: self.config.replicas[replica].name.clone(),
            report: self.landed.0.clone(),
            unpinned: self.unpinned.clone(),
        }
    }

    /// Where a replica is, as the record of the database's past has it.
    pub(super) fn url(&self, replica: usize) -> String {
        self.stores[replica].to_string()
    }

    /// Once a replica is gone on with, whatever it holds is this database's past.
    fn note_lineage(&mut self, replica: usize) {
        let generation = match self.machine.position(replica) {
            Some(Position::Wal(pos)) => Some(pos.generation),
            Some(Position::Ltx(_)) => None,
            None => return,
        };
        self.keeper.resumed(&self.url(replica), generation, Clock::wall());
        self.weigh(replica);
    }

    /// Finds out what of a replica is on hold, now that it is known whether it is gone on with.
    fn weigh(&mut self, replica: usize) {
        let held = self.seen[replica].held(&self.keeper.descent(&self.url(replica)));
        self.holds[replica] = held.iter().map(Past::to_string).collect();
    }

    /// Notes that the database and these replicas are the same now: everything is acknowledged, nothing is on its way.
    pub(super) fn mark(&mut self) {
        let (Some(view), Some(wal)) = (self.view, &self.wal) else { return };
        let end = view.page_size.offset_of(view.marks.frames.into());
        let last = wal.frame_before(end, view.page_size.frame_len()).ok().flatten();
        let Some(last) = last.filter(|f| f.salt == view.marks.salt) else { return };
        let mark = |position| {
            let at = match position {
                Position::Wal(pos) => At::Wal(pos),
                Position::Ltx(txid) => At::Ltx(txid),
            };
            Mark { salt: view.marks.salt, end, checksum: last.checksum, at }
        };
        let marks = (0..self.stores.len()).map(|n| (self.url(n), self.machine.position(n).map(mark)));
        self.keeper.marked(marks.collect());
    }

    /// Where the bytes of a segment are: in memory once the WAL may have restarted, else in the WAL.
    pub(super) fn bytes(&self, incarnation: u64, from: u64, to: u64) -> Option<Bytesource> {
        if let Some(tail) = self.tails.get(incarnation).filter(|t| t.covers(from, to)) {
            return Some(Bytesource::Held(tail));
        }
        Some(Bytesource::Live { wal: self.wal.clone()?, salt: self.view?.marks.salt })
    }

    pub(super) fn take_in(&mut self, landed: Landed) {
        let now = self.clock.now();
        self.books.landed(now, Clock::wall(), &landed);
        match landed {
            Landed::Event(Event::Segment { replica, result: Err(fault) }) => {
                let (db, name) = (self.config.path.display(), &self.config.replicas[replica].name);
                tracing::warn!(%db, replica = name, error = fault.message, "write wal segment; trying again");
                self.machine.handle(now, Event::Segment { replica, result: Err(fault) });
            }
            Landed::Event(Event::Snapshot { replica, result: Err(fault) }) => {
                let (db, name) = (self.config.path.display(), &self.config.replicas[replica].name);
                tracing::warn!(%db, replica = name, error = fault.message, "write snapshot; trying again");
                self.machine.handle(now, Event::Snapshot { replica, result: Err(fault) });
            }
            Landed::Event(Event::Inspected { replica, result: Err(fault) }) => {
                let (db, name) = (self.config.path.display(), &self.config.replicas[replica].name);
                tracing::warn!(%db, replica = name, error = fault.message, "look at the replica; trying again");
                self.machine.handle(now, Event::Inspected { replica, result: Err(fault) });
            }
            Landed::Event(Event::LtxDone { replica, done }) => self.take_in_ltx(now, replica, done),
            Landed::Event(event) => {
                match &event {
                    Event::Inspected { replica, .. } => self.formats[*replica] = Some(Format::V03),
                    Event::LtxInspected { replica, result } => {
                        self.formats[*replica] = Some(Format::Ltx);
                        if let Ok(head) = result {
                            let first = head.files.iter().map(|file| file.name.max).min();
                            self.seen[*replica] = Seen::Ltx { first };
                        }
                    }
                    _ => {}
                }
                let shipped = match event {
                    Event::Segment { replica, .. } => Some(replica),
                    _ => None,
                };
                let looked = match event {
                    Event::Inspected { replica, .. }
                    | Event::LtxInspected { replica, .. }
                    | Event::Snapshot { replica, .. } => Some(replica),
                    _ => None,
                };
                self.machine.handle(now, event);
                if let Some(replica) = looked {
                    self.note_lineage(replica);
                }
                if let Some(replica) = shipped
                    && let Some(position) = self.machine.acknowledged(replica)
                {
                    let (db, name) = (self.config.path.display(), &self.config.replicas[replica].name);
                    tracing::info!(%db, replica = name, %position, "wal segment written");
                }
            }
            Landed::Shipped { replica, stored, trail } => {
                self.sent += stored;
                self.trails[replica] = Some(trail);
            }
            Landed::Sent { stored } => self.sent += stored,
            Landed::Listed { replica, seen } => {
                self.seen[replica] = seen;
                // Before it is gone on with nobody knows whose past that is.
                if self.machine.position(replica).is_some() {
                    self.weigh(replica);
                }
            }
            // For the books alone.
            Landed::Pruned { .. } | Landed::Drilled { .. } => {}
        }
    }

    pub(super) fn take_in_ltx(&mut self, now: Duration, replica: usize, done: Done) {
        let (db, name) = (self.config.path.display(), &self.config.replicas[replica].name);
        match &done {
            Done::Batch(Ok(shipped)) => {
                self.sent += shipped.file.size;
                tracing::info!(%db, replica = name, txid = %shipped.file.name.max, size = shipped.file.size, "ltx file written");
            }
            Done::Copy(Ok(shipped)) => self.sent += shipped.file.size,
            Done::Batch(Err(fault)) | Done::Copy(Err(fault)) => {
                tracing::warn!(%db, replica = name, error = fault.message, "write ltx file; trying again");
            }
            // Said where it was done.
            Done::Compact(_) | Done::Delete(..) => {}
        }
        self.machine.handle(now, Event::LtxDone { replica, done });
    }
}

/// The answer to an action that came too late: the database was let go in between.
fn detached() -> Fault {
    Fault { kind: FaultKind::Local, message: "the database is not attached".into() }
}
