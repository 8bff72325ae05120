//! `holdfast replicate`: one loop per database until a signal or the supervisor ends them, then the proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_config::Config;
use holdfast_config::control::{Drained, FromAgent, ReadyMode, ToAgent};
use holdfast_config::exit::Exit;
use signal_hook::consts::SIGINT;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinError;

use super::clock::Clock;
use super::control::{Control, Orders};
use super::database::Ended;
use super::directories::Directories;
use super::fleet::Fleet;
use super::health::{Board, Listener};
use super::limits::Limits;
use super::reload::{self, Reread};
use super::report::Report;
use super::unit::Service;
use crate::plan::discovery::{Discovery, Order};
use crate::plan::linger::OnTerm;
use crate::plan::reload::wanted;

/// Replicates every configured database until SIGTERM, SIGINT, or, when supervised, the supervisor's word.
///
/// Returns [`Exit::Ok`] only when every replica of every database has acknowledged the end of the WAL, else
/// [`Exit::SyncIncomplete`] with a line that says how far each came.
///
/// SIGHUP reads the configuration again with `reread`, if there is something to read.
pub async fn run(config: Config, reread: Option<Reread>, on_term: OnTerm) -> Exit {
    run_as(config, reread, Limits::default(), on_term).await
}

/// As [`run`], within other limits than the usual.
pub async fn run_within(config: Config, reread: Option<Reread>, limits: Limits) -> Exit {
    run_as(config, reread, limits, OnTerm::Drain).await
}

async fn run_as(config: Config, reread: Option<Reread>, limits: Limits, on_term: OnTerm) -> Exit {
    if let Err((exit, message)) = check(&config) {
        tracing::error!("{message}");
        return exit;
    }
    let (control, orders) = match Control::from_env() {
        Ok(control) => control,
        Err(error) => {
            tracing::error!(%error, "open the control descriptor");
            return Exit::System;
        }
    };
    super::limits::allow_descriptors();
    let mut run = match Run::new(config, reread, limits, on_term, control, orders) {
        Ok(run) => run,
        Err(error) => {
            tracing::error!(%error, "handle signals");
            return Exit::System;
        }
    };
    match run.start().await {
        Ok(()) => {}
        Err(exit) => return exit,
    }
    if let Some(exit) = run.until_told().await {
        return exit;
    }
    run.prove().await
}

/// Is there something to replicate, and somewhere to?
pub(crate) fn check(config: &Config) -> Result<(), (Exit, String)> {
    if config.databases.is_empty() && config.directories.is_empty() {
        return Err((Exit::Config, "no databases specified in configuration: add one under `dbs:`".into()));
    }
    for (n, d) in config.databases.iter().enumerate() {
        if d.replicas.is_empty() {
            let message = format!("{}: no replica configured: add one under `replicas:`", d.path.display());
            return Err((Exit::Config, message));
        }
        if config.databases[..n].iter().any(|other| other.path == d.path) {
            return Err((Exit::Config, format!("{}: configured twice under `dbs:`", d.path.display())));
        }
    }
    if let Some(d) = config.directories.iter().find(|d| d.each.replicas.is_empty()) {
        let message = format!("{}: no replica configured: add one under `replicas:`", d.path.display());
        return Err((Exit::Config, message));
    }
    Ok(())
}

/// What runs, everything that can end it, and whom to tell.
struct Run {
    config: Config,
    reread: Option<Reread>,
    clock: Clock,
    fleet: Fleet,
    directories: Directories,
    control: Option<Control>,
    orders: Orders,
    /// systemd, if it started us and wants to know.
    service: Option<Service>,
    /// What probes and scrapers are shown, and who shows it.
    board: Board,
    listener: Listener,
    on_term: OnTerm,
    term: Signal,
    int: Signal,
    hup: Signal,
    /// The configuration is to be read again.
    reload_asked: bool,
    ready: bool,
    /// When the statuses were last sent of databases that are behind.
    aged: std::time::Instant,
    asked: std::time::Instant,
    /// Once set, a SIGINT ends the process at once, whatever its threads are stuck in.
    impatient: Arc<AtomicBool>,
}

