//! Decisions about signals: which moment makes what of them (spec §2.3).
//!
//! The first stop signal starts the clock. A repeated SIGTERM shortens nothing; a repeated SIGINT is a human in a
//! hurry: first it costs the app its life, then, pressed twice more, the final sync.

use std::time::Duration;

use holdfast_config::control::ToAgent;

use super::{Action, Agent, Level, Lifecycle, SecondTerm, Stage};
use crate::signals::{Meaning, Sig};

/// The stop request, from the first signal on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// The first stop signal and when it came: `T0`.
    first: Option<(Sig, Duration)>,
    /// The last one that was not a mere echo.
    last: Option<(Sig, Duration)>,
    interrupts: u32,
    killed_app: bool,
    /// Nobody asked: the agent was away for too long.
    for_agent: bool,
}

impl Stop {
    pub(crate) fn signal(&self) -> Option<Sig> {
        self.first.map(|(sig, _)| sig)
    }

    pub(super) fn t0(&self) -> Option<Duration> {
        self.first.map(|(_, at)| at)
    }

    /// The app was ended by us, not by itself.
    pub(crate) fn killed_app(&self) -> bool {
        self.killed_app
    }

    pub(super) fn for_agent(&self) -> bool {
        self.for_agent
    }

    /// Whether `sig` is the same press of the same button. A broadcast and a forwarder may deliver it twice.
    fn echoes(&mut self, sig: Sig, now: Duration) -> bool {
        let echo = self.last.is_some_and(|(last, at)| last == sig && now.saturating_sub(at) < ECHO);
        if !echo {
            self.last = Some((sig, now));
        }
        echo
    }
}

impl Lifecycle {
    pub(super) fn signalled(&mut self, now: Duration, sig: Sig, from_kernel: bool) {
        // The terminal is gone. The app's group heard it from the kernel too, but may take it for a reload.
        if sig == Sig::HUP && from_kernel {
            return self.stop(now, Sig::TERM);
        }
        match self.rules.signals.meaning(sig) {
            Meaning::Ignore | Meaning::Reap => {}
            Meaning::Report => self.act(Action::Report),
            Meaning::Stop => self.stop(now, sig),
            Meaning::Hangup => self.tell_agent(sig, ToAgent::Reload {}, "reads its configuration again"),
            Meaning::Flush => self.tell_agent(sig, ToAgent::Flush {}, "uploads now"),
            Meaning::Quit => match self.stage {
                Stage::Running | Stage::Stopping { .. } | Stage::Killed { .. } => self.forward(sig),
                Stage::Boot | Stage::Restoring { .. } | Stage::Waiting { .. } | Stage::Attaching => {
                    self.stop_before_app(now, sig);
                }
                Stage::Aborting { .. }
                | Stage::Orphans { .. }
                | Stage::Draining(_)
                | Stage::Leaving { .. }
                | Stage::Gone(_) => {}
            },
            Meaning::Forward => match self.stage {
                Stage::Running | Stage::Stopping { .. } | Stage::Killed { .. } => self.forward(sig),
                Stage::Boot
                | Stage::Restoring { .. }
                | Stage::Waiting { .. }
                | Stage::Attaching
                | Stage::Aborting { .. }
                | Stage::Orphans { .. }
                | Stage::Draining(_)
                | Stage::Leaving { .. }
                | Stage::Gone(_) => {}
            },
        }
    }

    fn forward(&mut self, sig: Sig) {
        self.act(Action::SignalApp(self.rules.signals.for_app(sig)));
    }

    /// While there is an app. The final sync needs no hint, and what is to be synced must not change any more.
    fn tell_agent(&mut self, sig: Sig, message: ToAgent, what: &str) {
        let app = matches!(self.stage, Stage::Running | Stage::Stopping { .. } | Stage::Killed { .. });
        match (app, self.agent) {
            (true, Agent::Ready { .. }) => {
                self.log(Level::Info, format!("{sig}: the agent {what}"));
                self.act(Action::Tell(message));
            }
            (true, _) => self.log(Level::Warn, format!("{sig} ignored: no agent is ready")),
            (false, _) => self.log(Level::Warn, format!("{sig} ignored: there is no app whose agent {what}")),
        }
    }

