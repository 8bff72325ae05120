//! PID 1: checks, restores, launches, forwards, reaps, and proves the final sync.
//!
//! | file | one idea |
//! | --- | --- |
//! | `cli`, `setup`, `mode` | what to run and by which rules |
//! | `identity`, `volume` | as whom to run, and where the databases are: before the first thread |
//! | `locks`, `preflight` | what is waited for before anything else starts |
//! | `lifecycle`, `budget`, `signals` | decisions: events and time in, actions out |
//! | `run` | the loop that performs them |
//! | `launch` | how each child is started |
//! | `sys` | system calls; all the `unsafe` there is |
//! | `emergency` | what is done when the loop itself is broken |
//! | `control`, `orphans`, `environment` | the agent's socket; who is left; what the app may know |
//! | `attachment` | which databases the app has open |
//! | `health` | what probes and scrapers are told, on threads of their own |
//! | `log`, `summary` | what people and machines read |

mod attachment;
mod budget;
mod cli;
mod control;
mod emergency;
mod environment;
mod health;
mod identity;
mod launch;
mod lifecycle;
mod locks;
mod log;
mod mode;
mod orphans;
mod preflight;
mod run;
mod setup;
mod signals;
mod summary;
mod sys;
mod volume;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_config::exit::Exit;
use holdfast_config::systemd::Service;
use holdfast_config::{Env, Format};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::unistd::AccessFlags;

use crate::cli::words::Stop;
use crate::cli::{Asked, Cli};
use crate::health::{Wicket, serve};
use crate::lifecycle::{Level, Outcome};
use crate::log::Log;
use crate::run::Supervisor;
use crate::setup::{Refusal, Setup};

fn main() {
    let signals = run::catch_signals();
    emergency::arm();
    sys::undo_inherited_ignores();
    sys::forget_empty_variables("SUPERVISOR_");
    let cli = match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Asked::Run(cli)) => cli,
        Ok(Asked::Healthcheck(check)) => exit(i32::from(check_health(&check))),
        Ok(Asked::Check(cli)) => exit(check_start(&cli).into()),
        // Nobody may be there to read it; the code says enough.
        Err(Stop::Answer(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            exit(0);
        }
        Err(Stop::Mistake(text)) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            exit(Exit::Usage.code().into());
        }
    };
    // Before the first thread: users and limits are each thread's own.
    let prepared = prepare(&cli);
    let log_format = prepared.as_ref().map_or(Format::Text, |(setup, _)| setup.log_format);
    let (log, signals) = match (Log::start(cli.log_level, log_format), signals) {
        (Ok(log), Ok(signals)) => (log, signals),
        (Err(e), _) => give_up(&format!("start the log's writer: {e}")),
        (_, Err(e)) => give_up(&format!("open a descriptor for signals: {e}")),
    };
    let code = match prepared {
        Ok((setup, env)) => supervise(&cli, &setup, &env, &log, signals),
        Err(refusal) => refuse(&refusal, &log),
    };
    log.close(setup::LAST_WORDS);
    exit(code.into());
}

fn give_up(why: &str) -> ! {
    eprintln!("holdfast-supervisor: {why}");
    exit(Exit::System.code().into());
}

fn refuse(refusal: &Refusal, log: &Log) -> u8 {
    log.line(Level::Error, &format!("{refusal}; the app was not started"));
    refusal.exit.code()
}

