//! The loop of one database: looks when something may have happened, performs what `plan` decides, reports.
//!
//! Everything slow runs as a task of its own and reports through one channel: attaching, rounds and reading on
//! blocking threads, requests as [`Wing`] flights. The loop itself never waits for any of them, so a replica that
//! hangs delays neither the others nor the next look.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_config::Database as Configured;
use tokio::sync::{Notify, mpsc, watch};

use super::attach::Attempts;
use super::clock::Clock;
use super::flights::{Bytesource, Landed, Wing};
use super::limits::Limits;
use super::report::{Report, Standing};
use super::segment::Trail;
use super::survey::asked;
use crate::format::ltx::PageEncoding;
use crate::plan::chance::Dice;
use crate::plan::database::{Action, Database as Machine, Event, Policy, ReplicaPolicy, View};
use crate::plan::handover::{Marks, Outcome};
use crate::plan::ltx::replica::{Done, Work};
use crate::plan::opening::Format;
use crate::plan::replica::{Fault, FaultKind};
use crate::source::files::{Files, SourceError};
use crate::source::live::{Live, Round, Rounded};
use crate::source::tail::{Tails, WalBytes};
use crate::source::watch::Watch;
use crate::store::{OpenOptions, Store, StoreError};

/// What the outside asks of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Run,
    /// Send what there is without waiting for the sync interval.
    Flush,
    /// Replicate everything there is, prove it, end. `quiesce`: the app is gone, take the write lock first.
    Stop {
        quiesce: bool,
        deadline: Duration,
    },
}

/// How a loop ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) report: Report,
    pub(super) quiesced: bool,
    /// `None` when every replica acknowledged the end of the WAL.
    pub(super) incomplete: Option<String>,
    /// Keeps the write lock and the pin until the process is told to exit.
    pub(super) _live: Option<Box<Live>>,
}

/// One database being replicated.
pub(super) struct Loop {
    config: Configured,
    limits: Limits,
    clock: Clock,
    watch: Watch,
    wake: Arc<Notify>,
    machine: Machine,
    stores: Vec<Store>,
    live: Option<Box<Live>>,
    /// The live WAL, readable also while a blocking task has [`Loop::live`].
    wal: Option<WalBytes>,
    /// A blocking task has [`Loop::live`], or is making one.
    away: bool,
    kept: Option<Files>,
    /// Told to what is in flight when this attachment ends.
    unpinned: Arc<AtomicBool>,
    tails: Tails,
    trails: Vec<Option<Trail>>,
    /// The layout asked for, then the one that was found.
    formats: Vec<Option<Format>>,
    armed: Option<PathBuf>,
    settling: Option<Settling>,
    attempts: Attempts,
    waiting: bool,
    damaged: bool,
    dice: Dice,
    view: Option<View>,
    behind_since: Option<Duration>,
    sent: u64,
    error: Option<String>,
    landed: (mpsc::UnboundedSender<Landed>, mpsc::UnboundedReceiver<Landed>),
    returned: (mpsc::UnboundedSender<Returned>, mpsc::UnboundedReceiver<Returned>),
    report: watch::Sender<Report>,
}

/// What a blocking task gives back.
enum Returned {
    Attached(Result<Box<Live>, SourceError>),
    Rounded(Box<Live>, Result<Rounded, SourceError>),
    Quiesced(Box<Live>, Result<bool, SourceError>),
}

/// An event came and nothing was committed yet: the frames are written before the WAL index says so.
#[derive(Debug, Clone, Copy)]
struct Settling {
    at: Duration,
    wait: Duration,
}

impl Settling {
    /// Looks come thicker than anybody could listen. A transaction that spills makes thousands of events.
    fn is_young(&self) -> bool {
        self.wait < SETTLE_LISTEN
    }
}

