//! PID 1: checks, restores, launches, forwards, reaps, and proves the final sync.
//!
//! | file | one idea |
//! | --- | --- |
//! | `cli`, `setup`, `mode` | what to run and by which rules |
//! | `lifecycle`, `budget`, `signals` | decisions: events and time in, actions out |
//! | `run` | the loop that performs them |
//! | `sys` | system calls; all the `unsafe` there is |
//! | `control`, `orphans`, `environment` | the agent's socket; who is left; what the app may know |
//! | `health` | what probes and scrapers are told, on threads of their own |
//! | `log`, `summary` | what people and machines read |

mod budget;
mod cli;
mod control;
mod environment;
mod health;
mod lifecycle;
mod log;
mod mode;
mod orphans;
mod run;
mod setup;
mod signals;
mod summary;
mod sys;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_config::Env;
use holdfast_config::exit::Exit;
use holdfast_config::systemd::Service;
use nix::sys::prctl;

use crate::cli::{Asked, Cli};
use crate::health::{Wicket, serve};
use crate::lifecycle::{Level, Outcome};
use crate::log::Log;
use crate::run::Supervisor;

fn main() {
    let signals = run::catch_signals();
    sys::undo_inherited_ignores();
    sys::forget_empty_variables("SUPERVISOR_");
    let cli = match cli::parse(std::env::args_os()) {
        Ok(Asked::Run(cli)) => cli,
        Ok(Asked::Healthcheck(check)) => exit(i32::from(check_health(&check))),
        Err(e) => {
            // Help and version go to stdout and are no error.
            let _ = e.print();
            exit(if e.use_stderr() { Exit::Usage.code().into() } else { 0 });
        }
    };
    let (log, signals) = match (Log::start(cli.log_level), signals) {
        (Ok(log), Ok(signals)) => (log, signals),
        (Err(e), _) => give_up(&format!("start the log's writer: {e}")),
        (_, Err(e)) => give_up(&format!("open a descriptor for signals: {e}")),
    };
    let code = supervise(&cli, &log, signals);
    log.close(setup::LAST_WORDS);
    exit(code.into());
}

fn give_up(why: &str) -> ! {
    eprintln!("holdfast-supervisor: {why}");
    exit(Exit::System.code().into());
}

fn supervise(cli: &Cli, log: &Log, signals: nix::sys::signalfd::SignalFd) -> u8 {
    become_init(log);
    let env = Env::from_process();
    let setup = match setup::set_up(cli, &env, seed()) {
        Ok(setup) => setup,
        Err(refusal) => {
            log.line(Level::Error, &format!("{refusal}; the app was not started"));
            return refusal.exit.code();
        }
    };
    for (level, note) in &setup.notes {
        log.line(*level, note);
    }
    let wicket = open_wicket(cli, &setup, log);
    let service = Service::from_env(&env, std::process::id()).unwrap_or_else(|e| {
        log.line(Level::Warn, &format!("find systemd's socket: {e}; it will not hear that the app is ready"));
        None
    });
    let outcome = Supervisor::new(&setup, log, signals, wicket, service).run();
    report(&outcome, log, &cli.termination_log);
    outcome.code
}

/// The one line of `healthcheck`; whether all is not well.
fn check_health(check: &health::check::Cli) -> bool {
    let (line, bad) = match check.ask() {
        Ok(line) => (line, false),
        Err(line) => (line, true),
    };
    // Nobody may be there to read it; the code says enough.
    let _ = writeln!(std::io::stdout(), "{line}");
    bad
}

/// Where probes ask. An address somebody else has is no reason not to run the app.
fn open_wicket(cli: &Cli, setup: &setup::Setup, log: &Log) -> Option<Arc<Wicket>> {
    let address = cli.listens()?;
    let settings = serve::Settings { probe: setup.probe.clone(), max_lag: cli.max_lag };
    let open = || {
        let wicket = Arc::new(Wicket::new()?);
        serve::start(address, settings, wicket.clone()).map(|()| wicket)
    };
    let open: std::io::Result<_> = open();
    match open {
        Ok(wicket) => Some(wicket),
        Err(e) => {
            let line =
                format!("listen on {address} for probes: {e}; set --listen to a free address, or to off");
            log.line(Level::Warn, &line);
            None
        }
    }
}

/// What PID 1 owes its descendants, and what it owes the secrets in its environment. None of it is worth not starting.
fn become_init(log: &Log) {
    if let Err(e) = sys::keep_descriptors_to_ourselves() {
        log.line(Level::Warn, &format!("mark inherited descriptors close-on-exec: {e}"));
    }
    if std::process::id() != 1
        && let Err(e) = prctl::set_child_subreaper(true)
    {
        log.line(Level::Warn, &format!("become a subreaper: {e}; orphans of the app go to init"));
    }
    // Verified (spec §9 X9): other processes of our user can then not read our environment.
    if let Err(e) = prctl::set_dumpable(false) {
        log.line(Level::Warn, &format!("hide the environment from other processes: {e}"));
    }
}

/// The last two lines of every run.
fn report(outcome: &Outcome, log: &Log, termination_log: &Path) {
    if let Some((level, line)) = summary::proof(outcome) {
        log.line(level, &line);
    }
    let json = summary::json(outcome, log.dropped());
    log.raw(&json);
    // Kubernetes makes the file; elsewhere nobody reads it.
    if let Ok(mut file) = File::options().write(true).truncate(true).open(termination_log)
        && let Err(e) = file.write_all(json.as_bytes())
    {
        log.line(Level::Warn, &format!("write {}: {e}", termination_log.display()));
    }
}

/// Different for containers that start at the same moment.
fn seed() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let stack = &raw const time as usize as u64;
    time ^ stack.rotate_left(32) ^ u64::from(std::process::id())
}
