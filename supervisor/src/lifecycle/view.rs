//! What the outside may see of a run at one moment. Values only.

use std::time::Duration;

use holdfast_config::control::Status;

use super::{App, Attached, Lifecycle, Stage};

/// One moment of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// One of [`STATES`].
    pub(crate) state: &'static str,
    /// How long it has been in this state.
    pub(crate) age: Duration,
    pub(crate) uptime: Duration,
    /// How long it has been in each state so far, in the order they were first entered.
    pub(crate) spent: Vec<(&'static str, Duration)>,
    /// From the first stop signal to the platform's SIGKILL, as far as we know.
    pub(crate) grace: Duration,
    /// The app lives, and nobody has asked for its end.
    pub(crate) running: bool,
    pub(crate) app: String,
    /// There is a replica to write to.
    pub(crate) replicated: bool,
    pub(crate) agent: &'static str,
    pub(crate) agent_up: bool,
    /// How long ago a ready agent last said anything.
    pub(crate) agent_silence: Option<Duration>,
    /// The agent has been away for so long that the app is not to be called ready.
    pub(crate) agent_missed: bool,
    pub(crate) agent_restarts: u32,
    /// Whether the app has a database open that is replicated.
    pub(crate) attached: Attached,
    pub(crate) databases: Vec<Status>,
    pub(crate) orphans_reaped: u64,
    pub(crate) orphans_killed: usize,
    /// Lines nobody read in time. The log is the shell's: it fills this in.
    pub(crate) log_dropped: u64,
}

/// Every word [`View::state`] may be.
pub(crate) const STATES: [&str; 9] =
    ["boot", "restore", "attach", "abort", "run", "stop", "orphans", "drain", "exit"];

impl Lifecycle {
    /// How things stand at `now`.
    pub(crate) fn view(&self, now: Duration) -> View {
        let (orphans_reaped, orphans_killed) = self.progress.orphans();
        let age = now.saturating_sub(self.entered);
        View {
            state: self.stage.name(),
            age,
            uptime: now,
            spent: self.progress.spent_with(self.stage.name(), age),
            grace: self.rules.budget.grace,
            running: self.app == App::Running && matches!(self.stage, Stage::Running),
            app: self.app_in_words(),
            replicated: self.replicated(),
            agent: self.agent.name(),
            agent_up: self.agent.is_ready(),
            agent_silence: self.agent.silence(now),
            agent_missed: self.unready(),
            agent_restarts: self.restarts.total(),
            attached: self.watch.attached().clone(),
            databases: self.progress.databases().to_vec(),
            orphans_reaped,
            orphans_killed,
            log_dropped: 0,
        }
    }
}