    fn stop(&mut self, now: Duration, sig: Sig) {
        if self.stop.echoes(sig, now) {
            return self.log(Level::Debug, format!("{sig} again within {} ms: ignored", ECHO.as_millis()));
        }
        if sig == Sig::INT {
            self.stop.interrupts += 1;
        }
        match self.stage {
            Stage::Boot | Stage::Restoring { .. } | Stage::Waiting { .. } | Stage::Attaching => {
                self.stop_before_app(now, sig);
            }
            Stage::Running => self.stop_app(now, sig),
            Stage::Stopping { .. } => {
                let hurry = match sig {
                    Sig::INT => self.stop.interrupts >= 2,
                    Sig::TERM => self.rules.second_term == SecondTerm::Hurry,
                    _ => false,
                };
                if hurry {
                    self.log(Level::Warn, format!("{sig} again: SIGKILL to the app's group"));
                    self.kill_app(now);
                } else {
                    self.log(Level::Info, format!("{sig} again: forwarded to the app; the budgets stay"));
                    self.forward(sig);
                }
            }
            Stage::Orphans { .. } | Stage::Draining(_) => self.stop_while_ending(now, sig),
            Stage::Killed { .. } | Stage::Aborting { .. } | Stage::Leaving { .. } | Stage::Gone(_) => {}
        }
    }

    fn stop_before_app(&mut self, now: Duration, sig: Sig) {
        self.stop.first = Some((sig, now));
        let stage = self.stage.name();
        self.log(Level::Info, format!("{sig} in {stage}: the app is not started"));
        self.progress.cause(format!("{sig} in {stage}"));
        self.abort(now, sig.exit_code());
    }

    /// As SIGTERM would, but for the exit code.
    pub(super) fn stop_for_agent(&mut self, now: Duration, why: String) {
        self.stop.for_agent = true;
        self.progress.cause(why);
        self.stop_app(now, Sig::TERM);
    }

    fn stop_app(&mut self, now: Duration, sig: Sig) {
        self.stop.first = Some((sig, now));
        let (allowed, grace) = (self.rules.budget.app.as_secs_f64(), self.rules.budget.grace.as_secs_f64());
        self.log(
            Level::Info,
            format!("{sig}: stopping; the app has {allowed:.1} s of the {grace:.1} s grace"),
        );
        self.progress.cause(sig.to_string());
        self.forward(sig);
        match self.agent {
            // What the app wrote so far leaves while the app stops; the rest is only its last words (SUP-230).
            Agent::Ready { .. } => self.act(Action::Tell(ToAgent::Flush {})),
            Agent::Down { .. } => self.agent = Agent::Down { retry_at: now },
            Agent::Absent | Agent::Starting { .. } | Agent::Ending { .. } => {}
        }
        self.go(now, Stage::Stopping { kill_at: now + self.rules.budget.app });
    }

    pub(super) fn kill_app(&mut self, now: Duration) {
        self.stop.killed_app = true;
        self.act(Action::KillApp);
        let give_up = self.in_time(now + self.rules.budget.orphans);
        self.go(now, Stage::Killed { give_up });
    }

    /// `moment`, or the end of the grace less its margin if a stop makes that the earlier one.
    pub(super) fn in_time(&self, moment: Duration) -> Duration {
        self.stop.t0().map_or(moment, |t0| moment.min(t0 + self.rules.budget.sync_ends))
    }

    /// The app is gone. If it went by itself, this signal starts the clock; else only a human can change anything.
    fn stop_while_ending(&mut self, now: Duration, sig: Sig) {
        if self.stop.first.is_none() {
            self.stop.first = Some((sig, now));
            let ends = now + self.rules.budget.sync_ends;
            self.log(
                Level::Info,
                format!("{sig}: {:.1} s left for the final sync", self.rules.budget.sync_ends.as_secs_f64()),
            );
            if let Stage::Draining(drain) = &mut self.stage {
                drain.give_up = drain.give_up.min(ends);
            }
            return;
        }
        if sig == Sig::INT {
            self.interrupted(now);
        }
    }
}

/// The same signal within this time of the last is the same request.
const ECHO: Duration = Duration::from_millis(500);
