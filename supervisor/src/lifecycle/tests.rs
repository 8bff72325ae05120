//! The machine alone: no process, no clock. Times are milliseconds since the start.

use std::time::Duration;

use holdfast_config::control::{Drained, FromAgent, ReadyMode, Status, ToAgent};
use holdfast_config::exit::Exit;
use holdfast_config::systemd::Phase;

use super::outcome::exit_code;
use super::*;

mod agent;
mod attachment;
mod ending;
mod history;
mod outage;
mod signals;
mod start;
mod stop;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rules() -> Rules {
    Rules {
        databases: vec!["/data/x.db".into()],
        budget: Budget::replicated(ms(10_000)),
        restore_wait: ms(300_000),
        ready_wait: ms(10_000),
        heartbeat: ms(10_000),
        second_term: SecondTerm::Forward,
        signals: SignalMap::default(),
        on_agent_failure: OnAgentFailure::Continue,
        agent_max_down: ms(300_000),
        attach_wait: Duration::ZERO,
        strict_sync: false,
        reminder: None,
        seed: 1,
    }
}

fn ephemeral() -> Rules {
    Rules { databases: vec![], budget: Budget::ephemeral(ms(10_000)), ..rules() }
}

/// A machine and what it last asked for, without its log lines.
struct Run {
    machine: Lifecycle,
    log: Vec<String>,
}

impl Run {
    fn new(rules: Rules) -> Self {
        Self { machine: Lifecycle::new(rules), log: Vec::new() }
    }

    fn step(&mut self, at: u64, event: Event) -> Vec<Action> {
        let mut actions = self.machine.step(ms(at), event);
        actions.retain(|action| match action {
            Action::Log(_, line) => {
                self.log.push(line.clone());
                false
            }
            _ => true,
        });
        actions
    }

    fn signal(&mut self, at: u64, sig: Sig) -> Vec<Action> {
        self.step(at, Event::Signal { sig, from_kernel: false })
    }

    fn ended(&mut self, at: u64, role: Role, ended: Ended) -> Vec<Action> {
        self.step(at, Event::Exited { role, ended })
    }

    fn heard(&mut self, at: u64, message: FromAgent) -> Vec<Action> {
        self.step(at, Event::Heard(message))
    }

    /// Steps through every deadline up to `until`.
    fn wait(&mut self, until: u64) -> Vec<(u128, Action)> {
        let mut seen = Vec::new();
        while let Some(deadline) = self.machine.deadline().filter(|d| *d <= ms(until)) {
            assert!(seen.len() < 10_000, "time stands still: {seen:?}");
            let actions = self.step(u64::try_from(deadline.as_millis()).unwrap(), Event::Time);
            seen.extend(actions.into_iter().map(|a| (deadline.as_millis(), a)));
        }
        seen
    }

    /// A run whose app started at 0.
    fn running(rules: Rules) -> Self {
        let mut run = Self::new(rules);
        run.step(0, Event::Begin);
        if run.machine.replicated() {
            run.ended(0, Role::Restore, Ended::Code(0));
            assert_eq!(run.heard(0, ready()), [Action::StartApp]);
        }
        run
    }

    /// A run whose app ended at 0 by itself with `code`, and whose agent was asked to drain.
    fn draining(rules: Rules, code: u8) -> Self {
        let mut run = Self::running(rules);
        assert_eq!(run.ended(0, Role::App, Ended::Code(code)), [Action::CountOrphans]);
        assert_eq!(run.step(0, Event::Orphans(0)), [Action::Tell(ToAgent::Drain { deadline_ms: 30_000 })]);
        run
    }

    fn code(&self) -> Option<u8> {
        self.machine.gone()
    }
}

fn ready() -> FromAgent {
    FromAgent::Ready { mode: ReadyMode::Pinned, db: "/data/x.db".into() }
}

fn proof() -> Drained {
    Drained { ok: true, quiesced: true, wal_end: 9, position: "g/0:9".into(), ..Drained::default() }
}
