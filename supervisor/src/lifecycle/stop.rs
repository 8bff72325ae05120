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
        match sig.meaning() {
            Meaning::Ignore | Meaning::Reap => {}
            Meaning::Report => self.act(Action::Report),
            Meaning::Stop => self.stop(now, sig),
            // The terminal is gone. The app's group heard it from the kernel too, but may take it for a reload.
            Meaning::Hangup if from_kernel => self.stop(now, Sig::TERM),
            Meaning::Hangup => self.reload(),
            Meaning::Flush => self.flush(),
            Meaning::Quit => match self.stage {
                Stage::Running | Stage::Stopping { .. } | Stage::Killed { .. } => {
                    self.act(Action::SignalApp(sig))
                }
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
                Stage::Running | Stage::Stopping { .. } | Stage::Killed { .. } => {
                    self.act(Action::SignalApp(sig))
                }
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

    fn flush(&mut self) {
        if matches!(self.agent, Agent::Ready { .. }) {
            self.log(Level::Info, "SIGUSR1: the agent uploads now");
            self.act(Action::Tell(ToAgent::Flush {}));
        } else {
            self.log(Level::Warn, "SIGUSR1 ignored: no agent is ready");
        }
    }

    /// What we ourselves were told at the start holds to the end.
    fn reload(&mut self) {
        if matches!(self.agent, Agent::Ready { .. }) {
            self.log(Level::Info, "SIGHUP: the agent reads its configuration again");
            self.act(Action::Tell(ToAgent::Reload {}));
        } else {
            self.log(Level::Warn, "SIGHUP ignored: no agent is ready");
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
                    self.act(Action::SignalApp(sig));
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

    fn stop_app(&mut self, now: Duration, sig: Sig) {
        self.stop.first = Some((sig, now));
        let (allowed, grace) = (self.rules.budget.app.as_secs_f64(), self.rules.budget.grace.as_secs_f64());
        self.log(
            Level::Info,
            format!("{sig}: stopping; the app has {allowed:.1} s of the {grace:.1} s grace"),
        );
        self.progress.cause(sig.to_string());
        self.act(Action::SignalApp(sig));
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
