//! Decisions about the replicating agent: wait for `ready`, listen for its heartbeat, start it again when it dies.
//!
//! The app never suffers for the agent: once the app runs, an agent that dies, hangs or talks nonsense is started
//! again with a back-off, for ever, and loudly (SUP-241, SUP-250). Before the app runs, an agent that cannot get
//! ready ends the run, because an app nobody replicates is not what was asked for.

use std::time::Duration;

use holdfast_config::control::{FromAgent, ReadyMode, ToAgent};
use holdfast_config::exit::Exit;

use super::{Action, Ended, Level, Lifecycle, OnAgentFailure, Stage};

/// The agent's side of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    /// None is wanted yet, or at all.
    Absent,
    Starting {
        since: Duration,
    },
    Ready {
        since: Duration,
        heard: Duration,
    },
    /// Alive without a control socket; SIGKILL at `kill_at`, or already sent.
    Ending {
        healthy: Duration,
        kill_at: Option<Duration>,
    },
    Down {
        retry_at: Duration,
    },
}

impl Agent {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Ending { .. } => "ending",
            Self::Down { .. } => "down",
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// How long it has said nothing, if it is one that should.
    pub(super) fn silence(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Ready { heard, .. } => Some(now.saturating_sub(*heard)),
            Self::Absent | Self::Starting { .. } | Self::Ending { .. } | Self::Down { .. } => None,
        }
    }

    /// How long it has been ready without a break.
    fn healthy(&self, now: Duration) -> Duration {
        match self {
            Self::Ready { since, .. } => now.saturating_sub(*since),
            Self::Ending { healthy, .. } => *healthy,
            Self::Absent | Self::Starting { .. } | Self::Down { .. } => Duration::ZERO,
        }
    }
}

impl Lifecycle {
    pub(super) fn start_agent(&mut self, now: Duration) {
        self.agent = Agent::Starting { since: now };
        self.act(Action::StartAgent);
    }

    pub(super) fn heard(&mut self, now: Duration, message: FromAgent) {
        if let Agent::Ready { heard, .. } = &mut self.agent {
            *heard = now;
        }
        match message {
            FromAgent::Phase { name } => self.log(Level::Debug, format!("agent: {name}")),
            FromAgent::Ready { mode, db } => self.agent_ready(now, mode, &db),
            FromAgent::Status(status) => {
                self.watch_wal(&status);
                self.progress.status(status);
            }
            FromAgent::Drained(drained) => self.drained(now, drained),
            FromAgent::Fatal { code, message } => {
                self.log(Level::Error, format!("agent gives up with code {code}: {message}"));
            }
        }
    }

    fn agent_ready(&mut self, now: Duration, mode: ReadyMode, db: &str) {
        let Agent::Starting { since } = self.agent else { return };
        self.agent = Agent::Ready { since: now, heard: now };
        self.outage = Outage::None;
        let took = now.saturating_sub(since).as_millis();
        match mode {
            ReadyMode::Pinned => {
                self.log(Level::Info, format!("agent ready after {took} ms: {db} is pinned"))
            }
            ReadyMode::WaitingForDb => {
                self.log(
                    Level::Info,
                    format!("agent ready after {took} ms: waiting for {db} to exist in WAL mode"),
                );
            }
        }
        match self.stage {
            Stage::Attaching => self.start_app(now),
            Stage::Draining(_) => self.ask_to_drain(now),
            Stage::Stopping { .. } | Stage::Killed { .. } | Stage::Orphans { .. } => {
                self.act(Action::Tell(ToAgent::Flush {}));
            }
            Stage::Boot
            | Stage::Restoring { .. }
            | Stage::Waiting { .. }
            | Stage::Aborting { .. }
            | Stage::Running
            | Stage::Leaving { .. }
            | Stage::Gone(_) => {}
        }
    }

