//! Decisions. Events in, actions out, time as an argument. No clock, no process, no descriptor, no logging.
//!
//! One [`Lifecycle`] is one run of the supervisor. The shell ([`crate::run`]) feeds it what happened and does what
//! it answers; this file only decides. Time is a `Duration` since the supervisor started.
//!
//! ```text
//!              restore 0                agent `ready`           stop signal
//! Restoring ─────────────▶ Attaching ───────────────▶ Running ─────────────▶ Stopping
//!   │  ▲ 69                  │                          │ app ends             │ app ends, or A is over
//!   ▼  │                     │                          ▼                      ▼
//! Waiting                    │                       Orphans ◀─────────────────┘
//!   │                        │                          │ nobody left, or killed
//!   ▼ stop signal            ▼                          ▼
//! Aborting ─────▶ Gone    Aborting ─▶ Gone           Draining ──▶ Leaving ──▶ Gone
//! ```
//!
//! Without a replica `Restoring`, `Attaching`, `Draining` and `Leaving` are skipped. The states and their limits are
//! spec `supervisor.md` §2.2, the signals §2.3, the shares of the grace period §2.4.

mod agent;
mod attachment;
mod ending;
mod outcome;
mod reminder;
mod restore;
mod stop;
#[cfg(test)]
mod tests;
mod unit;
mod view;

use std::time::Duration;

use holdfast_config::control::{FromAgent, ToAgent};

pub(crate) use self::agent::Agent;
use self::agent::{Outage, Restarts};
use self::attachment::Watch;
pub(crate) use self::attachment::{Attached, Seen};
use self::ending::{Drain, Sweep};
pub(crate) use self::outcome::{Ended, Outcome, Progress, Sync};
use self::stop::Stop;
pub(crate) use self::view::{STATES, View};
use crate::budget::Budget;
use crate::signals::{Sig, SignalMap};

/// What stays the same for one run.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Databases to restore, the app's own first. Empty: no replica, PID-1 duties only.
    pub(crate) databases: Vec<String>,
    pub(crate) budget: Budget,
    /// How long an unreachable replica may keep a missing database from coming back.
    pub(crate) restore_wait: Duration,
    /// How long an agent may take from its start to `ready`.
    pub(crate) ready_wait: Duration,
    /// A ready agent silent for this long is killed and started again.
    pub(crate) heartbeat: Duration,
    pub(crate) second_term: SecondTerm,
    /// What each signal means.
    pub(crate) signals: SignalMap,
    /// What an agent that stays away means for the app.
    pub(crate) on_agent_failure: OnAgentFailure,
    /// How long it has to be away for that.
    pub(crate) agent_max_down: Duration,
    /// How long the app may take to open its database before somebody looks which one it has open; zero: nobody does.
    pub(crate) attach_wait: Duration,
    /// An incomplete final sync outranks the app's own exit code.
    pub(crate) strict_sync: bool,
    /// What is worth saying again and again while the app runs.
    pub(crate) reminder: Option<(Level, String)>,
    /// Seed of the jitter on every back-off.
    pub(crate) seed: u64,
}

/// What a repeated SIGTERM does. A restarted kubelet repeats it with a full new grace period, so it never hurries
/// unless told to (SUP-221).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecondTerm {
    /// Pass it on to the app; the budgets stay.
    Forward,
    /// As a repeated SIGINT: kill the app now, keep the time for the final sync.
    Hurry,
}

/// What happens when nothing has been replicated for too long (SUP-251). The agent is started again in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnAgentFailure {
    /// The app goes on; the log and the metrics say so.
    Continue,
    /// The app goes on and is not ready until the agent is back.
    Unready,
    /// The app is stopped as by SIGTERM; the exit code is 80.
    Stop,
}

