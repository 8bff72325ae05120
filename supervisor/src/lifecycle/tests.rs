//! The machine alone: no process, no clock. Times are milliseconds since the start.

use std::time::Duration;

use holdfast_config::control::{Drained, FromAgent, ReadyMode, Status, ToAgent};
use holdfast_config::exit::Exit;
use holdfast_config::systemd::Phase;

use super::outcome::exit_code;
use super::*;

mod attachment;
mod outage;
mod signals;

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

// ---- Start

#[test]
fn systemd_hears_ready_when_the_app_is_started_and_never_again_after_its_end() {
    let mut run = Run::new(rules());
    assert_eq!(run.machine.phase(), Phase::Restoring);
    run.step(0, Event::Begin);
    assert_eq!(run.machine.phase(), Phase::Restoring);
    assert_eq!(run.machine.status(), "restore: app: not started, agent: absent (0 restarts), no status yet");
    run.ended(5, Role::Restore, Ended::Code(0));
    assert_eq!(run.machine.phase(), Phase::Starting, "the WAL is not pinned yet");
    run.heard(9, ready());
    assert_eq!(run.machine.phase(), Phase::Ready);
    assert_eq!(run.machine.status(), "run: app: running, agent: ready (0 restarts), no status yet");
    run.ended(20, Role::App, Ended::Code(3));
    assert_eq!(
        run.machine.phase(),
        Phase::Stopping(ms(40_000)),
        "the final sync has time, grace or no grace"
    );

    let mut run = Run::running(Rules { budget: Budget::replicated(ms(90_000)), ..rules() });
    run.signal(5, Sig::TERM);
    assert_eq!(run.machine.phase(), Phase::Stopping(ms(90_000)));
}

#[test]
fn an_app_that_cannot_be_started_was_never_ready() {
    let mut run = Run::new(ephemeral());
    run.step(0, Event::Begin);
    run.step(0, Event::SpawnFailed { role: Role::App, code: 127, why: "start app: not found".into() });
    assert!(matches!(run.machine.phase(), Phase::Stopping(_)));
}

#[test]
fn without_a_replica_only_the_app_is_started() {
    let mut run = Run::new(ephemeral());
    assert_eq!(run.step(0, Event::Begin), [Action::StartApp]);
    assert_eq!(run.ended(5, Role::App, Ended::Code(7)), [Action::CountOrphans]);
    assert_eq!(run.step(5, Event::Orphans(0)), []);
    assert_eq!(run.code(), Some(7));
}

#[test]
fn the_app_waits_for_the_restore_and_for_ready() {
    let mut run = Run::new(rules());
    assert_eq!(run.step(0, Event::Begin), [Action::Restore(0)]);
    assert_eq!(run.ended(90, Role::Restore, Ended::Code(0)), [Action::StartAgent]);
    assert_eq!(run.heard(95, FromAgent::Phase { name: "attach".into() }), []);
    assert_eq!(run.heard(100, ready()), [Action::StartApp]);
}

#[test]
fn every_database_is_restored_before_the_agent_starts() {
    let mut run = Run::new(Rules { databases: vec!["/a".into(), "/b".into()], ..rules() });
    assert_eq!(run.step(0, Event::Begin), [Action::Restore(0)]);
    assert_eq!(run.ended(1, Role::Restore, Ended::Code(0)), [Action::Restore(1)]);
    assert_eq!(run.ended(2, Role::Restore, Ended::Code(0)), [Action::StartAgent]);
}

#[test]
fn any_other_restore_result_ends_the_run_with_its_code_and_starts_nothing() {
    let passed = [Exit::Ok, Exit::Unavailable].map(Exit::code);
    for code in (0..=255).filter(|code| !passed.contains(code)) {
        let mut run = Run::new(rules());
        run.step(0, Event::Begin);
        assert_eq!(run.ended(1, Role::Restore, Ended::Code(code)), [], "code {code}");
        assert_eq!(run.code(), Some(code));
    }
    let mut run = Run::new(rules());
    run.step(0, Event::Begin);
    assert_eq!(run.ended(1, Role::Restore, Ended::Signal(Sig::KILL)), []);
    assert_eq!(run.code(), Some(137));
}

