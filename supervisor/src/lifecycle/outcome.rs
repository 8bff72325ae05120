//! How a run ended, as values: the exit code's rule, what the final sync proved, where the time went.

use std::fmt;
use std::time::Duration;

use holdfast_config::control::{Drained, Status};
use holdfast_config::exit::Exit;

use super::stop::Stop;
use crate::signals::Sig;

/// How a child ended. Prints as `exited 7`, `was ended by SIGTERM` or `could not be started`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(u8),
    Signal(Sig),
    /// The exec failed; the code a shell would give: 126 or 127.
    NotStarted(u8),
}

impl Ended {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) | Self::NotStarted(code) => code,
            Self::Signal(sig) => sig.exit_code(),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited {code}"),
            Self::Signal(sig) => write!(f, "was ended by {sig}"),
            Self::NotStarted(_) => f.write_str("could not be started"),
        }
    }
}

/// What the final sync came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Sync {
    /// No replica, or no app ever ran.
    #[default]
    NotNeeded,
    Proven(Drained),
    Failed {
        why: String,
        drained: Option<Drained>,
    },
}

/// Whether `drained` proves that the replica holds every commit; else why not. `ok` alone is not enough: an agent
/// that contradicts itself is not believed.
pub(super) fn proven(drained: &Drained) -> Result<(), String> {
    match drained {
        Drained { ok: true, quiesced: true, lag_bytes: 0, .. } => Ok(()),
        Drained { ok: true, lag_bytes, .. } if *lag_bytes > 0 => {
            Err(format!("the agent reports success with {lag_bytes} bytes of lag"))
        }
        Drained { ok: true, .. } => Err("the agent reports success while someone may still write".to_owned()),
        Drained { error: Some(error), .. } => Err(error.clone()),
        Drained { quiesced: false, .. } => Err("someone else still holds the database".to_owned()),
        Drained { lag_bytes, .. } => Err(format!("{lag_bytes} bytes are not on the replica")),
    }
}

/// The supervisor's exit code: the app's own, unless the app was fine and something else was not: `instead`.
///
/// Fine is 0, or the end a stop of ours brings: 143, 130, or 128 + one of the signals it was `stopped_by`.
pub(super) fn exit_code(app: Ended, stopped_by: &[Sig], instead: Option<Exit>) -> u8 {
    let own = app.code();
    let brought = [Sig::TERM, Sig::INT];
    let stopped =
        !stopped_by.is_empty() && stopped_by.iter().chain(&brought).any(|sig| own == sig.exit_code());
    match instead {
        Some(exit) if own == 0 || stopped => exit.code(),
        Some(_) | None => own,
    }
}

/// What happened so far, collected for the summary.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    cause: Option<String>,
    sync: Sync,
    spent: Vec<(&'static str, Duration)>,
    databases: Vec<Status>,
    reaped: u64,
    orphans_killed: usize,
}

impl Progress {
    /// The first cause is the one that counts.
    pub(super) fn cause(&mut self, cause: String) {
        self.cause.get_or_insert(cause);
    }

    pub(super) fn spend(&mut self, phase: &'static str, time: Duration) {
        self.spent = self.spent_with(phase, time);
    }

    /// What was spent, and `time` more in `phase`.
    pub(super) fn spent_with(&self, phase: &'static str, time: Duration) -> Vec<(&'static str, Duration)> {
        let mut spent = self.spent.clone();
        match spent.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, total)) => *total += time,
            None => spent.push((phase, time)),
        }
        spent
    }

    pub(super) fn status(&mut self, status: Status) {
        match self.databases.iter().position(|known| known.db == status.db) {
            Some(known) => self.databases[known] = status,
            None if self.databases.len() < MAX_DATABASES => self.databases.push(status),
            None => {}
        }
    }

    pub(super) fn reaped(&mut self, orphans: u64) {
        self.reaped += orphans;
    }

    pub(super) fn killed(&mut self, orphans: usize) {
        self.orphans_killed += orphans;
    }

    pub(super) fn sync(&mut self, sync: Sync) {
        self.sync = sync;
    }

    pub(super) fn sync_failed(&self) -> bool {
        matches!(self.sync, Sync::Failed { .. })
    }

    /// How many were reaped, and how many of them had to be killed.
    pub(super) fn orphans(&self) -> (u64, usize) {
        (self.reaped, self.orphans_killed)
    }

    pub(super) fn databases(&self) -> &[Status] {
        &self.databases
    }

    /// Lag and positions, for the status line.
    pub(super) fn replication(&self) -> String {
        let one = |s: &Status| {
            let error = s.error.as_ref().map(|e| format!(", error: {e}")).unwrap_or_default();
            format!("{} at {} with {} bytes of lag{error}", s.db, s.position, s.lag_bytes)
        };
        match self.databases.as_slice() {
            [] => "no status yet".to_owned(),
            known => known.iter().map(one).collect::<Vec<_>>().join("; "),
        }
    }

    pub(super) fn outcome(
        &self,
        code: Option<u8>,
        app: Option<Ended>,
        stop: &Stop,
        agent_restarts: u32,
        now: Duration,
    ) -> Outcome {
        Outcome {
            code: code.unwrap_or(Exit::Bug.code()),
            cause: self.cause.clone().unwrap_or_default(),
            app,
            killed_app: stop.killed_app(),
            sync: self.sync.clone(),
            agent_restarts,
            orphans_reaped: self.reaped,
            orphans_killed: self.orphans_killed,
            spent: self.spent.clone(),
            total: now,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) code: u8,
    pub(crate) cause: String,
    pub(crate) app: Option<Ended>,
    pub(crate) killed_app: bool,
    pub(crate) sync: Sync,
    pub(crate) agent_restarts: u32,
    pub(crate) orphans_reaped: u64,
    pub(crate) orphans_killed: usize,
    /// Time per phase, in the order they were first entered.
    pub(crate) spent: Vec<(&'static str, Duration)>,
    pub(crate) total: Duration,
}

/// More databases than anyone configures; an agent that invents names must not fill PID 1's memory.
const MAX_DATABASES: usize = 1024;