    pub(super) fn agent_ended(&mut self, now: Duration, ended: Ended) {
        let was = std::mem::replace(&mut self.agent, Agent::Absent);
        self.outage.begins(now);
        match self.stage {
            Stage::Attaching => self.attach_failed(now, ended),
            Stage::Aborting { code, .. } | Stage::Leaving { code, .. } => self.go(now, Stage::Gone(code)),
            Stage::Draining(_) => self.drain_interrupted(now, ended),
            Stage::Running | Stage::Stopping { .. } | Stage::Killed { .. } | Stage::Orphans { .. } => {
                let pause = self.restarts.pause(was.healthy(now), ended);
                let seconds = pause.as_secs_f64();
                self.log(
                    Level::Error,
                    format!("agent {ended}: nothing is replicated now; starting it again in {seconds:.2} s (the app keeps running)"),
                );
                self.agent = Agent::Down { retry_at: now + pause };
            }
            Stage::Boot | Stage::Restoring { .. } | Stage::Waiting { .. } | Stage::Gone(_) => {}
        }
    }

    fn attach_failed(&mut self, now: Duration, ended: Ended) {
        let code = match Exit::from_code(ended.code()) {
            Some(Exit::Ok) | None => Exit::Bug.code(),
            Some(exit) => exit.code(),
        };
        let why = format!("start agent: it {ended} before it was ready");
        self.log(Level::Error, format!("{why}; the app was not started"));
        self.progress.cause(why);
        self.go(now, Stage::Gone(code));
    }

    /// End of file on the control socket. It is probably exiting, with a code worth waiting a moment for.
    pub(super) fn agent_closed(&mut self, now: Duration) {
        match self.agent {
            Agent::Starting { .. } | Agent::Ready { .. } => {
                self.outage.begins(now);
                self.agent = Agent::Ending { healthy: self.agent.healthy(now), kill_at: Some(now + CLOSED) };
            }
            Agent::Absent | Agent::Ending { .. } | Agent::Down { .. } => {}
        }
    }

    /// Silence while nothing in this container could run is nobody's fault.
    pub(super) fn resumed(&mut self, now: Duration) {
        match &mut self.agent {
            Agent::Ready { heard: moment, .. } | Agent::Starting { since: moment } => *moment = now,
            Agent::Absent | Agent::Ending { .. } | Agent::Down { .. } => {}
        }
    }

    pub(super) fn agent_deadline(&self) -> Option<Duration> {
        match self.agent {
            Agent::Absent => None,
            Agent::Starting { since } => Some(since + self.rules.ready_wait),
            Agent::Ready { heard, .. } if self.listens() => Some(heard + self.rules.heartbeat),
            Agent::Ready { .. } => None,
            Agent::Ending { kill_at, .. } => kill_at,
            Agent::Down { retry_at } => Some(retry_at),
        }
    }

    /// A draining agent has a deadline of its own and may be too busy to speak.
    fn listens(&self) -> bool {
        !self.rules.heartbeat.is_zero()
            && !matches!(self.stage, Stage::Draining(_) | Stage::Leaving { .. } | Stage::Gone(_))
    }

    pub(super) fn agent_time(&mut self, now: Duration) {
        if self.agent_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.agent {
            Agent::Absent => {}
            Agent::Starting { .. } => {
                let waited = self.rules.ready_wait.as_secs_f64();
                self.agent_hung(now, format!("agent not ready after {waited:.0} s"));
            }
            Agent::Ready { .. } => {
                let silent = self.rules.heartbeat.as_secs_f64();
                self.agent_hung(now, format!("agent silent for {silent:.0} s"));
            }
            Agent::Ending { .. } => {
                self.agent_hung(now, "agent closed its control socket and lives on".to_owned());
            }
            Agent::Down { .. } => {
                self.restarts.started();
                self.start_agent(now);
            }
        }
    }

    /// When an agent that stays away has done so for too long.
    pub(super) fn outage_deadline(&self) -> Option<Duration> {
        match (&self.outage, &self.stage, self.rules.on_agent_failure) {
            (Outage::Since(since), Stage::Running, OnAgentFailure::Unready | OnAgentFailure::Stop) => {
                Some(*since + self.rules.agent_max_down)
            }
            _ => None,
        }
    }