/// Who a child process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Restore,
    Agent,
    App,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Begin,
    /// `from_kernel`: sent because our terminal went away, not by a process.
    Signal {
        sig: Sig,
        from_kernel: bool,
    },
    Exited {
        role: Role,
        ended: Ended,
    },
    /// So many ended children were none of ours: left behind by someone and adopted by us.
    OrphansReaped(u64),
    /// Fork or exec failed. `code` is what the shell would exit with: 126, 127, or 71 for want of resources.
    SpawnFailed {
        role: Role,
        code: u8,
        why: String,
    },
    Heard(FromAgent),
    /// The agent closed its end of the control socket.
    AgentClosed,
    /// How many processes are left beside us and the agent: the answer to [`Action::CountOrphans`].
    Orphans(usize),
    /// Which databases are open: the answer to [`Action::LookForDatabases`].
    Looked(Seen),
    /// The loop lost time: the machine was suspended or the container frozen. Silence before now means nothing.
    Resumed,
    /// [`Lifecycle::deadline`] has passed.
    Time,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Log(Level, String),
    /// Restore the database of this index if it does not exist.
    Restore(usize),
    StartAgent,
    StartApp,
    SignalRestore(Sig),
    KillAgent,
    Tell(ToAgent),
    SignalApp(Sig),
    /// SIGKILL for the app's whole process group.
    KillApp,
    CountOrphans,
    SignalOrphans(Sig),
    /// Find out which databases the app and its descendants have open.
    LookForDatabases,
    /// Write [`Lifecycle::describe`] to the log.
    Report,
}

/// How loud a log line is. `Error` means someone should get up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// Where the run stands.
#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Boot,
    Restoring { db: usize, tries: u32, give_up: Duration },
    Waiting { db: usize, tries: u32, give_up: Duration, until: Duration },
    Attaching,
    Aborting { code: u8, kill_at: Duration },
    Running,
    Stopping { kill_at: Duration },
    Killed { give_up: Duration },
    Orphans { sweep: Sweep, look_at: Duration },
    Draining(Drain),
    Leaving { code: u8, kill_at: Duration },
    Gone(u8),
}

impl Stage {
    /// The word in logs, in the status and in the summary's seconds.
    fn name(&self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Restoring { .. } | Self::Waiting { .. } => "restore",
            Self::Attaching => "attach",
            Self::Aborting { .. } => "abort",
            Self::Running => "run",
            Self::Stopping { .. } | Self::Killed { .. } => "stop",
            Self::Orphans { .. } => "orphans",
            Self::Draining(_) => "drain",
            Self::Leaving { .. } | Self::Gone(_) => "exit",
        }
    }
}

/// The app's side of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum App {
    NotStarted,
    Running,
    Ended(Ended),
    /// SIGKILLed and still not reaped: stuck in the kernel.
    Stuck,
}

/// One run of the supervisor, as a state machine.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    rules: Rules,
    stage: Stage,
    entered: Duration,
    app: App,
    agent: Agent,
    restarts: Restarts,
    outage: Outage,
    stop: Stop,
    progress: Progress,
    watch: Watch,
    /// When [`Rules::reminder`] was said last.
    reminded: Duration,
    out: Vec<Action>,
}

impl Lifecycle {
    pub(crate) fn new(rules: Rules) -> Self {
        let restarts = Restarts::new(rules.seed);
        Self {
            rules,
            stage: Stage::Boot,
            entered: Duration::ZERO,
            app: App::NotStarted,
            agent: Agent::Absent,
            restarts,
            outage: Outage::None,
            stop: Stop::default(),
            progress: Progress::default(),
            watch: Watch::default(),
            reminded: Duration::ZERO,
            out: Vec::new(),
        }
    }