/// Finds out what to run, gives up what root is not needed for, and looks whether the databases can live where they are.
fn prepare(cli: &Cli) -> Result<(Setup, Env), Refusal> {
    let mut notes = become_init();
    let origin = origin();
    let wanted = identity::resolve(cli.user.as_deref(), &origin)?;
    if let identity::As::Now(user) = &wanted {
        call_ourselves(user);
    }
    let env = Env::from_process();
    let mut setup = setup::set_up(cli, &env, seed())?;
    match wanted {
        identity::As::Before(warning) => notes.extend(warning.map(|text| (Level::Warn, text.to_owned()))),
        identity::As::Now(user) => {
            let failed = volume::give(&setup.places, &user);
            notes.extend(failed.into_iter().map(|line| (Level::Warn, line)));
            become_user(&user)?;
            let name = user.name.map(|name| format!(" ({name})")).unwrap_or_default();
            notes.push((Level::Info, format!("running as user {}:{}{name}", user.uid, user.gid)));
        }
    }
    notes.extend(keep_secrets(cli.no_new_privs));
    notes.extend(find_home(&setup, &origin));
    let doubts = volume::check(&setup.places, cli.allow_network_fs)?;
    notes.extend(doubts.into_iter().map(|line| (Level::Warn, line)));
    setup.notes.splice(0..0, notes);
    Ok((setup, env))
}

/// Who started us, and what the machine knows of users. A scratch image knows nothing.
fn origin() -> identity::Origin {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    identity::Origin {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        groups: nix::unistd::getgroups().map(|g| g.iter().map(|g| g.as_raw()).collect()).unwrap_or_default(),
        is_pid_1: std::process::id() == 1,
        passwd: text("/etc/passwd"),
        group: text("/etc/group"),
        uid_map: text("/proc/self/uid_map"),
    }
}

/// Root's own names are nobody's any more.
fn call_ourselves(user: &identity::User) {
    for name in ["USER", "LOGNAME"] {
        sys::set_variable(name, user.name.as_deref().map(OsStr::new));
    }
    if let Some(home) = &user.home {
        sys::set_variable("HOME", Some(home.as_os_str()));
    }
}

fn become_user(user: &identity::User) -> Result<(), Refusal> {
    sys::privileges::become_user(user.uid, user.gid, &user.groups).map_err(|(step, errno)| {
        let (uid, gid) = (user.uid, user.gid);
        let why = format!(
            "become user {uid}:{gid}: {step}: {}; start as that user (docker run --user {uid}:{gid}), or add the \
             capabilities CHOWN, SETUID and SETGID",
            errno.desc()
        );
        Refusal::from((Exit::Denied, why))
    })
}

/// What the environment of this process and of the agent holds is for them alone (SUP-207), and nobody below gets more
/// privileges than we have (SUP-403). After the change of user, which undoes some of it.
fn keep_secrets(no_new_privs: bool) -> Vec<(Level, String)> {
    let mut notes = Vec::new();
    // Verified (spec §9 X9): other processes of our user can then not read our environment.
    if let Err(e) = prctl::set_dumpable(false) {
        notes.push((Level::Warn, format!("hide the environment from other processes: {e}")));
    }
    if let Err(e) = sys::dump_no_core() {
        notes.push((Level::Warn, format!("turn core dumps off: {e}")));
    }
    if no_new_privs && let Err(e) = sys::privileges::forbid_new_privileges() {
        notes.push((Level::Warn, format!("forbid new privileges: {e}")));
    }
    notes
}