impl Run {
    fn new(
        config: Config,
        reread: Option<Reread>,
        limits: Limits,
        on_term: OnTerm,
        control: Option<Control>,
        orders: Orders,
    ) -> std::io::Result<Self> {
        let impatient = Arc::new(AtomicBool::new(false));
        if control.is_none() {
            let code = i32::from(Exit::SyncIncomplete.code());
            signal_hook::flag::register_conditional_shutdown(SIGINT, code, impatient.clone())?;
        }
        let clock = Clock::start();
        let fleet = Fleet::new(limits, clock);
        let board = fleet.board();
        board.set_max_lag(config.max_lag);
        Ok(Self {
            listener: Listener::start(board.clone(), config.addr.clone()),
            board,
            clock,
            fleet,
            directories: Directories::new(&config, clock, Discovery::new()),
            config,
            reread,
            on_term,
            impatient,
            service: if control.is_none() { Service::from_env() } else { None },
            control,
            orders,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            // Also so that it does not kill us: a terminal that goes away must not cost the final sync.
            hup: signal(SignalKind::hangup())?,
            reload_asked: false,
            ready: false,
            aged: std::time::Instant::now(),
            asked: std::time::Instant::now(),
        })
    }

    /// Starts the loops of all databases there are.
    async fn start(&mut self) -> Result<(), Exit> {
        let fixed = match self.directories.fixed(&self.config).await {
            Ok(fixed) => fixed,
            Err(error) => {
                tracing::error!("{error}");
                return Err(error.kind.exit().unwrap_or(Exit::Config));
            }
        };
        let listed = self.config.databases.iter().map(|d| &d.path).chain(&fixed);
        let listed: Vec<_> = listed.filter_map(|path| wanted(&self.config, path)).collect();
        for one in listed {
            if let Err(error) = self.fleet.start(one) {
                tracing::error!(%error, "open a replica");
                return Err(Exit::Config);
            }
        }
        let orders = self.directories.first().await;
        self.follow(orders, false)?;
        self.board.runs();
        Ok(())
    }

    /// Does what the directories call for.
    fn follow(&mut self, orders: Vec<Order>, late: bool) -> Result<(), Exit> {
        for order in orders {
            match order {
                Order::Follow(path) => {
                    let Some(one) = wanted(&self.config, &path) else { continue };
                    if late {
                        tracing::info!(db = %path.display(), "added database to replication");
                    }
                    if let Err(error) = self.fleet.start(one) {
                        tracing::error!(%error, "open a replica");
                        return Err(Exit::Config);
                    }
                }
                Order::Leave(path) => self.fleet.leave(&path, None),
                Order::Hurry(path) => self.fleet.leave(&path, Some(self.config.shutdown_sync_timeout)),
                Order::Tell(path, notice) => tracing::warn!("{} {notice}", path.display()),
            }
        }
        Ok(())
    }

    /// Runs until somebody asks for the end and tells the loops; `Some` when there is nothing to wait for.
    async fn until_told(&mut self) -> Option<Exit> {
        let news = self.fleet.news();
        loop {
            if let Some(exit) = self.tell().await {
                return Some(exit);
            }
            let supervised = self.control.is_some();
            let heard = supervised || self.service.is_some();
            let heartbeat = self.service.as_ref().map_or(HEARTBEAT, Service::due);
            // Nobody waits for a status; somebody does for the word that the WAL is pinned.
            let quiet = match self.ready {
                false => Duration::ZERO,
                true if supervised => STATUS_PAUSE,
                true => UNIT_PAUSE,
            };
            let quiet_until = tokio::time::Instant::now() + quiet;
            // One after another: a change that is under way is waited for.
            if self.reload_asked && self.fleet.is_settled() {
                self.reload_asked = false;
                if let Err(exit) = self.reload(supervised).await {
                    return Some(exit);
                }
            }
            let trim_at = self.fleet.trim_at();
            let mut lingers = false;
            let (quiesce, deadline) = tokio::select! {
                biased;
                order = self.orders.next() => match order {
                    Some(ToAgent::Flush {}) => { self.fleet.flush(); continue }
                    Some(ToAgent::Reload {}) => { self.reload_asked = true; continue }
                    Some(ToAgent::Drain { deadline_ms }) => {
                        (true, Duration::from_millis(deadline_ms))
                    }
                    Some(ToAgent::Exit {}) => return Some(Exit::Ok),
                    // The supervisor died; the app may still be there.
                    None => { self.control = None; self.patient_stop() }
                },
                // Platforms broadcast these; a supervised agent ends when the supervisor says so.
                _ = self.term.recv() => if supervised { continue } else {
                    lingers = self.on_term == OnTerm::DrainWhenAppGone;
                    self.stop("SIGTERM")
                },
                _ = self.int.recv() => if supervised { continue } else { self.stop("SIGINT") },
                // Platforms broadcast it; a supervised agent reloads when the supervisor says so.
                _ = self.hup.recv() => { self.reload_asked |= !supervised; continue }
                ended = self.fleet.ended() => match self.on_ended(ended) {
                    Some(exit) => return Some(exit),
                    None => continue,
                },
                orders = self.directories.next() => match self.follow(orders, true) {
                    Ok(()) => continue,
                    Err(exit) => return Some(exit),
                },
                () = reached(trim_at) => { self.fleet.trim(); continue }
                () = changed(&news, quiet_until), if heard => continue,
                () = tokio::time::sleep(heartbeat), if heard => continue,
            };
            if let Some(service) = &mut self.service {
                service.stopping(self.config.shutdown_sync_timeout);
            }
            self.asked = std::time::Instant::now();
            self.board.stops();
            match lingers {
                true => self.fleet.linger(deadline),
                false => self.fleet.stop(quiesce, deadline),
            }
            return None;
        }
    }

