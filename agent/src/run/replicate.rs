//! `holdfast replicate`: one loop per database until a signal or the supervisor ends them, then the proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_config::Config;
use holdfast_config::control::{Drained, FromAgent, ReadyMode, ToAgent};
use holdfast_config::exit::Exit;
use signal_hook::consts::SIGINT;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock::Clock;
use super::control::Control;
use super::database::{Command, Ended, Loop};
use super::limits::Limits;
use super::report::Report;
use crate::source::watch::Watch;

/// Replicates every configured database until SIGTERM, SIGINT, or, when supervised, the supervisor's word.
///
/// Returns [`Exit::Ok`] only when every replica of every database has acknowledged the end of the WAL, else
/// [`Exit::SyncIncomplete`] with a line that says how far each came.
pub async fn run(config: Config) -> Exit {
    run_within(config, Limits::default()).await
}

/// As [`run`], within other limits than the usual.
pub async fn run_within(config: Config, limits: Limits) -> Exit {
    if let Err((exit, message)) = check(&config) {
        tracing::error!("{message}");
        return exit;
    }
    let (control, mut orders) = match Control::from_env() {
        Ok(control) => control,
        Err(error) => {
            tracing::error!(%error, "open the control descriptor");
            return Exit::System;
        }
    };
    let (commands, listen) = watch::channel(Command::Run);
    let clock = Clock::start();
    let watcher = Watch::new();
    let mut loops = JoinSet::new();
    let mut reports = Vec::new();
    for database in &config.databases {
        let (send, receive) =
            watch::channel(Report { db: database.path.display().to_string(), ..Report::default() });
        let seed = crate::durable::random();
        let one = match Loop::new(database.clone(), limits, clock, watcher.clone(), seed, send) {
            Ok(one) => one,
            Err(error) => {
                tracing::error!(%error, "open a replica");
                return Exit::Config;
            }
        };
        for r in &database.replicas {
            tracing::info!(db = %database.path.display(), name = r.name, "sync-interval" = ?r.sync_interval, "replicating to");
        }
        loops.spawn(one.run(listen.clone()));
        reports.push(receive);
    }
    drop(listen);
    let mut wait = match Waiting::new(control, reports, &commands, config.shutdown_sync_timeout) {
        Ok(wait) => wait,
        Err(error) => {
            tracing::error!(%error, "handle signals");
            return Exit::System;
        }
    };
    if let Some(exit) = wait.for_the_end(&mut orders).await {
        return exit;
    }
    let mut ended = Vec::new();
    while let Some(one) = loops.join_next().await {
        match one {
            Ok(one) => ended.push(one),
            Err(error) => {
                tracing::error!(%error, "a database's loop failed; this is a bug, please report it");
                return Exit::Bug;
            }
        }
    }
    wait.prove(ended, &mut orders).await
}

/// Is there something to replicate, and somewhere to?
pub(crate) fn check(config: &Config) -> Result<(), (Exit, String)> {
    if config.databases.is_empty() {
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
    Ok(())
}

/// Everything that can end the run, and whom to tell.
struct Waiting<'a> {
    control: Option<Control>,
    reports: Vec<watch::Receiver<Report>>,
    commands: &'a watch::Sender<Command>,
    timeout: Duration,
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    _hup: tokio::signal::unix::Signal,
    ready: bool,
    asked: std::time::Instant,
    /// Once set, a SIGINT ends the process at once, whatever its threads are stuck in.
    impatient: Arc<AtomicBool>,
}

impl<'a> Waiting<'a> {
    fn new(
        control: Option<Control>,
        reports: Vec<watch::Receiver<Report>>,
        commands: &'a watch::Sender<Command>,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        let impatient = Arc::new(AtomicBool::new(false));
        if control.is_none() {
            let code = i32::from(Exit::SyncIncomplete.code());
            signal_hook::flag::register_conditional_shutdown(SIGINT, code, impatient.clone())?;
        }
        Ok(Self {
            impatient,
            control,
            reports,
            commands,
            timeout,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            // Taken so that it does not kill us: a terminal that goes away must not cost the final sync.
            _hup: signal(SignalKind::hangup())?,
            ready: false,
            asked: std::time::Instant::now(),
        })
    }