impl Loop {
    pub(super) fn new(
        config: Configured,
        limits: Limits,
        clock: Clock,
        watch: Watch,
        seed: u64,
        report: watch::Sender<Report>,
    ) -> Result<Self, StoreError> {
        let policy = Policy {
            min_checkpoint_pages: config.min_checkpoint_pages,
            max_checkpoint_pages: config.max_checkpoint_pages,
            checkpoint_interval: config.checkpoint_interval,
            max_wal_bytes: config.max_wal_bytes,
            tail_bytes: limits.tail_bytes,
            index_bytes: limits.index_bytes,
        };
        let replicas = config.replicas.iter().map(|r| ReplicaPolicy {
            sync_interval: r.sync_interval,
            snapshot_interval: r.snapshot_interval,
            retention: r.retention,
            retention_check_interval: r.retention_check_interval,
            validation_interval: r.validation_interval,
            ltx: levels(&r.ltx),
        });
        let machine = Machine::new(policy, replicas.collect(), seed);
        let trails = vec![None; config.replicas.len()];
        let formats = config.replicas.iter().map(|r| asked(r.layout)).collect();
        let mut this = Self {
            config,
            limits,
            clock,
            watch,
            wake: Arc::new(Notify::new()),
            machine,
            stores: Vec::new(),
            live: None,
            wal: None,
            away: false,
            kept: None,
            unpinned: Arc::default(),
            tails: Tails::default(),
            trails,
            formats,
            armed: None,
            settling: None,
            attempts: Attempts::default(),
            waiting: false,
            damaged: false,
            dice: Dice::new(seed ^ 1),
            view: None,
            behind_since: None,
            sent: 0,
            error: None,
            landed: mpsc::unbounded_channel(),
            returned: mpsc::unbounded_channel(),
            report,
        };
        this.open_stores()?;
        Ok(this)
    }

    /// Runs until told to stop and done, or past its deadline.
    pub(super) async fn run(mut self, mut commands: watch::Receiver<Command>) -> Ended {
        let mut stop = None;
        let mut quiesced = false;
        loop {
            let now = self.clock.now();
            if let Some((quiesce, deadline)) = stop {
                let hopeless = now >= deadline || self.hopeless();
                if self.finished(quiesce, quiesced) || hopeless {
                    return self.end(quiesce, quiesced, hopeless);
                }
                if quiesce && !quiesced {
                    self.start_quiesce();
                }
            }
            self.start_attach(now);
            self.perform(now);
            self.publish(now);
            if self.arm(now) {
                if !self.look(now) && self.settling.is_none() && self.in_the_making() {
                    self.settle(now);
                }
                continue;
            }
            let until = self.next_look(now).min(stop.map_or(Duration::MAX, |(_, deadline)| deadline));
            tokio::select! {
                biased;
                changed = commands.changed() => {
                    let command = *commands.borrow_and_update();
                    let now = self.clock.now();
                    match if changed.is_err() { GONE } else { command } {
                        Command::Run => {}
                        Command::Flush => self.machine.handle(now, Event::Flush),
                        Command::Stop { quiesce, deadline } => {
                            if stop.is_none() && !quiesce {
                                self.begin_stop();
                            }
                            stop = Some((quiesce, now + deadline));
                            self.attempts.hurry(now);
                        }
                    }
                    self.look(now);
                }
                Some(returned) = self.returned.1.recv() => {
                    if self.take_back(returned) {
                        quiesced = true;
                        self.begin_stop();
                    }
                }
                Some(landed) = self.landed.1.recv() => self.take_in(landed),
                () = self.wake.notified() => self.on_change(),
                () = self.clock.reach(until) => self.on_time(),
            }
        }
    }

    fn open_stores(&mut self) -> Result<(), StoreError> {
        // A directory replica takes modes and owner from the database, so this is done again when there is one.
        let options = OpenOptions::for_database(&self.config.path);
        let opened = self.config.replicas.iter().map(|r| Store::open(&r.destination, &options));
        self.stores = opened.collect::<Result<_, _>>()?;
        Ok(())
    }

    // ---- looking -------------------------------------------------------------------------------------------------

    /// Looks at the WAL and tells the machine. `true` when something was new.
    fn look(&mut self, now: Duration) -> bool {
        let Some(live) = &self.live else { return false };
        match live.look() {
            Ok(view) => {
                let new = self.view.is_none_or(|old| old.marks != view.marks);
                self.view = Some(view);
                self.machine.handle(now, Event::View(view));
                new
            }
            Err(e) => {
                self.lose(now, e);
                true
            }
        }
    }

    /// Gives the attachment up; the next one starts from what the replicas prove.
    fn lose(&mut self, now: Duration, error: SourceError) {
        tracing::error!(db = %self.config.path.display(), %error, "lost the database; attaching again");
        self.error = Some(error.to_string());
        self.disarm();
        std::mem::take(&mut self.unpinned).store(true, Ordering::SeqCst);
        if let Some(live) = self.live.take() {
            self.kept = Some(live.files());
        }
        (self.view, self.wal, self.settling) = (None, None, None);
        self.machine.handle(now, Event::SourceLost);
        self.attempts.hear(now);
    }

