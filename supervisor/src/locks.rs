//! One supervisor or agent per database. Makes the locks' files, and waits while another process has them.
//!
//! The lock is the supervisor's, not its agent's: an agent that is started again must not let anybody in between, and the
//! app is what may run only once. The agent inherits it, so that a killed supervisor's agent still has it while it drains.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use holdfast_config::exit::Exit;
use holdfast_config::lock::Lock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::lifecycle::Level;
use crate::log::Log;
use crate::setup::{Refusal, Setup, bounded};
use crate::signals::{Meaning, Sig};

/// Takes the lock of every database that is restored and replicated, waiting `patience` for whoever has one. A stop signal
/// ends the wait: the exit code it ends with.
pub(crate) fn take(
    setup: &Setup,
    patience: Duration,
    signals: &SignalFd,
    log: &Log,
) -> Result<Result<Vec<Lock>, u8>, Refusal> {
    let until = Instant::now() + bounded(patience);
    let mut locks = Vec::new();
    for db in setup.agent.iter().flat_map(|agent| &agent.databases) {
        let mut told = false;
        loop {
            let failed = |e: io::Error| {
                let exit = match e.kind() {
                    io::ErrorKind::PermissionDenied => Exit::Denied,
                    _ => Exit::CannotCreate,
                };
                (exit, format!("lock {}: {e}", db.display()))
            };
            if let Some(lock) = Lock::try_take(db).map_err(failed)? {
                locks.push(lock);
                break;
            }
            if Instant::now() >= until {
                let db = db.display();
                return Err((
                    Exit::Busy,
                    format!(
                        "lock {db}: another supervisor or agent has had it for {} s; stop that one, or give this one a \
                         database of its own",
                        patience.as_secs()
                    ),
                )
                    .into());
            }
            if !std::mem::replace(&mut told, true) {
                log.line(
                    Level::Info,
                    &format!("{}: waiting for another supervisor or agent to end", db.display()),
                );
            }
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::from(PAUSE_MS));
            while let Ok(Some(info)) = signals.read_signal() {
                let sig = Sig::new(info.ssi_signo.cast_signed());
                if matches!(setup.rules.signals.meaning(sig), Meaning::Stop | Meaning::Quit) {
                    log.line(Level::Info, &format!("{sig}: the app was not started"));
                    return Ok(Err(sig.exit_code()));
                }
            }
        }
    }
    Ok(Ok(locks))
}

/// Milliseconds between two tries.
const PAUSE_MS: u8 = 50;
