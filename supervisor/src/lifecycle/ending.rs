//! Decisions after the app: nobody may write any more, then the agent proves that the replica holds everything.
//!
//! Orphans of the app may hold the database open and commit (spec §1.5), so they go first: SIGTERM, the budget's
//! share of time, SIGKILL. Then `drain`; only `drained` with `ok`, `quiesced` and no lag is believed (SUP-262).

use std::time::Duration;

use holdfast_config::control::{Drained, ToAgent};
use holdfast_config::exit::Exit;

use super::outcome::{exit_code, proven};
use super::{Action, Agent, App, Ended, Level, Lifecycle, Stage, Sync};
use crate::signals::Sig;

/// How far the removal of orphans has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    Looking,
    Asked { kill_at: Duration },
    Killed { give_up: Duration },
}

/// How far the final sync has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) give_up: Duration,
    restarted: bool,
    /// SIGINT has been pressed once during the drain.
    warned: bool,
}

impl Lifecycle {
    // ---- Orphans

    pub(super) fn sweep(&mut self, now: Duration) {
        self.go(now, Stage::Orphans { sweep: Sweep::Looking, look_at: now + LOOK });
        self.act(Action::CountOrphans);
    }

    pub(super) fn look(&mut self, now: Duration) {
        if let Stage::Orphans { look_at, .. } = &mut self.stage {
            *look_at = now + LOOK;
        }
        self.act(Action::CountOrphans);
    }

    pub(super) fn orphans_reaped(&mut self, count: u64) {
        self.progress.reaped(count);
        if matches!(self.stage, Stage::Orphans { .. }) {
            self.act(Action::CountOrphans);
        }
    }

    pub(super) fn orphans(&mut self, now: Duration, left: usize) {
        let Stage::Orphans { sweep, .. } = self.stage else { return };
        if left == 0 {
            return self.drain(now);
        }
        let until = self.in_time(now + self.rules.budget.orphans);
        let sweep = match sweep {
            Sweep::Looking => {
                self.act(Action::SignalOrphans(Sig::TERM));
                Sweep::Asked { kill_at: until }
            }
            Sweep::Asked { kill_at } if now >= kill_at => {
                self.progress.killed(left);
                self.act(Action::SignalOrphans(Sig::KILL));
                Sweep::Killed { give_up: until }
            }
            Sweep::Killed { give_up } if now >= give_up => {
                self.log(
                    Level::Error,
                    format!("{left} processes survive SIGKILL; going on to the final sync"),
                );
                return self.drain(now);
            }
            // Whoever was forked in between.
            Sweep::Killed { .. } => {
                self.act(Action::SignalOrphans(Sig::KILL));
                sweep
            }
            Sweep::Asked { .. } => sweep,
        };
        // Not `go`: the time spent here is one phase.
        self.stage = Stage::Orphans { sweep, look_at: now + LOOK };
    }

    // ---- The final sync

    fn drain(&mut self, now: Duration) {
        if !self.replicated() {
            let code = self.exit_code();
            return self.go(now, Stage::Gone(code));
        }
        let give_up = match self.stop.t0() {
            Some(_) => self.in_time(Duration::MAX),
            None => now + UNHURRIED,
        };
        self.go(now, Stage::Draining(Drain { give_up, restarted: false, warned: false }));
        match self.agent {
            Agent::Ready { .. } => self.ask_to_drain(now),
            Agent::Starting { .. } | Agent::Ending { .. } => {}
            Agent::Absent | Agent::Down { .. } => self.start_agent(now),
        }
    }

    pub(super) fn ask_to_drain(&mut self, now: Duration) {
        if let Stage::Draining(drain) = self.stage {
            let left = drain.give_up.saturating_sub(now).as_millis();
            self.act(Action::Tell(ToAgent::Drain { deadline_ms: u64::try_from(left).unwrap_or(u64::MAX) }));
        }
    }

    pub(super) fn drained(&mut self, now: Duration, drained: Drained) {
        let Stage::Draining(_) = self.stage else { return };
        let sync = match proven(&drained) {
            Ok(()) => Sync::Proven(drained),
            Err(why) => Sync::Failed { why, drained: Some(drained) },
        };
        self.leave(now, sync);
    }

    /// The agent died while it should have synced. With time left, another one tries (SUP-255).
    pub(super) fn drain_interrupted(&mut self, now: Duration, ended: Ended) {
        let Stage::Draining(drain) = self.stage else { return };
        if !drain.restarted && now + WORTH_A_RESTART <= drain.give_up {
            self.log(Level::Error, format!("agent {ended} during the final sync: starting it once more"));
            self.stage = Stage::Draining(Drain { restarted: true, ..drain });
            self.restarts.started();
            self.start_agent(now);
        } else {
            self.leave(now, Sync::Failed { why: format!("the agent {ended} during it"), drained: None });
        }
    }

    pub(super) fn drain_overdue(&mut self, now: Duration) {
        self.abandon(now, "time is over".to_owned());
    }

    /// SIGINT after the app has gone: the first press warns, the second gives the backup up.
    pub(super) fn interrupted(&mut self, now: Duration) {
        let Stage::Draining(drain) = self.stage else { return };
        if drain.warned {
            self.abandon(now, "abandoned by SIGINT".to_owned());
        } else {
            self.log(Level::Warn, "SIGINT during the final sync: press again to abandon the backup");
            self.stage = Stage::Draining(Drain { warned: true, ..drain });
        }
    }

    fn abandon(&mut self, now: Duration, why: String) {
        self.progress.sync(Sync::Failed { why, drained: None });
        self.act(Action::KillAgent);
        let code = self.exit_code();
        self.go(now, Stage::Gone(code));
    }

    fn leave(&mut self, now: Duration, sync: Sync) {
        self.progress.sync(sync);
        let code = self.exit_code();
        match self.agent {
            Agent::Absent => self.go(now, Stage::Gone(code)),
            Agent::Starting { .. } | Agent::Ready { .. } | Agent::Ending { .. } | Agent::Down { .. } => {
                self.act(Action::Tell(ToAgent::Exit {}));
                self.go(now, Stage::Leaving { code, kill_at: now + LEAVE });
            }
        }
    }

    fn exit_code(&self) -> u8 {
        let app = match self.app {
            App::Ended(ended) => ended,
            App::Stuck | App::Running => Ended::Signal(Sig::KILL),
            App::NotStarted => Ended::NotStarted(Exit::Bug.code()),
        };
        let asked = self.stop.signal().map(|sig| [sig, self.rules.signals.for_app(sig)]);
        let instead = match (self.progress.sync_failed(), self.stop.for_agent()) {
            (true, _) if self.rules.strict_sync => return Exit::SyncIncomplete.code(),
            (_, true) => Some(Exit::AgentFailed),
            (true, false) => Some(Exit::SyncIncomplete),
            (false, false) => None,
        };
        exit_code(app, asked.as_ref().map_or(&[], |sigs| &sigs[..]), instead)
    }
}

/// Between two looks at who is left. A grandchild of another session is not our child: nobody tells us it has gone.
const LOOK: Duration = Duration::from_millis(50);
/// For the final sync when the app ended by itself and nobody is waiting for us to go.
const UNHURRIED: Duration = Duration::from_secs(30);
/// With less time than this left, a dead agent is not started again.
const WORTH_A_RESTART: Duration = Duration::from_millis(1500);
/// From `exit` to SIGKILL for an agent whose work is done.
const LEAVE: Duration = Duration::from_millis(200);