    fn on_change(&mut self) {
        let now = self.clock.now();
        self.disarm();
        if self.detached() {
            self.attempts.hear(now);
        } else if !self.look(now) {
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Duration) {
        self.settling = Some(Settling { at: now + SETTLE_FIRST, wait: SETTLE_FIRST });
    }

    /// Was something written whose commit is yet to come, before anybody listened?
    fn in_the_making(&self) -> bool {
        self.live.as_ref().zip(self.view).is_some_and(|(live, view)| live.in_the_making(&view))
    }

    fn on_time(&mut self) {
        let now = self.clock.now();
        let new = self.look(now);
        match self.settling {
            Some(_) if new => self.settling = None,
            Some(s) if s.wait >= SETTLE_LAST => self.settling = None,
            Some(s) if s.at <= now => {
                self.settling = Some(Settling { at: now + s.wait * 2, wait: s.wait * 2 })
            }
            Some(_) | None => {}
        }
        if let Some(Err(e)) = self.live.as_ref().map(|l| l.check_same()) {
            self.lose(now, e);
        }
    }

    /// Listens for the next commit if it would be acted upon. `true` when a look is due because it just began to.
    fn arm(&mut self, now: Duration) -> bool {
        let waiting = self.detached();
        if !(waiting || self.live.is_some() && self.machine.wants_watch(now)) {
            self.disarm();
            return false;
        }
        let later = if waiting { !self.attempts.calm() } else { self.settling.is_some_and(|s| s.is_young()) };
        if self.armed.is_some() || later {
            return false;
        }
        let path = if waiting {
            self.config.path.parent().map(PathBuf::from).unwrap_or_default()
        } else {
            self.live.as_ref().map(|l| l.wal_path().to_owned()).unwrap_or_default()
        };
        if !self.watch.arm(&path, &self.wake) {
            return false;
        }
        self.armed = Some(path);
        if waiting {
            self.attempts.hear(now);
        }
        true
    }

    fn disarm(&mut self) {
        if let Some(path) = self.armed.take() {
            self.watch.disarm(&path, &self.wake);
        }
    }

    /// When to look although nothing was heard.
    fn next_look(&self, now: Duration) -> Duration {
        let polled = if self.armed.is_some() && self.live.is_some() {
            SAFETY_POLL
        } else {
            self.config.monitor_interval
        };
        // On a grid shared by all databases, so that two hundred of them wake the machine once.
        let period = polled.max(Duration::from_millis(10)).as_nanos();
        let grid = (now.as_nanos() / period + 1).saturating_mul(period);
        let grid = Duration::from_nanos(u64::try_from(grid).unwrap_or(u64::MAX));
        let attach = (self.live.is_none() && !self.away).then_some(self.attempts.at().max(now));
        let others = [self.machine.wake_at(), self.settling.map(|s| s.at), attach];
        // While the pace holds the next look back, there is nothing to poll for either.
        let safety = if self.live.is_some() && self.armed.is_none() { now + SAFETY_POLL } else { grid };
        others.into_iter().flatten().fold(safety.max(now), Duration::min)
    }

    // ---- attaching -----------------------------------------------------------------------------------------------

    fn start_attach(&mut self, now: Duration) {
        if self.live.is_some() || self.away || now < self.attempts.at() {
            return;
        }
        self.away = true;
        self.attempts.begin(now);
        let (path, kept) = (self.config.path.clone(), self.kept.clone());
        let back = self.returned.0.clone();
        tokio::task::spawn_blocking(move || {
            let _ = back.send(Returned::Attached(Live::attach(&path, kept).map(Box::new)));
        });
    }

    fn on_attached(&mut self, result: Result<Box<Live>, SourceError>) {
        let now = self.clock.now();
        self.waiting = result.as_ref().is_err_and(SourceError::is_waiting);
        self.damaged = matches!(result, Err(SourceError::NotADatabase { .. }));
        match result {
            Ok(live) => {
                if let Err(error) = self.open_stores() {
                    tracing::error!(%error, "open a replica");
                }
                tracing::info!(db = %self.config.path.display(), "wal pinned");
                self.kept = Some(live.files());
                self.error = None;
                self.attempts.succeed();
                self.disarm();
                self.wal = Some(live.wal());
                self.live = Some(live);
                self.look(now);
            }
            Err(e) if e.is_waiting() => {
                if self.error.as_deref() != Some(&e.to_string()) {
                    tracing::info!(state = %e, "waiting for the database");
                }
                self.error = Some(e.to_string());
                self.attempts.wait(now, self.config.monitor_interval);
            }
            Err(e) => {
                if self.error.as_deref() != Some(&e.to_string()) {
                    tracing::error!(error = %e, "attach; trying again");
                }
                self.error = Some(e.to_string());
                self.attempts.fail(now, &mut self.dice);
            }
        }
    }

    /// Takes back what a blocking task had; `true` when the write lock is ours now.
    fn take_back(&mut self, returned: Returned) -> bool {
        self.away = false;
        let now = self.clock.now();
        let (live, result) = match returned {
            Returned::Attached(result) => {
                self.on_attached(result);
                return false;
            }
            Returned::Rounded(live, result) => {
                self.live = Some(live);
                match result {
                    Ok(rounded) => {
                        self.machine.handle(now, Event::HandOver { outcome: rounded.outcome });
                        tracing::debug!(outcome = ?rounded.outcome, locked = ?rounded.locked, "checkpoint");
                        self.look(now);
                    }
                    Err(e) => self.lose(now, e),
                }
                return false;
            }
            Returned::Quiesced(live, result) => (live, result),
        };
        self.live = Some(live);
        match result {
            Ok(locked) => {
                self.look(now);
                locked
            }
            Err(e) => {
                self.lose(now, e);
                false
            }
        }
    }

    fn start_quiesce(&mut self) {
        let Some(mut live) = self.live.take() else { return };
        self.away = true;
        let back = self.returned.0.clone();
        tokio::task::spawn_blocking(move || {
            let result = live.quiesce();
            if matches!(result, Ok(false)) {
                std::thread::sleep(QUIESCE_PAUSE);
            }
            let _ = back.send(Returned::Quiesced(live, result));
        });
    }

    // ---- performing ----------------------------------------------------------------------------------------------

    fn perform(&mut self, now: Duration) {
        self.machine.handle(now, Event::Wall(Clock::wall()));
        while let Some(action) = self.machine.poll(now) {
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
                    tokio::spawn(self.wing(replica).retain(generation, retention));
                }
                Action::Validate { replica, pos } => match (self.wal.clone(), self.view, self.kept.clone()) {
                    (Some(wal), Some(view), Some(files)) => {
                        drop(tokio::spawn(self.wing(replica).validate(pos, files, wal, view)));
                    }
                    _ => self.machine.handle(now, Event::Validated { replica }),
                },
                Action::Ltx { replica, work } => self.work(now, replica, work),
                Action::LtxBegan { replica, txid, reason } => {
                    let (db, replica) = (self.config.path.display(), &self.config.replicas[replica].name);
                    tracing::info!(%db, replica, %txid, %reason, "sync: full copy");
                }
                Action::Began { replica, generation, reason } => {
                    let (db, replica) = (self.config.path.display(), &self.config.replicas[replica].name);
                    tracing::info!(%db, replica, %generation, %reason, "sync: new generation");
                }
            }
        }
    }

    /// Work on a replica of LTX files.
    fn work(&mut self, now: Duration, replica: usize, work: Work) {
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

    fn start_round(&mut self, round: Round) {
        let Some(mut live) = self.live.take() else {
            // The attempt to take the write lock has it. The next look decides anew.
            let marks = Marks { salt: round.salt, frames: 0, backfilled: 0 };
            let outcome = Outcome::TooLarge(marks);
            return self.machine.handle(self.clock.now(), Event::HandOver { outcome });
        };
        self.away = true;
        let (back, tails) = (self.returned.0.clone(), self.tails.clone());
        tokio::task::spawn_blocking(move || {
            let result = live.round(&round, &tails);
            let _ = back.send(Returned::Rounded(live, result));
        });
    }

    fn wing(&self, replica: usize) -> Wing {
        Wing {
            replica,
            store: self.stores[replica].clone(),
            db: self.config.path.display().to_string(),
            name: self.config.replicas[replica].name.clone(),
            report: self.landed.0.clone(),
            unpinned: self.unpinned.clone(),
        }
    }

    /// Where the bytes of a segment are: in memory once the WAL may have restarted, else in the WAL.
    fn bytes(&self, incarnation: u64, from: u64, to: u64) -> Option<Bytesource> {
        if let Some(tail) = self.tails.get(incarnation).filter(|t| t.covers(from, to)) {
            return Some(Bytesource::Held(tail));
        }
        Some(Bytesource::Live { wal: self.wal.clone()?, salt: self.view?.marks.salt })
    }

    fn take_in(&mut self, landed: Landed) {
        let now = self.clock.now();
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
                match event {
                    Event::Inspected { replica, .. } => self.formats[replica] = Some(Format::V03),
                    Event::LtxInspected { replica, .. } => self.formats[replica] = Some(Format::Ltx),
                    _ => {}
                }
                let shipped = match event {
                    Event::Segment { replica, .. } => Some(replica),
                    _ => None,
                };
                self.machine.handle(now, event);
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
        }
    }

    fn take_in_ltx(&mut self, now: Duration, replica: usize, done: Done) {
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

    // ---- stopping and reporting ----------------------------------------------------------------------------------

    fn begin_stop(&mut self) {
        let now = self.clock.now();
        self.machine.handle(now, Event::Stop);
        // A database put in the place of ours since the last safety poll has to be replicated, too.
        if let Some(Err(e)) = self.live.as_ref().map(|l| l.check_same()) {
            self.lose(now, e);
        }
        self.look(now);
    }

    /// Nothing is left to do: everything is replicated, or there is no database to replicate.
    fn finished(&self, quiesce: bool, quiesced: bool) -> bool {
        let nothing = self.live.is_none() && !self.away && self.no_database();
        nothing || ((quiesced || !quiesce) && self.machine.at_rest())
    }

    /// There is a database, but even a last attempt found nothing in it that could be replicated: no WAL.
    fn hopeless(&self) -> bool {
        self.detached() && !self.away && self.waiting && self.attempts.tried() && !self.no_database()
    }

    /// Not attached, and no round has what would be.
    fn detached(&self) -> bool {
        self.live.is_none() && self.view.is_none()
    }

    fn no_database(&self) -> bool {
        std::fs::metadata(&self.config.path).map_or(true, |m| m.len() == 0)
    }

    fn end(mut self, quiesce: bool, quiesced: bool, late: bool) -> Ended {
        let now = self.clock.now();
        self.disarm();
        self.publish(now);
        let report = self.report.borrow().clone();
        let nothing = self.live.is_none() && self.no_database();
        let incomplete = (late && !nothing && !self.machine.at_rest() || quiesce && !quiesced && !nothing)
            .then(|| {
                let why = report.error().map_or_else(|| "out of time".to_owned(), str::to_owned);
                let place = report.position().map_or_else(|| "nothing".to_owned(), |p| format!("up to {p}"));
                format!("{}: replicated {place}, {} bytes behind: {why}", report.db, report.lag_bytes())
            });
        Ended { report, quiesced: quiesced || nothing, incomplete, _live: self.live.take() }
    }

    fn publish(&mut self, now: Duration) {
        let replicas: Vec<_> = (0..self.stores.len())
            .map(|n| Standing {
                name: self.config.replicas[n].name.clone(),
                position: self.machine.position(n),
                lag_bytes: self.machine.lag_bytes(n),
                error: self.machine.error(n).map(|f| f.message.clone()),
            })
            .collect();
        let behind = replicas.iter().any(|r| r.lag_bytes > 0);
        self.behind_since = if behind { self.behind_since.or(Some(now)) } else { None };
        let report = Report {
            db: self.config.path.display().to_string(),
            pinned: self.live.is_some() || (self.away && self.view.is_some()),
            waiting: self.waiting,
            damaged: self.damaged,
            wal_end: self.machine.wal_end().offset,
            lag: self.behind_since.map_or(Duration::ZERO, |t| now.saturating_sub(t)),
            sent_bytes: self.sent,
            source_error: self.error.clone(),
            replicas,
        };
        self.report.send_if_modified(|old| {
            let changed = *old != report;
            *old = report;
            changed
        });
    }
}