    /// The first signal. A person who sends SIGINT again does not want to wait for the final sync.
    fn stop(&self, signal: &str) -> (bool, Duration) {
        self.impatient.store(true, Ordering::SeqCst);
        tracing::info!(signal, "signal received, holdfast shutting down");
        self.patient_stop()
    }

    /// The app may go on: no write lock, and as long as is configured.
    fn patient_stop(&self) -> (bool, Duration) {
        (false, self.config.shutdown_sync_timeout)
    }

    /// Reads the configuration again. A bad one is refused, and the old one goes on.
    async fn reload(&mut self, supervised: bool) -> Result<(), Exit> {
        let Some(reread) = &self.reread else {
            tracing::info!("SIGHUP ignored: the command line is all the configuration there is");
            return Ok(());
        };
        tracing::info!("SIGHUP: reading the configuration again");
        let applied = reload::apply(reread, supervised, &self.config, &mut self.fleet, &mut self.directories);
        match applied.await {
            Ok((config, orders)) => {
                self.config = config;
                self.board.reloaded(true);
                self.board.set_max_lag(self.config.max_lag);
                self.listener.move_to(self.config.addr.clone());
                self.follow(orders, true)
            }
            Err(error) => {
                tracing::error!("{error}; the configuration is not reloaded, and the old one goes on");
                self.board.reloaded(false);
                Ok(())
            }
        }
    }

    /// One loop ended although nobody stopped all of them.
    fn on_ended(&mut self, ended: Result<(std::path::PathBuf, Ended), JoinError>) -> Option<Exit> {
        match ended {
            Ok((path, mut one)) => {
                let heir = match self.fleet.on_ended(&path, &mut one, false) {
                    Ok(heir) => heir,
                    Err(error) => {
                        tracing::error!(%error, "open a replica");
                        return Some(Exit::Config);
                    }
                };
                let db = &one.report.db;
                if heir {
                    match &one.incomplete {
                        None => tracing::info!(
                            db,
                            position = one.position(),
                            "handed over to the new configuration"
                        ),
                        Some(why) => tracing::warn!("handed over to the new configuration: {why}"),
                    }
                    return None;
                }
                match (&one.incomplete, one.position()) {
                    (None, Some(position)) => {
                        tracing::info!(db, %position, "removed database from replication: its replica holds every commit");
                    }
                    (None, None) => tracing::info!(db, "removed database from replication"),
                    (Some(why), _) => tracing::error!("removed database from replication, incomplete: {why}"),
                }
                self.directories.ended(&path);
                None
            }
            Err(error) => Some(bug(&error)),
        }
    }

