//! The agent while the app runs: it dies, hangs, is refused, sleeps.

use super::*;

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