/// The configured pace of a replica of LTX files.
fn levels(ltx: &holdfast_config::Ltx) -> crate::plan::ltx::Policy {
    crate::plan::ltx::Policy {
        levels: ltx.levels.clone(),
        snapshot_interval: ltx.snapshot_interval,
        snapshot_retention: ltx.snapshot_retention,
        l0_retention: ltx.l0_retention,
        check_interval: ltx.l0_retention_check_interval,
        deletes: ltx.retention_enabled,
    }
}

/// The answer to an action that came too late: the database was let go in between.
fn detached() -> Fault {
    Fault { kind: FaultKind::Local, message: "the database is not attached".into() }
}

/// Whoever commands is gone: stop as well as possible.
const GONE: Command = Command::Stop { quiesce: false, deadline: Duration::from_secs(10) };
/// Looks without an event, in case one was missed. Costs two small reads.
const SAFETY_POLL: Duration = Duration::from_secs(10);
/// After an event that showed nothing, looks at doubling distances: a commit is in the WAL before it is in the index,
/// by an fsync at most. A rolled back transaction never gets there.
/// From a while after the event on, there is listening again, too: a long transaction commits at its end.
const SETTLE_FIRST: Duration = Duration::from_micros(500);
const SETTLE_LISTEN: Duration = Duration::from_millis(32);
const SETTLE_LAST: Duration = Duration::from_secs(4);
/// Between two attempts to take the write lock.
const QUIESCE_PAUSE: Duration = Duration::from_millis(5);
