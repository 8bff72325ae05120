//! How each child is started: as what, with which environment and which descriptors. Starts processes; waits for none but
//! those of `check`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};

use holdfast_config::control::{FD_VAR, SUPERVISED_VAR};
use holdfast_config::exit::Exit;
use holdfast_config::systemd;
use nix::libc;

use crate::control::Control;
use crate::lifecycle::{Event, Role};
use crate::setup::{AgentSetup, Setup};
use crate::sys::{self, Birth};

/// The agent, to decide what the app may start on, and to restore the database of that index if that is the answer. Its
/// process id, or that it could not be started.
pub(crate) fn restore(setup: &Setup, database: usize, locks: &[RawFd]) -> Result<i32, Event> {
    let agent = agent_of(setup)?;
    let fail = || failed(Role::Restore, "start the restore");
    let mut command = decision_command(agent, &agent.databases[database]).map_err(fail())?;
    sys::prepare(&mut command, Birth::Restore, locks);
    spawn(command).map_err(fail())
}

/// The agent, to replicate, and our end of its control socket.
pub(crate) fn agent(setup: &Setup, locks: &[RawFd]) -> Result<(i32, Control), Event> {
    let agent = agent_of(setup)?;
    let fail = || failed(Role::Agent, "start the agent");
    let (ours, theirs) = Control::pair().map_err(fail())?;
    let mut command = agent_command(agent, "replicate").map_err(fail())?;
    add_config(&mut command, agent);
    command.env(FD_VAR, theirs.as_raw_fd().to_string());
    sys::prepare(&mut command, Birth::Agent { control: theirs.as_raw_fd() }, locks);
    Ok((spawn(command).map_err(fail())?, ours))
}

/// The app; in the terminal's foreground if that is ours to give.
pub(crate) fn app(setup: &Setup, foreground: bool) -> Result<i32, Event> {
    let [program, args @ ..] = setup.command.as_slice() else {
        return Err(not_started(Role::App, Exit::Usage.code(), "start the app: no command".into()));
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(setup.for_app.vars(std::env::vars_os()));
    sys::prepare(&mut command, Birth::App { foreground }, &[]);
    spawn(command).map_err(failed(Role::App, &format!("start {}", program.display())))
}

fn agent_of(setup: &Setup) -> Result<&AgentSetup, Event> {
    setup
        .agent
        .as_ref()
        .ok_or_else(|| not_started(Role::Agent, Exit::Bug.code(), "start the agent: none is set up".into()))
}

/// The agent as a child: it reads nothing, and what it prints goes to our stderr, because stdout is the app's.
fn agent_command(agent: &AgentSetup, verb: &str) -> io::Result<Command> {
    let mut command = Command::new(&agent.program);
    command.arg(verb).stdin(Stdio::null()).stdout(io::stderr().as_fd().try_clone_to_owned()?);
    // It is our word that systemd waits for.
    command.env_remove(systemd::SOCKET_VAR).env(SUPERVISED_VAR, "1");
    if agent.config.is_none() {
        command.env("SUPERVISOR_DB", &agent.database);
    }
    Ok(command)
}

/// The agent as it decides what the app may start on, and restores if that is the answer.
fn decision_command(agent: &AgentSetup, database: &Path) -> io::Result<Command> {
    let mut command = agent_command(agent, "restore")?;
    command.arg("-for-start").args(&agent.start);
    add_config(&mut command, agent);
    command.arg(database);
    Ok(command)
}

/// Lets the agent say for each database what a start would do; the first exit code that is not 0.
pub(crate) fn check(setup: &Setup) -> io::Result<u8> {
    let Some(agent) = &setup.agent else { return Ok(Exit::Ok.code()) };
    let mut first = Exit::Ok.code();
    for database in &agent.databases {
        let mut command = decision_command(agent, database)?;
        // The findings are what was asked for: they are stdout's.
        command.arg("-dry-run").stdout(Stdio::inherit());
        sys::prepare(&mut command, Birth::Restore, &[]);
        let status = command.status()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Bug.code());
        if first == Exit::Ok.code() {
            first = code;
        }
    }
    Ok(first)
}

fn add_config(command: &mut Command, agent: &AgentSetup) {
    if let Some(file) = &agent.config {
        command.args([OsStr::new("-config"), file.as_os_str()]);
    }
}

/// Starts `command` and forgets std's handle on it: only [`sys::reap`] waits for children.
fn spawn(mut command: Command) -> io::Result<i32> {
    let child = command.spawn()?;
    Ok(child.id().cast_signed())
}

fn failed(role: Role, what: &str) -> impl FnOnce(io::Error) -> Event {
    let what = what.to_owned();
    move |e| {
        let out_of =
            [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE].map(Some).contains(&e.raw_os_error());
        let code = match (role, e.kind()) {
            (Role::Agent | Role::Restore, _) => Exit::System,
            (Role::App, _) if out_of => Exit::System,
            (Role::App, io::ErrorKind::NotFound) => Exit::NotFound,
            (Role::App, _) => Exit::NotExecutable,
        };
        not_started(role, code.code(), format!("{what}: {e}"))
    }
}

fn not_started(role: Role, code: u8, why: String) -> Event {
    Event::SpawnFailed { role, code, why }
}