#[test]
fn an_unreachable_replica_is_tried_again_until_the_wait_is_over() {
    let mut run = Run::new(Rules { restore_wait: ms(60_000), ..rules() });
    run.step(0, Event::Begin);
    let (mut at, mut pauses) = (0, Vec::new());
    while run.code().is_none() {
        run.ended(at, Role::Restore, Ended::Code(69));
        let Some(next) = run.machine.deadline() else { break };
        let next = u64::try_from(next.as_millis()).unwrap();
        assert_eq!(run.wait(next), [(u128::from(next), Action::Restore(0))]);
        pauses.push(next - at);
        at = next;
    }
    assert_eq!((run.code(), at), (Some(69), 60_000));
    for (pause, expected) in pauses.iter().zip([1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
        assert!((expected * 4 / 5..=expected * 6 / 5).contains(pause), "{pauses:?}");
    }
}

#[test]
fn an_agent_that_cannot_attach_ends_the_run_with_its_own_code() {
    for (ended, code) in [
        (Ended::Code(78), 78),
        (Ended::Code(75), 75),
        (Ended::Code(0), 70),
        (Ended::Code(3), 70),
        (Ended::Signal(Sig::KILL), 70),
        (Ended::NotStarted(71), 71),
    ] {
        let mut run = Run::new(rules());
        run.step(0, Event::Begin);
        run.ended(0, Role::Restore, Ended::Code(0));
        assert_eq!(run.ended(1, Role::Agent, ended), []);
        assert_eq!(run.code(), Some(code), "{ended:?}");
    }
}

#[test]
fn an_agent_that_never_gets_ready_is_killed_after_ten_seconds() {
    let mut run = Run::new(rules());
    run.step(0, Event::Begin);
    run.ended(50, Role::Restore, Ended::Code(0));
    assert_eq!(run.wait(60_000), [(10_050, Action::KillAgent)]);
    assert_eq!(run.code(), Some(70));
}

// ---- Signals before the app

#[test]
fn a_signal_during_the_restore_ends_it_within_200_ms() {
    let mut run = Run::new(rules());
    run.step(0, Event::Begin);
    assert_eq!(run.signal(10, Sig::TERM), [Action::SignalRestore(Sig::TERM)]);
    assert_eq!(run.wait(1_000), [(160, Action::SignalRestore(Sig::KILL)), (160, Action::KillAgent)]);
    assert_eq!(run.code(), Some(143));

    let mut run = Run::new(rules());
    run.step(0, Event::Begin);
    run.signal(10, Sig::INT);
    run.ended(20, Role::Restore, Ended::Signal(Sig::TERM));
    assert_eq!(run.code(), Some(130));
}

#[test]
fn a_signal_between_two_tries_ends_the_run_at_once() {
    let mut run = Run::new(rules());
    run.step(0, Event::Begin);
    run.ended(1, Role::Restore, Ended::Code(69));
    assert_eq!(run.signal(2, Sig::QUIT), []);
    assert_eq!(run.code(), Some(131));
}

#[test]
fn a_signal_while_attaching_sends_the_agent_home() {
    let mut run = Run::new(rules());
    run.step(0, Event::Begin);
    run.ended(0, Role::Restore, Ended::Code(0));
    assert_eq!(run.signal(10, Sig::TERM), [Action::Tell(ToAgent::Exit {})]);
    assert_eq!(run.heard(11, ready()), [], "too late");
    run.ended(12, Role::Agent, Ended::Code(0));
    assert_eq!(run.code(), Some(143));
}

// ---- Stopping

#[test]
fn a_stop_runs_through_app_orphans_and_proof() {
    let mut run = Run::running(rules());
    assert_eq!(run.signal(1_000, Sig::TERM), [Action::SignalApp(Sig::TERM), Action::Tell(ToAgent::Flush {})]);
    assert_eq!(run.ended(1_300, Role::App, Ended::Code(0)), [Action::CountOrphans]);
    assert_eq!(run.step(1_300, Event::Orphans(0)), [Action::Tell(ToAgent::Drain { deadline_ms: 9_200 })]);
    assert_eq!(run.heard(1_310, FromAgent::Drained(proof())), [Action::Tell(ToAgent::Exit {})]);
    assert_eq!(run.code(), None, "the agent is still closing");
    run.ended(1_320, Role::Agent, Ended::Code(0));
    assert_eq!(run.code(), Some(0));
    assert_eq!(run.machine.outcome(ms(1_320)).sync, Sync::Proven(proof()));
}

#[test]
fn a_hung_app_is_killed_at_a_and_the_rest_is_the_syncs() {
    let mut run = Run::running(rules());
    run.signal(1_000, Sig::TERM);
    run.heard(5_000, FromAgent::Status(Status::default()));
    assert_eq!(run.wait(6_100), [(6_000, Action::KillApp)]);
    assert_eq!(run.ended(6_001, Role::App, Ended::Signal(Sig::KILL)), [Action::CountOrphans]);
    assert_eq!(run.step(6_001, Event::Orphans(0)), [Action::Tell(ToAgent::Drain { deadline_ms: 4_499 })]);
    run.heard(6_050, FromAgent::Drained(proof()));
    run.ended(6_051, Role::Agent, Ended::Code(0));
    assert_eq!(run.code(), Some(137));
    assert!(run.machine.outcome(ms(6_051)).killed_app);
}

#[test]
fn an_app_stuck_in_the_kernel_does_not_cost_the_final_sync() {
    let mut run = Run::running(rules());
    run.signal(0, Sig::TERM);
    assert_eq!(run.wait(5_540), [(5_000, Action::KillApp), (5_500, Action::CountOrphans)]);
    run.step(5_600, Event::Orphans(1));
    run.step(6_100, Event::Orphans(1));
    assert_eq!(run.step(6_600, Event::Orphans(1)), [Action::Tell(ToAgent::Drain { deadline_ms: 2_900 })]);
    run.wait(60_000);
    assert_eq!(run.code(), Some(137));
}

#[test]
fn a_sync_that_takes_too_long_is_given_up_at_the_margin() {
    let mut run = Run::running(rules());
    run.signal(0, Sig::TERM);
    run.ended(100, Role::App, Ended::Code(0));
    run.step(100, Event::Orphans(0));
    assert_eq!(run.wait(60_000), [(9_500, Action::KillAgent)]);
    assert_eq!(run.code(), Some(74));
}

#[test]
fn a_second_term_is_forwarded_and_shortens_nothing() {
    let mut run = Run::running(rules());
    run.signal(0, Sig::TERM);
    assert_eq!(run.signal(1_000, Sig::TERM), [Action::SignalApp(Sig::TERM)]);
    assert_eq!(run.machine.deadline(), Some(ms(5_000)));
}

#[test]
fn a_second_term_hurries_when_told_to() {
    let mut run = Run::running(Rules { second_term: SecondTerm::Hurry, ..rules() });
    run.signal(0, Sig::TERM);
    assert_eq!(run.signal(1_000, Sig::TERM), [Action::KillApp]);
}

#[test]
fn an_echo_within_half_a_second_is_one_signal() {
    let mut run = Run::running(rules());
    assert_eq!(run.signal(0, Sig::TERM).len(), 2);
    assert_eq!(run.signal(100, Sig::TERM), []);
    assert_eq!(run.signal(499, Sig::TERM), []);
    assert_eq!(run.signal(500, Sig::TERM), [Action::SignalApp(Sig::TERM)]);
}

#[test]
fn a_second_interrupt_kills_the_app_and_keeps_the_sync() {
    let mut run = Run::running(rules());
    assert_eq!(run.signal(0, Sig::INT)[0], Action::SignalApp(Sig::INT));
    assert_eq!(run.signal(600, Sig::INT), [Action::KillApp]);
    run.ended(601, Role::App, Ended::Signal(Sig::KILL));
    assert_eq!(run.step(601, Event::Orphans(0)), [Action::Tell(ToAgent::Drain { deadline_ms: 8_899 })]);
    run.heard(700, FromAgent::Drained(proof()));
    run.ended(701, Role::Agent, Ended::Code(0));
    assert_eq!(run.code(), Some(137));
}

#[test]
fn an_interrupt_after_a_term_is_the_first_interrupt() {
    let mut run = Run::running(rules());
    run.signal(0, Sig::TERM);
    assert_eq!(run.signal(600, Sig::INT), [Action::SignalApp(Sig::INT)]);
    assert_eq!(run.signal(1_200, Sig::INT), [Action::KillApp]);
}

#[test]
fn two_interrupts_during_the_sync_abandon_it() {
    let mut run = Run::running(rules());
    run.signal(0, Sig::INT);
    run.ended(100, Role::App, Ended::Code(0));
    run.step(100, Event::Orphans(0));
    assert_eq!(run.signal(1_000, Sig::INT), []);
    assert_eq!(run.code(), None);
    assert_eq!(run.signal(2_000, Sig::INT), [Action::KillAgent]);
    assert_eq!(run.code(), Some(74));
}

#[test]
fn signals_reach_the_app_or_nobody() {
    let mut run = Run::running(rules());
    let winch = Sig::new(nix::libc::SIGWINCH);
    let realtime = Sig::new(nix::libc::SIGRTMIN() + 5);
    for sig in [winch, realtime, Sig::CONT, Sig::QUIT] {
        assert_eq!(run.signal(0, sig), [Action::SignalApp(sig)]);
    }
    for sig in [Sig::TSTP, Sig::TTIN, Sig::TTOU, Sig::PIPE, Sig::CHLD] {
        assert_eq!(run.signal(0, sig), [], "{sig}");
    }
    assert_eq!(run.signal(0, Sig::USR1), [Action::Tell(ToAgent::Flush {})]);
    assert_eq!(run.signal(0, Sig::USR2), [Action::Report]);
    run.signal(0, Sig::TERM);
    assert_eq!(run.signal(1, winch), [Action::SignalApp(winch)]);
    run.ended(2, Role::App, Ended::Code(0));
    assert_eq!(run.signal(3, winch), [], "nobody is left to forward to");
}

#[test]
fn a_lost_terminal_is_a_stop_and_a_hangup_from_a_process_is_not() {
    let mut run = Run::running(rules());
    let reload = run.step(0, Event::Signal { sig: Sig::HUP, from_kernel: false });
    let told: Vec<_> = reload.into_iter().filter(|a| !matches!(a, Action::Log(..))).collect();
    assert_eq!(told, [Action::Tell(ToAgent::Reload {})]);
    let actions = run.step(0, Event::Signal { sig: Sig::HUP, from_kernel: true });
    assert_eq!(actions[0], Action::SignalApp(Sig::TERM));
}

// ---- The crash path

#[test]
fn an_app_that_ends_by_itself_is_synced_with_thirty_seconds() {
    for code in [0, 7, 200] {
        let mut run = Run::draining(rules(), code);
        run.heard(50, FromAgent::Drained(proof()));
        run.ended(60, Role::Agent, Ended::Code(0));
        assert_eq!(run.code(), Some(code));
    }
}

#[test]
fn a_stop_during_the_crash_path_starts_the_clock() {
    let mut run = Run::draining(rules(), 7);
    run.signal(1_000, Sig::TERM);
    assert_eq!(run.machine.deadline(), Some(ms(10_500)));
    let mut late = Run::draining(rules(), 7);
    late.signal(25_000, Sig::TERM);
    assert_eq!(late.machine.deadline(), Some(ms(30_000)), "never later than before");
}

#[test]
fn an_app_that_cannot_be_started_still_gets_its_final_sync() {
    let mut run = Run::running(rules());
    let failed = Event::SpawnFailed { role: Role::App, code: 127, why: "start /nope: not found".into() };
    assert_eq!(run.step(0, failed), [Action::CountOrphans]);
    assert!(matches!(run.step(0, Event::Orphans(0))[..], [Action::Tell(ToAgent::Drain { .. })]));
    run.heard(1, FromAgent::Drained(proof()));
    run.ended(2, Role::Agent, Ended::Code(0));
    assert_eq!(run.code(), Some(127));
}

#[test]
fn orphans_get_term_then_kill_then_the_sync_begins() {
    let mut run = Run::running(rules());
    run.ended(0, Role::App, Ended::Code(0));
    assert_eq!(run.step(0, Event::Orphans(2)), [Action::SignalOrphans(Sig::TERM)]);
    assert_eq!(run.wait(50), [(50, Action::CountOrphans)]);
    assert_eq!(run.step(50, Event::Orphans(2)), []);
    assert_eq!(run.step(60, Event::OrphansReaped(1)), [Action::CountOrphans]);
    assert_eq!(run.step(60, Event::Orphans(1)), []);
    assert_eq!(run.step(500, Event::Orphans(1)), [Action::SignalOrphans(Sig::KILL)]);
    assert_eq!(run.step(510, Event::OrphansReaped(1)), [Action::CountOrphans]);
    assert!(matches!(run.step(510, Event::Orphans(0))[..], [Action::Tell(ToAgent::Drain { .. })]));
    assert_eq!(run.machine.outcome(ms(510)).orphans_killed, 1);
}

#[test]
fn orphans_that_survive_sigkill_do_not_hold_the_sync_for_ever() {
    let mut run = Run::running(rules());
    run.ended(0, Role::App, Ended::Code(0));
    run.step(0, Event::Orphans(1));
    run.step(500, Event::Orphans(1));
    assert!(matches!(run.step(1_000, Event::Orphans(1))[..], [Action::Tell(ToAgent::Drain { .. })]));
}

// ---- The agent while the app runs

#[test]
fn an_agent_that_dies_comes_back_ever_more_slowly_and_the_app_never_notices() {
    let mut run = Run::running(rules());
    let mut at = 0;
    for expected in [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        assert_eq!(run.ended(at, Role::Agent, Ended::Signal(Sig::KILL)), []);
        let due = run.machine.deadline().unwrap();
        let pause = due - ms(at);
        assert!(
            (ms(expected * 4 / 5)..=ms(expected * 6 / 5)).contains(&pause),
            "{pause:?} instead of {expected} ms"
        );
        assert_eq!(run.machine.step(due, Event::Time), [Action::StartAgent]);
        at = u64::try_from(due.as_millis()).unwrap() + 1;
        assert_eq!(run.heard(at, ready()), []);
    }
    assert_eq!(run.machine.restarts.total(), 10);
    assert_eq!(run.machine.app, App::Running);
}

#[test]
fn a_minute_of_health_forgives_earlier_deaths() {
    let mut run = Run::running(rules());
    for at in [0, 1_000] {
        run.ended(at, Role::Agent, Ended::Code(1));
        run.wait(at + 900);
        run.heard(at + 900, ready());
    }
    run.machine.step(ms(62_000), Event::Resumed);
    // What the loop sees first when an agent dies.
    run.step(62_000, Event::AgentClosed);
    run.ended(62_000, Role::Agent, Ended::Code(1));
    assert_eq!(run.machine.deadline(), Some(ms(62_000)), "again without a pause");
}

#[test]
fn an_agent_refused_for_good_is_not_tried_fast() {
    for code in [64, 65, 77, 78] {
        let mut run = Run::running(rules());
        run.ended(0, Role::Agent, Ended::Code(code));
        assert!(run.machine.deadline().unwrap() >= ms(24_000), "{code}");
    }
}

#[test]
fn a_silent_agent_is_killed_and_started_again() {
    let mut run = Run::running(rules());
    run.heard(5_000, FromAgent::Status(Status::default()));
    assert_eq!(run.wait(60_000), [(15_000, Action::KillAgent)]);
    run.ended(15_001, Role::Agent, Ended::Signal(Sig::KILL));
    assert_eq!(run.wait(15_001), [(15_001, Action::StartAgent)]);
}

#[test]
fn time_the_whole_machine_slept_is_not_the_agents_silence() {
    let mut run = Run::running(rules());
    run.step(3_600_000, Event::Resumed);
    assert_eq!(run.machine.deadline(), Some(ms(3_610_000)));
}

#[test]
fn an_agent_that_closes_its_socket_has_a_second_to_exit_with_its_own_code() {
    let mut run = Run::running(rules());
    assert_eq!(run.step(0, Event::AgentClosed), []);
    assert_eq!(run.wait(60_000), [(1_000, Action::KillAgent)]);

    let mut run = Run::running(rules());
    run.step(0, Event::AgentClosed);
    run.ended(2, Role::Agent, Ended::Code(78));
    assert!(run.machine.deadline().unwrap() >= ms(24_000), "78 was seen");
}

#[test]
fn an_agent_that_is_down_when_the_stop_comes_is_started_for_the_drain() {
    let mut run = Run::running(rules());
    run.ended(0, Role::Agent, Ended::Code(78));
    assert_eq!(run.signal(1_000, Sig::TERM), [Action::SignalApp(Sig::TERM)]);
    assert_eq!(run.wait(1_000), [(1_000, Action::StartAgent)]);
    assert_eq!(run.heard(1_050, ready()), [Action::Tell(ToAgent::Flush {})]);
}

// ---- The final sync

#[test]
fn only_a_consistent_proof_is_believed() {
    let lies = [
        Drained { ok: false, ..proof() },
        Drained { quiesced: false, ..proof() },
        Drained { lag_bytes: 1, ..proof() },
        Drained::default(),
    ];
    for lie in lies {
        let mut run = Run::draining(rules(), 0);
        run.heard(50, FromAgent::Drained(lie.clone()));
        run.ended(60, Role::Agent, Ended::Code(0));
        assert_eq!(run.code(), Some(74), "{lie:?}");
    }
}

#[test]
fn an_agent_that_dies_in_the_sync_gets_one_successor_if_there_is_time() {
    let mut run = Run::draining(rules(), 0);
    assert_eq!(run.ended(1_000, Role::Agent, Ended::Signal(Sig::KILL)), [Action::StartAgent]);
    assert_eq!(run.heard(1_100, ready()), [Action::Tell(ToAgent::Drain { deadline_ms: 28_900 })]);
    assert_eq!(run.ended(2_000, Role::Agent, Ended::Signal(Sig::KILL)), [], "not a third");
    assert_eq!(run.code(), Some(74));

    let mut late = Run::draining(rules(), 0);
    assert_eq!(late.ended(29_000, Role::Agent, Ended::Signal(Sig::KILL)), []);
    assert_eq!(late.code(), Some(74));
}

#[test]
fn an_agent_that_will_not_leave_is_killed() {
    let mut run = Run::draining(rules(), 0);
    run.heard(50, FromAgent::Drained(proof()));
    assert_eq!(run.wait(60_000), [(250, Action::KillAgent)]);
    assert_eq!(run.code(), Some(0), "the proof stands");
}

#[test]
fn the_exit_code_is_the_apps_unless_the_app_was_fine_and_the_sync_was_not() {
    let (stop, none): (&[Sig], &[Sig]) = (&[Sig::TERM], &[]);
    let code = |app, stop, failed: bool| exit_code(app, stop, failed.then_some(Exit::SyncIncomplete));
    assert_eq!(code(Ended::Code(0), none, false), 0);
    assert_eq!(code(Ended::Code(0), none, true), 74);
    assert_eq!(code(Ended::Code(5), none, true), 5);
    assert_eq!(code(Ended::Signal(Sig::TERM), stop, false), 143);
    assert_eq!(code(Ended::Signal(Sig::TERM), stop, true), 74);
    assert_eq!(code(Ended::Code(143), stop, true), 74);
    assert_eq!(code(Ended::Code(130), stop, true), 74);
    assert_eq!(code(Ended::Signal(Sig::PWR), &[Sig::PWR], true), 74);
    assert_eq!(code(Ended::Signal(Sig::TERM), none, true), 143, "someone else's TERM is not our stop");
    assert_eq!(code(Ended::Signal(Sig::KILL), stop, true), 137);
    assert_eq!(code(Ended::Signal(Sig::QUIT), stop, true), 131);
    assert_eq!(code(Ended::Signal(Sig::QUIT), &[Sig::TERM, Sig::QUIT], true), 74, "it was sent instead");
}

// ---- All of it at once

/// The longest step of the test below.
const LOOK_MS: u64 = 50;

/// Whatever happens, in any order: the run ends by itself once a stop has come, within the grace.
#[test]
fn after_a_stop_every_history_ends_within_the_grace() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    for seed in seed..seed + 2_000 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut machine = Lifecycle::new(if seed % 5 == 0 { ephemeral() } else { rules() });
        let (mut now, mut app, mut starts) = (0, false, 0);
        let stop_at = next(20_000);
        let mut queue = vec![Event::Begin];
        let mut stopped = false;
        while machine.gone().is_none() {
            let event = queue.pop().unwrap_or_else(|| match next(12) {
                0 => Event::Heard(ready()),
                1 => {
                    Event::Heard(FromAgent::Drained(if next(2) == 0 { proof() } else { Drained::default() }))
                }
                2 => {
                    Event::Exited { role: Role::Agent, ended: Ended::Code(u8::try_from(next(100)).unwrap()) }
                }
                3 if !app => {
                    Event::Exited { role: Role::Restore, ended: Ended::Code([0, 0, 69][next(3) as usize]) }
                }
                4 if app && next(8) == 0 => Event::Exited { role: Role::App, ended: Ended::Code(0) },
                5 => Event::AgentClosed,
                6 => Event::OrphansReaped(1 + next(3)),
                7 => Event::Signal { sig: Sig::USR1, from_kernel: false },
                8 => Event::Heard(FromAgent::Status(Status::default())),
                _ => Event::Time,
            });
            if let Event::Exited { role: Role::App, .. } = event {
                app = false;
            }
            for action in machine.step(ms(now), event) {
                match action {
                    Action::StartApp => {
                        (app, starts) = (true, starts + 1);
                    }
                    Action::CountOrphans => queue.push(Event::Orphans(next(3) as usize)),
                    _ => {}
                }
            }
            now += next(LOOK_MS);
            if !stopped && now >= stop_at {
                stopped = true;
                queue.push(Event::Signal { sig: Sig::TERM, from_kernel: false });
            }
            // The last two looks at the orphans, each one step late; or the agent's farewell.
            assert!(
                now <= stop_at + 9_500 + 4 * LOOK_MS,
                "SEED={seed}: still {} at {now}",
                machine.describe(ms(now))
            );
        }
        assert!(starts <= 1, "SEED={seed}: the app was started {starts} times");
    }
}

#[test]
fn what_has_to_be_remembered_is_said_every_six_hours_while_the_app_runs() {
    let hours = |n: u64| n * 3_600_000;
    let mut run = Run::new(Rules { reminder: Some((Level::Error, "no replica".into())), ..ephemeral() });
    run.step(0, Event::Begin);
    assert_eq!(run.machine.deadline(), Some(ms(hours(6))));
    run.step(hours(6) - 1, Event::Time);
    assert!(run.log.is_empty(), "{:?}", run.log);
    run.step(hours(6), Event::Time);
    run.step(hours(12), Event::Time);
    assert_eq!(run.log, ["no replica"; 2]);
    run.signal(hours(13), Sig::TERM);
    run.step(hours(18), Event::Time);
    assert_eq!(run.log.iter().filter(|line| *line == "no replica").count(), 2, "{:?}", run.log);
    assert_eq!(Run::new(ephemeral()).machine.deadline(), None);
}