    /// Takes one event at `now` and answers with what to do, in order.
    pub(crate) fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Begin => self.begin(now),
            Event::Signal { sig, from_kernel } => self.signalled(now, sig, from_kernel),
            Event::Exited { role: Role::Restore, ended } => self.restored(now, ended),
            Event::Exited { role: Role::Agent, ended } => self.agent_ended(now, ended),
            Event::Exited { role: Role::App, ended } => self.app_ended(now, ended),
            Event::OrphansReaped(count) => self.orphans_reaped(count),
            Event::SpawnFailed { role, code, why } => self.not_spawned(now, role, code, why),
            Event::Heard(message) => self.heard(now, message),
            Event::AgentClosed => self.agent_closed(now),
            Event::Orphans(left) => self.orphans(now, left),
            Event::Looked(seen) => self.looked(seen),
            Event::Resumed => self.resumed(now),
            Event::Time => self.time(now),
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Time`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let stage = match self.stage {
            Stage::Boot | Stage::Restoring { .. } | Stage::Attaching | Stage::Running | Stage::Gone(_) => {
                None
            }
            Stage::Waiting { until, .. } => Some(until),
            Stage::Aborting { kill_at, .. }
            | Stage::Stopping { kill_at }
            | Stage::Leaving { kill_at, .. } => Some(kill_at),
            Stage::Killed { give_up } => Some(give_up),
            Stage::Orphans { look_at, .. } => Some(look_at),
            Stage::Draining(Drain { give_up, .. }) => Some(give_up),
        };
        let others = [self.agent_deadline(), self.outage_deadline(), self.reminder_due(), self.look_due()];
        others.into_iter().chain([stage]).flatten().min()
    }

    /// The exit code, once there is nothing left to do.
    pub(crate) fn gone(&self) -> Option<u8> {
        match self.stage {
            Stage::Gone(code) => Some(code),
            _ => None,
        }
    }

    /// What to write about a run that is [`gone`](Self::gone).
    pub(crate) fn outcome(&self, now: Duration) -> Outcome {
        let app = match self.app {
            App::NotStarted | App::Running | App::Stuck => None,
            App::Ended(ended) => Some(ended),
        };
        self.progress.outcome(self.gone(), app, &self.stop, self.restarts.total(), now)
    }

    /// One line for people: where the run stands.
    pub(crate) fn describe(&self, now: Duration) -> String {
        let age = now.saturating_sub(self.entered);
        format!("state: {} for {:.1} s, {}", self.stage.name(), age.as_secs_f64(), self.standing())
    }

    /// The app's part and the agent's.
    fn standing(&self) -> String {
        let app = self.app_in_words();
        let replication = if self.rules.databases.is_empty() {
            "replication: none".to_owned()
        } else {
            let (agent, restarts) = (self.agent.name(), self.restarts.total());
            format!("agent: {agent} ({restarts} restarts), {}", self.progress.replication())
        };
        format!("app: {app}, {replication}")
    }

    fn app_in_words(&self) -> String {
        match self.app {
            App::NotStarted => "not started".to_owned(),
            App::Running => "running".to_owned(),
            App::Stuck => "stuck".to_owned(),
            App::Ended(ended) => ended.to_string(),
        }
    }

    fn replicated(&self) -> bool {
        !self.rules.databases.is_empty()
    }

    fn go(&mut self, now: Duration, stage: Stage) {
        self.progress.spend(self.stage.name(), now.saturating_sub(self.entered));
        self.entered = now;
        self.stage = stage;
    }

    fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    fn log(&mut self, level: Level, line: impl Into<String>) {
        self.act(Action::Log(level, line.into()));
    }

    fn begin(&mut self, now: Duration) {
        if self.replicated() {
            self.restore(now, 0);
        } else {
            self.start_app(now);
        }
    }

    // ---- The app

    fn start_app(&mut self, now: Duration) {
        self.go(now, Stage::Running);
        self.app = App::Running;
        self.watch(now);
        self.act(Action::StartApp);
    }

    fn app_ended(&mut self, now: Duration, ended: Ended) {
        self.app = App::Ended(ended);
        match self.stage {
            Stage::Running => {
                let level = if ended == Ended::Code(0) { Level::Info } else { Level::Error };
                self.log(level, format!("the app {ended}"));
                self.progress.cause(format!("the app {ended}"));
                self.sweep(now);
            }
            Stage::Stopping { .. } | Stage::Killed { .. } => {
                self.log(Level::Info, format!("the app {ended}"));
                self.sweep(now);
            }
            // A stuck app that was reaped after all: its exit code still counts.
            _ => {}
        }
    }

    fn not_spawned(&mut self, now: Duration, role: Role, code: u8, why: String) {
        self.log(Level::Error, why.clone());
        match role {
            Role::App => {
                self.app = App::Ended(Ended::NotStarted(code));
                self.progress.cause(why);
                self.sweep(now);
            }
            Role::Restore => {
                self.progress.cause(why);
                self.go(now, Stage::Gone(code));
            }
            Role::Agent => self.agent_ended(now, Ended::NotStarted(code)),
        }
    }

    // ---- Before the app

    /// Ends a run whose app was never started: the child at work gets [`ABORT`] to clean up.
    fn abort(&mut self, now: Duration, code: u8) {
        let aborting = Stage::Aborting { code, kill_at: now + ABORT };
        match self.stage {
            Stage::Boot | Stage::Waiting { .. } => self.go(now, Stage::Gone(code)),
            Stage::Restoring { .. } => {
                self.act(Action::SignalRestore(Sig::TERM));
                self.go(now, aborting);
            }
            Stage::Attaching => {
                self.act(Action::Tell(ToAgent::Exit {}));
                self.go(now, aborting);
            }
            Stage::Aborting { .. }
            | Stage::Running
            | Stage::Stopping { .. }
            | Stage::Killed { .. }
            | Stage::Orphans { .. }
            | Stage::Draining(_)
            | Stage::Leaving { .. }
            | Stage::Gone(_) => {}
        }
    }

    // ---- Time

    fn time(&mut self, now: Duration) {
        self.agent_time(now);
        self.remind(now);
        self.watch_time(now);
        self.outage_time(now);
        match self.stage.clone() {
            Stage::Waiting { db, tries, give_up, until } if now >= until => {
                self.go(now, Stage::Restoring { db, tries: tries + 1, give_up });
                self.act(Action::Restore(db));
            }
            Stage::Aborting { code, kill_at } if now >= kill_at => {
                self.act(Action::SignalRestore(Sig::KILL));
                self.act(Action::KillAgent);
                self.go(now, Stage::Gone(code));
            }
            Stage::Stopping { kill_at } if now >= kill_at => {
                let allowed = self.rules.budget.app.as_secs_f64();
                self.log(
                    Level::Warn,
                    format!("the app did not stop within {allowed:.1} s: SIGKILL to its group"),
                );
                self.kill_app(now);
            }
            Stage::Killed { give_up } if now >= give_up => {
                self.log(Level::Error, "the app survives SIGKILL; going on to the final sync");
                self.app = App::Stuck;
                self.sweep(now);
            }
            Stage::Orphans { look_at, .. } if now >= look_at => self.look(now),
            Stage::Draining(drain) if now >= drain.give_up => self.drain_overdue(now),
            Stage::Leaving { code, kill_at } if now >= kill_at => {
                self.act(Action::KillAgent);
                self.go(now, Stage::Gone(code));
            }
            Stage::Boot
            | Stage::Restoring { .. }
            | Stage::Waiting { .. }
            | Stage::Attaching
            | Stage::Aborting { .. }
            | Stage::Running
            | Stage::Stopping { .. }
            | Stage::Killed { .. }
            | Stage::Orphans { .. }
            | Stage::Draining(_)
            | Stage::Leaving { .. }
            | Stage::Gone(_) => {}
        }
    }
}

/// From a stop signal before the app has started to the SIGKILL of the child at work. The whole exit takes 200 ms.
const ABORT: Duration = Duration::from_millis(150);