    /// Runs until somebody asks for the end and tells the loops; `Some` when there is nothing to wait for.
    async fn for_the_end(&mut self, orders: &mut super::control::Orders) -> Option<Exit> {
        loop {
            if let Some(exit) = self.tell().await {
                return Some(exit);
            }
            let supervised = self.control.is_some();
            // Nobody waits for a status; somebody does for the word that the WAL is pinned.
            let quiet = if self.ready { STATUS_PAUSE } else { Duration::ZERO };
            let quiet_until = tokio::time::Instant::now() + quiet;
            let stop = tokio::select! {
                biased;
                order = orders.next() => match order {
                    Some(ToAgent::Flush {}) => { self.commands.send_replace(Command::Flush); continue }
                    Some(ToAgent::Drain { deadline_ms }) => {
                        Command::Stop { quiesce: true, deadline: Duration::from_millis(deadline_ms) }
                    }
                    Some(ToAgent::Exit {}) => return Some(Exit::Ok),
                    // The supervisor died; the app may still be there.
                    None => { self.control = None; Command::Stop { quiesce: false, deadline: self.timeout } }
                },
                // Platforms broadcast these; a supervised agent ends when the supervisor says so.
                _ = self.term.recv() => if supervised { continue } else { self.stop("SIGTERM") },
                _ = self.int.recv() => if supervised { continue } else { self.stop("SIGINT") },
                () = changed(&mut self.reports, quiet_until), if supervised => continue,
                () = tokio::time::sleep(HEARTBEAT), if supervised => continue,
            };
            self.asked = std::time::Instant::now();
            self.commands.send_replace(stop);
            return None;
        }
    }

    /// The first signal. A person who sends SIGINT again does not want to wait for the final sync.
    fn stop(&self, signal: &str) -> Command {
        self.impatient.store(true, Ordering::SeqCst);
        tracing::info!(signal, "signal received, holdfast shutting down");
        Command::Stop { quiesce: false, deadline: self.timeout }
    }

    /// Tells the supervisor where things stand; `Some` when they cannot get better.
    async fn tell(&mut self) -> Option<Exit> {
        let control = self.control.as_mut()?;
        let now: Vec<Report> = self.reports.iter_mut().map(|r| r.borrow_and_update().clone()).collect();
        if let (false, Some(bad)) = (self.ready, now.iter().find(|r| r.damaged)) {
            let message = bad.error().unwrap_or_default().to_owned();
            tracing::error!("{message}: move it aside, or restore with `holdfast restore`");
            control.send(&FromAgent::Fatal { code: Exit::LocalData.code(), message }).await;
            return Some(Exit::LocalData);
        }
        if !self.ready && now.iter().all(|r| r.pinned || r.waiting) {
            self.ready = true;
            let mode = if now.iter().all(|r| r.pinned) { ReadyMode::Pinned } else { ReadyMode::WaitingForDb };
            let db = now.first().map(|r| r.db.clone()).unwrap_or_default();
            control.send(&FromAgent::Ready { mode, db }).await;
        }
        for report in &now {
            control.send(&FromAgent::Status(report.status())).await;
        }
        None
    }

    /// Says what the final sync achieved, and keeps the write locks until nobody needs the proof any more.
    async fn prove(&mut self, ended: Vec<Ended>, orders: &mut super::control::Orders) -> Exit {
        let took = self.asked.elapsed();
        let mut incomplete = None;
        for one in &ended {
            match &one.incomplete {
                None => {
                    let position = one.report.position().map(|p| p.to_string()).unwrap_or_default();
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
        let exit = if incomplete.is_none() { Exit::Ok } else { Exit::SyncIncomplete };
        let Some(control) = &mut self.control else { return exit };
        let slowest = ended.iter().max_by_key(|e| (e.incomplete.is_some(), e.report.lag_bytes()));
        let quiesced = ended.iter().all(|e| e.quiesced);
        let drained = slowest.map(|e| Drained {
            ok: quiesced && incomplete.is_none(),
            quiesced,
            wal_end: e.report.wal_end,
            position: e.report.position().map(|p| p.to_string()).unwrap_or_default(),
            lag_bytes: e.report.lag_bytes(),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            error: incomplete,
        });
        control.send(&FromAgent::Drained(drained.unwrap_or_default())).await;
        // `ended` holds the locks; the proof is worth nothing once somebody can commit again.
        while !matches!(orders.next().await, None | Some(ToAgent::Exit {})) {}
        drop(ended);
        exit
    }
}

/// Any of the reports changed, and it is time to say so. Safe to drop: a change stays marked until it is looked at.
async fn changed(reports: &mut [watch::Receiver<Report>], quiet_until: tokio::time::Instant) {
    tokio::time::sleep_until(quiet_until).await;
    let each = reports.iter_mut().map(|r| Box::pin(async { r.changed().await.is_ok() }));
    let (ok, _, _) = futures_util::future::select_all(each).await;
    if !ok {
        std::future::pending::<()>().await;
    }
}

/// A status goes out at least this often, as a heartbeat, and at most every [`STATUS_PAUSE`].
const HEARTBEAT: Duration = Duration::from_secs(2);
const STATUS_PAUSE: Duration = Duration::from_millis(100);