    /// Tells the supervisor, or systemd, where things stand; `Some` when they cannot get better.
    async fn tell(&mut self) -> Option<Exit> {
        if self.control.is_none() && self.service.is_none() {
            return None;
        }
        let now = self.fleet.reports();
        let all = || now.iter().map(|(report, _)| report);
        if let (false, Some(bad)) = (self.ready, all().find(|r| r.damaged)) {
            let message = bad.error().unwrap_or_default().to_owned();
            tracing::error!("{message}: move it aside, or restore with `holdfast restore`");
            if let Some(control) = &mut self.control {
                control.send(&FromAgent::Fatal { code: Exit::LocalData.code(), message }).await;
            }
            return Some(Exit::LocalData);
        }
        let newly = !self.ready && all().all(|r| r.pinned || r.waiting);
        self.ready |= newly;
        if let Some(service) = &mut self.service {
            service.tell(self.ready, &now);
        }
        let control = self.control.as_mut()?;
        if newly {
            let pinned = !now.is_empty() && all().all(|r| r.pinned);
            let mode = if pinned { ReadyMode::Pinned } else { ReadyMode::WaitingForDb };
            let db = all().next().map(|r| r.db.clone()).unwrap_or_default();
            control.send(&FromAgent::Ready { mode, db }).await;
        }
        // A lag grows without any news of it.
        let aged = self.aged.elapsed() >= AGEING;
        if aged {
            self.aged = std::time::Instant::now();
        }
        let is_news = |(report, changed): &&(Report, bool)| *changed || (aged && report.is_behind());
        // A status is the heartbeat, too: when nothing changed, one of them.
        let quiet = !now.iter().any(|one| is_news(&one));
        let news = now.iter().filter(is_news).chain(now.iter().take(usize::from(quiet)));
        for (report, _) in news {
            control.send(&FromAgent::Status(report.status(self.clock.now()))).await;
        }
        if now.is_empty() {
            control.send(&FromAgent::Phase { name: "waiting for databases".into() }).await;
        }
        None
    }

    /// Says what the final sync achieved, and keeps the write locks until nobody needs the proof any more.
    async fn prove(mut self) -> Exit {
        let mut ended = Vec::new();
        while !self.fleet.is_empty() {
            match self.fleet.ended().await {
                Ok((path, mut one)) => match self.fleet.on_ended(&path, &mut one, true) {
                    // What it left to do, and the pin, is another's.
                    Ok(true) => {}
                    Ok(false) => ended.push(one),
                    Err(error) => {
                        tracing::error!(%error, "open a replica");
                        return Exit::Config;
                    }
                },
                Err(error) => return bug(&error),
            }
        }
        let took = self.asked.elapsed();
        let mut incomplete = None;
        for one in &ended {
            match &one.incomplete {
                None => {
                    let position = one.position().unwrap_or_default();
                    tracing::info!(
                        db = one.report.db,
                        position,
                        wal_end = one.report.wal_end,
                        ?took,
                        "final sync complete: the replica holds every commit"
                    );
                }
                Some(why) => {
                    tracing::error!("final sync incomplete: {why}");
                    incomplete.get_or_insert_with(|| why.clone());
                }
            }
        }
        self.board.ended(incomplete.is_none());
        let exit = if incomplete.is_none() { Exit::Ok } else { Exit::SyncIncomplete };
        let Some(control) = &mut self.control else { return exit };
        let slowest = ended.iter().max_by_key(|e| (e.incomplete.is_some(), e.report.lag_bytes()));
        let quiesced = ended.iter().all(|e| e.quiesced);
        let drained = slowest.map(|e| Drained {
            ok: quiesced && incomplete.is_none(),
            quiesced,
            wal_end: e.report.wal_end,
            position: e.position().unwrap_or_default(),
            lag_bytes: e.report.lag_bytes(),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            error: incomplete,
        });
        // Where there is no database, nobody can commit to one.
        let nothing = || Drained { ok: true, quiesced: true, ..Drained::default() };
        control.send(&FromAgent::Drained(drained.unwrap_or_else(nothing))).await;
        // `ended` holds the locks; the proof is worth nothing once somebody can commit again.
        while !matches!(self.orders.next().await, None | Some(ToAgent::Exit {})) {}
        drop(ended);
        exit
    }
}

fn bug(error: &JoinError) -> Exit {
    tracing::error!(%error, "a database's loop failed; this is a bug, please report it");
    Exit::Bug
}

/// Waits until then, if it comes at all.
async fn reached(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Any of the reports changed, and it is time to say so. Safe to drop: the word stays until it is taken.
async fn changed(news: &Notify, quiet_until: tokio::time::Instant) {
    tokio::time::sleep_until(quiet_until).await;
    news.notified().await;
}

/// systemd takes a status a second.
const UNIT_PAUSE: Duration = Duration::from_secs(1);
/// A status goes out at least this often, as a heartbeat, and at most every [`STATUS_PAUSE`].
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often the supervisor hears of a lag that only grows.
const AGEING: Duration = Duration::from_secs(1);
const STATUS_PAUSE: Duration = Duration::from_millis(100);
