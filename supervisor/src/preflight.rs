//! Before an app starts whose database is on a server: does that answer? Runs the agent, which can speak to it, and waits.
//!
//! PID 1 has no TLS, and an app that starts without its database looks healthy for a while. So the agent asks once, with
//! the app's own token, and its exit code decides (spec §5.3).

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_config::control::{DATABASE_VAR, SUPERVISED_VAR};
use holdfast_config::exit::Exit;
use holdfast_config::systemd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::lifecycle::{Ended, Level};
use crate::log::Log;
use crate::setup::{Ask, Refusal};
use crate::signals::{Meaning, Sig, SignalMap};
use crate::sys::{self, Birth};

/// Asks; the exit code of a stop signal, if one came meanwhile.
pub(crate) fn ask(ask: &Ask, map: &SignalMap, signals: &SignalFd, log: &Log) -> Result<Option<u8>, Refusal> {
    let failed = |e: io::Error| (Exit::System, format!("start {}: {e}", ask.program.display()));
    let mut command = Command::new(&ask.program);
    command.args(["ask-database", "--wait", WAIT]).stdin(Stdio::null());
    command.stdout(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
    command.env_remove(systemd::SOCKET_VAR).env(SUPERVISED_VAR, "1").env(DATABASE_VAR, ask.url.expose());
    sys::prepare(&mut command, Birth::Restore, &[]);
    log.line(Level::Info, &format!("asking {} whether it answers", ask.what));
    let child = command.spawn().map_err(failed)?.id().cast_signed();
    let until = Instant::now() + PATIENCE;
    loop {
        let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ready, PollTimeout::from(PAUSE_MS));
        let mut stop = None;
        while let Ok(Some(info)) = signals.read_signal() {
            let sig = Sig::new(info.ssi_signo.cast_signed());
            if matches!(map.meaning(sig), Meaning::Stop | Meaning::Quit) {
                stop = Some(sig);
            }
        }
        // Nobody else has been started.
        while let Some((pid, ended)) = sys::reap() {
            if pid == child && stop.is_none() {
                return answered(ask, ended).map(|()| None);
            }
        }
        if let Some(sig) = stop {
            log.line(Level::Info, &format!("{sig}: the app was not started"));
            let _ = sys::kill(child, Sig::KILL);
            return Ok(Some(sig.exit_code()));
        }
        if Instant::now() >= until {
            let _ = sys::kill(child, Sig::KILL);
            return Err((Exit::Unavailable, format!("ask {}: no answer in time", ask.what)).into());
        }
    }
}

fn answered(ask: &Ask, ended: Ended) -> Result<(), Refusal> {
    let what = &ask.what;
    let (exit, why) = match Exit::from_code(ended.code()) {
        Some(Exit::Ok) => return Ok(()),
        Some(Exit::Unavailable) => {
            (Exit::Unavailable, format!("the app's database at {what} cannot be reached"))
        }
        Some(Exit::Denied) => (Exit::Denied, format!("the app's database at {what} refuses the token")),
        Some(Exit::Config) => (Exit::Config, format!("the app's database at {what} is not there")),
        _ => (Exit::Bug, format!("ask {what}: the agent {ended}")),
    };
    Err((exit, why).into())
}

/// How long the agent tries.
const WAIT: &str = "10s";
/// How long the agent has, its last request included.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE_MS: u8 = 50;