/// A home for a user that the machine does not know: the data directory, if the one it has cannot be written to (SUP-407).
/// Station is told what else it lacks where the root is read-only (SUP-408).
fn find_home(setup: &Setup, origin: &identity::Origin) -> Vec<(Level, String)> {
    let writable = |path: &Path| nix::unistd::eaccess(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let lacks = home.as_ref().is_none_or(|home| home == Path::new("/") || !writable(home));
    let data = setup.places.databases.first().and_then(|db| db.parent()).filter(|dir| writable(dir));
    let mut notes = Vec::new();
    match (lacks, data) {
        (true, Some(data)) if !origin.knows(nix::unistd::geteuid().as_raw()) => {
            sys::set_variable("HOME", Some(data.as_os_str()));
            notes.push((
                Level::Info,
                format!("HOME is {}: there was none that can be written to", data.display()),
            ));
        }
        (true, _) if setup.for_app.is_station => {
            let home = home.unwrap_or_else(|| "none".into());
            let home = home.display();
            notes.push((
                Level::Warn,
                format!("HOME ({home}) cannot be written to, and Station keeps its configuration there; mount a volume"),
            ));
        }
        _ => {}
    }
    if setup.for_app.is_station && !writable(Path::new("/tmp")) {
        let text =
            "/tmp cannot be written to, and Station's workflows and tools need it; mount one: --tmpfs /tmp";
        notes.push((Level::Warn, text.to_owned()));
    }
    notes
}

fn supervise(cli: &Cli, setup: &Setup, env: &Env, log: &Log, signals: SignalFd) -> u8 {
    for (level, note) in &setup.notes {
        log.line(*level, note);
    }
    let locks = match locks::take(setup, cli.lock_wait, &signals, log) {
        Ok(Ok(locks)) => locks,
        Ok(Err(stopped)) => return stopped,
        Err(refusal) => return refuse(&refusal, log),
    };
    match setup.ask.as_ref().map(|ask| preflight::ask(ask, &setup.rules.signals, &signals, log)) {
        None | Some(Ok(None)) => {}
        Some(Ok(Some(stopped))) => return stopped,
        Some(Err(refusal)) => return refuse(&refusal, log),
    }
    let wicket = open_wicket(cli, setup, log);
    let service = Service::from_env(env, std::process::id()).unwrap_or_else(|e| {
        log.line(Level::Warn, &format!("find systemd's socket: {e}; it will not hear that the app is ready"));
        None
    });
    emergency::plan(setup.rules.budget, &cli.termination_log);
    let outcome = Supervisor::new(setup, log, signals, wicket, service, &locks).run();
    report(&outcome, log, &cli.termination_log);
    outcome.code
}

/// `check`: what a start would do, in the agent's words; the exit code it would have.
fn check_start(cli: &Cli) -> u8 {
    // Nobody is supervised: what ends other programs ends this one, and with it the agent.
    let _ = SigSet::empty().thread_set_mask();
    let say = |line: &dyn std::fmt::Display| eprintln!("holdfast-supervisor: {line}");
    let setup = match setup::set_up(cli, &Env::from_process(), seed()) {
        Ok(setup) => setup,
        Err(refusal) => {
            say(&refusal);
            return refusal.exit.code();
        }
    };
    for (_, note) in &setup.notes {
        say(note);
    }
    launch::check(&setup).unwrap_or_else(|e| {
        say(&format_args!("start the agent: {e}"));
        Exit::System.code()
    })
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
fn open_wicket(cli: &Cli, setup: &Setup, log: &Log) -> Option<Arc<Wicket>> {
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

/// What PID 1 owes its descendants. None of it is worth not starting.
fn become_init() -> Vec<(Level, String)> {
    let mut notes = Vec::new();
    if let Err(e) = sys::keep_descriptors_to_ourselves() {
        notes.push((Level::Warn, format!("mark inherited descriptors close-on-exec: {e}")));
    }
    if std::process::id() != 1
        && let Err(e) = prctl::set_child_subreaper(true)
    {
        notes.push((Level::Warn, format!("become a subreaper: {e}; orphans of the app go to init")));
    }
    notes
}

/// The last two lines of every run.
fn report(outcome: &Outcome, log: &Log, termination_log: &Path) {
    if let Some((level, line)) = summary::proof(outcome) {
        log.line(level, &line);
    }
    let json = summary::json(outcome, log.dropped());
    log.raw(&json);
    if let Err(e) = summary::leave(termination_log, &json) {
        log.line(Level::Warn, &format!("write {}: {e}", termination_log.display()));
    }
}

/// Different for containers that start at the same moment.
fn seed() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let stack = &raw const time as usize as u64;
    time ^ stack.rotate_left(32) ^ u64::from(std::process::id())
}
