//! What the loop of one database keeps account of, from what was decided and what became of it. Values only; the time is
//! an argument.

use std::time::Duration;

use jiff::Timestamp;

use super::flights::Landed;
use super::report::{ReplicaWork, SourceWork, Upload, kind_number};
use crate::plan::backlog::Backlog;
use crate::plan::database::{Action, Event, WalPos};
use crate::plan::handover::Mode;
use crate::plan::ltx::replica::{Done, Work};
use crate::plan::replica::{Broken, Fault};

/// Of one database and its replicas.
#[derive(Debug)]
pub(super) struct Books {
    backlog: Backlog,
    /// The end of the WAL at the last look.
    seen: Option<WalPos>,
    source: SourceWork,
    round: Option<(Mode, Duration)>,
    replicas: Vec<Account>,
}

/// Of one replica.
#[derive(Debug, Default)]
struct Account {
    work: ReplicaWork,
    /// When the upload of each [`Upload`] was decided on; one of each is under way at a time.
    begun: [Option<Duration>; Upload::ALL.len()],
    /// The part of the WAL that is on its way.
    flying: (u64, u64),
    /// Since when it has had no base, while the database is attached.
    bare_since: Option<Duration>,
}

impl Books {
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            backlog: Backlog::default(),
            seen: None,
            source: SourceWork::default(),
            round: None,
            replicas: (0..replicas).map(|_| Account::default()).collect(),
        }
    }

    pub(super) fn source(&self) -> &SourceWork {
        &self.source
    }

    pub(super) fn replica(&self, replica: usize) -> &ReplicaWork {
        &self.replicas[replica].work
    }

    /// A look showed the end of the WAL here.
    pub(super) fn looked(&mut self, now: Duration, end: WalPos) {
        let grown = match self.seen {
            Some(old) if old.incarnation == end.incarnation => end.offset.saturating_sub(old.offset),
            Some(_) | None => end.offset,
        };
        // What stood there when we came was committed under somebody else's eyes.
        if self.seen.is_some() {
            self.source.committed += grown;
        }
        self.backlog.commit(now, grown);
        self.seen = Some(end);
    }

    /// The pin was lost.
    pub(super) fn lost(&mut self) {
        self.source.pins_lost += 1;
        (self.seen, self.round) = (None, None);
    }

    /// A round begins.
    pub(super) fn round_begins(&mut self, now: Duration, mode: Mode) {
        self.round = Some((mode, now));
    }

    /// The round is over.
    pub(super) fn round_ended(&mut self, now: Duration, done: bool) {
        match self.round.take() {
            // Moving the pin alone is no checkpoint.
            Some((Mode::Repin, _)) | None => {}
            Some((Mode::Gentle { .. } | Mode::Sealed, since)) => {
                self.source.checkpoints.count(done, now.saturating_sub(since));
            }
        }
    }

    /// Since when the replica has been lacking the last `lag` bytes of the WAL; `bare` if it lacks a base.
    pub(super) fn behind_since(
        &mut self,
        now: Duration,
        replica: usize,
        lag: u64,
        bare: bool,
    ) -> Option<Duration> {
        let account = &mut self.replicas[replica];
        account.bare_since = if bare { account.bare_since.or(Some(now)) } else { None };
        let commit = self.backlog.since(lag);
        commit.into_iter().chain(account.bare_since).min()
    }

    /// No replica lacks more than the last `lag` bytes.
    pub(super) fn forget(&mut self, lag: u64) {
        self.backlog.forget(lag);
    }

    /// This was decided.
    pub(super) fn decided(&mut self, now: Duration, action: &Action) {
        match action {
            Action::Segment { replica, job } => {
                self.begin(now, *replica, Upload::Wal);
                self.replicas[*replica].flying = (job.from, job.to);
            }
            Action::Snapshot { replica, .. } => self.begin(now, *replica, Upload::Base),
            Action::Ltx { replica, work } => match work {
                Work::Batch(job) => {
                    self.begin(now, *replica, Upload::Wal);
                    self.replicas[*replica].flying = (job.from, job.to);
                }
                Work::Copy(_) => self.begin(now, *replica, Upload::Base),
                Work::Compact(_) => self.begin(now, *replica, Upload::Merge),
                Work::Delete(_) => {}
            },
            Action::Began { replica, reason, .. } | Action::LtxBegan { replica, reason, .. } => {
                let work = &mut self.replicas[*replica].work;
                work.begun += 1;
                work.let_go += u64::from(*reason == Broken::FellBehind);
            }
            Action::Inspect { .. }
            | Action::HandOver { .. }
            | Action::Forget { .. }
            | Action::Retain { .. }
            | Action::Validate { .. } => {}
        }
    }

    /// This came back; `wall` is the time of day.
    pub(super) fn landed(&mut self, now: Duration, wall: Timestamp, landed: &Landed) {
        match landed {
            Landed::Event(event) => self.happened(now, wall, event),
            Landed::Pruned { replica, deleted, failed } => {
                let work = &mut self.replicas[*replica].work;
                work.deleted += deleted;
                work.deletions_failed += failed;
            }
            Landed::Drilled { replica, equal } => {
                self.replicas[*replica].work.drills[usize::from(!equal)] += 1;
            }
            Landed::Shipped { .. } | Landed::Sent { .. } | Landed::Listed { .. } => {}
        }
    }

    fn happened(&mut self, now: Duration, wall: Timestamp, event: &Event) {
        match event {
            Event::Read { replica, to } => self.replicas[*replica].flying.1 = *to,
            Event::Segment { replica, result } => {
                self.end(now, wall, *replica, Upload::Wal, result.as_ref().err());
            }
            Event::Snapshot { replica, result } => {
                self.end(now, wall, *replica, Upload::Base, result.as_ref().err());
            }
            Event::LtxDone { replica, done } => match done {
                Done::Batch(result) => self.end(now, wall, *replica, Upload::Wal, result.as_ref().err()),
                Done::Copy(result) => self.end(now, wall, *replica, Upload::Base, result.as_ref().err()),
                Done::Compact(result) => self.end(now, wall, *replica, Upload::Merge, result.as_ref().err()),
                Done::Delete(gone, failed) => {
                    let work = &mut self.replicas[*replica].work;
                    work.deleted += gone.len() as u64;
                    work.deletions_failed += u64::from(failed.is_some());
                    self.fault(*replica, failed.as_ref());
                }
            },
            Event::Inspected { replica, result } => self.fault(*replica, result.as_ref().err()),
            Event::LtxInspected { replica, result } => self.fault(*replica, result.as_ref().err()),
            Event::View(_)
            | Event::SourceLost
            | Event::Wall(_)
            | Event::SnapshotRead { .. }
            | Event::HandOver { .. }
            | Event::Retained { .. }
            | Event::Validated { .. }
            | Event::Flush
            | Event::Stop => {}
        }
    }

    fn begin(&mut self, now: Duration, replica: usize, upload: Upload) {
        self.replicas[replica].begun[upload as usize] = Some(now);
    }

    fn end(&mut self, now: Duration, wall: Timestamp, replica: usize, upload: Upload, fault: Option<&Fault>) {
        let account = &mut self.replicas[replica];
        let began = account.begun[upload as usize].take().unwrap_or(now);
        account.work.uploads[upload as usize].count(fault.is_none(), now.saturating_sub(began));
        if fault.is_none() {
            account.work.acknowledged = Some(wall);
            if upload == Upload::Wal {
                account.work.wal_bytes += account.flying.1.saturating_sub(account.flying.0);
            }
        }
        self.fault(replica, fault);
    }

    fn fault(&mut self, replica: usize, fault: Option<&Fault>) {
        if let Some(fault) = fault {
            self.replicas[replica].work.faults[kind_number(fault.kind)] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::replica::FaultKind;
    use crate::run::report::Tally;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn end(incarnation: u64, offset: u64) -> WalPos {
        WalPos { incarnation, offset }
    }

    #[test]
    fn what_is_committed_counts_over_restarts_of_the_wal_and_not_before_we_came() {
        let mut books = Books::new(1);
        books.looked(secs(1), end(0, 1000));
        assert_eq!(books.source().committed, 0);
        assert_eq!(books.behind_since(secs(2), 0, 1000, false), Some(secs(1)), "somebody may lack it");
        books.looked(secs(3), end(0, 1500));
        books.looked(secs(4), end(1, 200));
        assert_eq!(books.source().committed, 700);
        assert_eq!(books.behind_since(secs(5), 0, 200, false), Some(secs(4)));
        assert_eq!(books.behind_since(secs(5), 0, 0, false), None);
    }

    #[test]
    fn a_replica_without_a_base_is_behind_however_little_was_committed() {
        let mut books = Books::new(2);
        assert_eq!(books.behind_since(secs(7), 0, 0, true), Some(secs(7)));
        assert_eq!(books.behind_since(secs(9), 0, 0, true), Some(secs(7)));
        assert_eq!(books.behind_since(secs(9), 1, 0, false), None);
        assert_eq!(books.behind_since(secs(10), 0, 0, false), None);
    }

    #[test]
    fn uploads_are_counted_by_what_became_of_them() {
        let mut books = Books::new(1);
        let snapshot = Action::Snapshot {
            replica: 0,
            generation: crate::format::layout::Generation::new(7),
            index: crate::format::layout::WalIndex::ZERO,
            needs: 0,
        };
        let fault = |kind| Fault { kind, message: String::new() };
        for (result, at) in [
            (Err(fault(FaultKind::Throttled(None))), 3),
            (Err(fault(FaultKind::Local)), 5),
            (Ok(crate::format::layout::WalIndex::ZERO), 8),
        ] {
            books.decided(secs(2), &snapshot);
            let event = Landed::Event(Event::Snapshot { replica: 0, result });
            books.landed(secs(at), Timestamp::UNIX_EPOCH, &event);
        }
        let work = books.replica(0);
        assert_eq!(work.uploads[Upload::Base as usize], Tally { done: 1, failed: 2, took: secs(6) });
        assert_eq!((work.faults, work.acknowledged), ([0, 1, 0, 0, 1], Some(Timestamp::UNIX_EPOCH)));
    }

    #[test]
    fn a_round_that_only_moves_the_pin_is_no_checkpoint() {
        let mut books = Books::new(0);
        for (mode, done) in [(Mode::Repin, true), (Mode::Gentle { tries: 1 }, true), (Mode::Sealed, false)] {
            books.round_begins(secs(1), mode);
            books.round_ended(secs(3), done);
        }
        assert_eq!(books.source().checkpoints, Tally { done: 1, failed: 1, took: secs(2) });
    }
}