    pub(super) fn outage_time(&mut self, now: Duration) {
        if self.outage_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.outage = Outage::TooLong;
        let away = self.rules.agent_max_down.as_secs_f64();
        let why = format!("no agent for {away:.0} s");
        match self.rules.on_agent_failure {
            OnAgentFailure::Continue => {}
            OnAgentFailure::Unready => {
                self.log(Level::Error, format!("{why}: the app is not ready until one is back"));
            }
            OnAgentFailure::Stop => {
                self.log(Level::Error, format!("{why}: the app is stopped"));
                self.stop_for_agent(now, why);
            }
        }
    }

    /// The app's readiness hangs on the agent, and the agent has been away for too long.
    pub(super) fn unready(&self) -> bool {
        self.rules.on_agent_failure == OnAgentFailure::Unready && self.outage == Outage::TooLong
    }

    fn agent_hung(&mut self, now: Duration, why: String) {
        self.outage.begins(now);
        self.act(Action::KillAgent);
        self.agent = Agent::Ending { healthy: self.agent.healthy(now), kill_at: None };
        match self.stage {
            Stage::Attaching => {
                self.log(Level::Error, format!("{why}: killed; the app was not started"));
                self.progress.cause(why);
                self.go(now, Stage::Gone(Exit::Bug.code()));
            }
            Stage::Boot
            | Stage::Restoring { .. }
            | Stage::Waiting { .. }
            | Stage::Aborting { .. }
            | Stage::Running
            | Stage::Stopping { .. }
            | Stage::Killed { .. }
            | Stage::Orphans { .. }
            | Stage::Draining(_)
            | Stage::Leaving { .. }
            | Stage::Gone(_) => self.log(Level::Error, format!("{why}: killed")),
        }
    }
}

/// How long nobody has replicated what the app writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    None,
    Since(Duration),
    /// Longer than [`Rules::agent_max_down`](super::Rules), and what the rules say has been done.
    TooLong,
}

impl Outage {
    fn begins(&mut self, now: Duration) {
        if *self == Self::None {
            *self = Self::Since(now);
        }
    }
}

/// How often the agent was started again, and when it may be next.
#[derive(Debug)]
pub(super) struct Restarts {
    in_a_row: usize,
    total: u32,
    random: u64,
}

impl Restarts {
    pub(super) fn new(seed: u64) -> Self {
        // xorshift stands still at zero.
        Self { in_a_row: 0, total: 0, random: seed | 1 }
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn started(&mut self) {
        self.total += 1;
    }

    /// The pause before the next start, after an agent that was healthy for so long.
    fn pause(&mut self, healthy: Duration, ended: Ended) -> Duration {
        if healthy >= HEALTHY {
            self.in_a_row = 0;
        }
        let nth = self.in_a_row;
        self.in_a_row += 1;
        let permanent = matches!(
            Exit::from_code(ended.code()),
            Some(Exit::Usage | Exit::LocalData | Exit::Denied | Exit::Config)
        );
        let last = PAUSES_MS.len() - 1;
        let pause = Duration::from_millis(PAUSES_MS[if permanent { last } else { nth.min(last) }]);
        self.jitter(pause)
    }

    /// `pause`, 20 % more or less in whole milliseconds, so that containers that fell together do not rise together.
    pub(super) fn jitter(&mut self, pause: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_millis((pause.as_secs_f64() * 1000.0 * (0.8 + 0.4 * part)).round() as u64)
    }
}

/// Milliseconds before the first, second, … start in a row (SUP-250).
const PAUSES_MS: [u64; 9] = [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000];
/// An agent ready for this long starts again from the shortest pause.
const HEALTHY: Duration = Duration::from_secs(60);
/// From end of file on the control socket to SIGKILL.
const CLOSED: Duration = Duration::from_secs(1);
