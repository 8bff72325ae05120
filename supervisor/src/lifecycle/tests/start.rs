//! What happens before the app: restores, the agent's `ready`, and what ends a run there.

use super::*;

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
