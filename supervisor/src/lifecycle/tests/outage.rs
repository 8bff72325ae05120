//! An agent that stays away: what `-on-agent-failure` makes of it (SUP-251).

use super::*;

fn after_a_minute(what: OnAgentFailure) -> Rules {
    Rules { on_agent_failure: what, agent_max_down: ms(60_000), ..rules() }
}

/// A run whose agent is refused for good, again and again, until `until`.
fn refused(rules: Rules, until: u64) -> (Run, Vec<Action>) {
    let mut run = Run::running(rules);
    let mut seen = Vec::new();
    run.ended(0, Role::Agent, Ended::Code(78));
    while let Some(deadline) = run.machine.deadline().filter(|d| *d <= ms(until)) {
        let at = u64::try_from(deadline.as_millis()).unwrap();
        let actions = run.step(at, Event::Time);
        let started = actions.contains(&Action::StartAgent);
        seen.extend(actions);
        if started {
            run.ended(at, Role::Agent, Ended::Code(78));
        }
        if run.machine.stop.for_agent() {
            break;
        }
    }
    (run, seen)
}

/// Steps to the moment an agent is started, and says when that is.
fn next_start(run: &mut Run) -> u64 {
    loop {
        let at = u64::try_from(run.machine.deadline().unwrap().as_millis()).unwrap();
        if run.step(at, Event::Time).contains(&Action::StartAgent) {
            return at;
        }
    }
}

#[test]
fn t33_an_agent_refused_for_good_is_tried_every_half_minute_and_the_app_goes_on() {
    let (run, seen) = refused(rules(), 600_000);
    let starts = seen.iter().filter(|action| **action == Action::StartAgent).count();
    assert_eq!(starts, seen.len(), "nothing else happens: {seen:?}");
    // Every 30 s, a fifth more or less.
    assert!((16..=25).contains(&starts), "{starts} starts in ten minutes");
    assert!(!run.machine.view(ms(600_000)).agent_missed);
}

#[test]
fn t33_an_agent_that_stays_away_can_make_the_app_unready_until_it_is_back() {
    let (mut run, _) = refused(after_a_minute(OnAgentFailure::Unready), 59_000);
    assert!(!run.machine.view(ms(59_000)).agent_missed);
    run.wait(60_000);
    let view = run.machine.view(ms(60_000));
    assert!(view.agent_missed && view.running, "the app goes on");
    assert!(
        run.log.iter().any(|line| line.contains("no agent for 60 s: the app is not ready")),
        "{:?}",
        run.log
    );
    let back = next_start(&mut run);
    run.heard(back, ready());
    assert!(!run.machine.view(ms(back)).agent_missed);
}

#[test]
fn t33_an_agent_that_stays_away_can_stop_the_app_with_80() {
    let (mut run, seen) = refused(after_a_minute(OnAgentFailure::Stop), 600_000);
    assert!(seen.contains(&Action::SignalApp(Sig::TERM)), "{seen:?}");
    run.ended(60_100, Role::App, Ended::Signal(Sig::TERM));
    run.step(60_100, Event::Orphans(0));
    // A last try for the final sync, which fails like all others.
    run.ended(60_200, Role::Agent, Ended::Code(78));
    run.ended(60_300, Role::Agent, Ended::Code(78));
    assert_eq!(run.code(), Some(80));
    assert_eq!(run.machine.outcome(ms(60_300)).cause, "no agent for 60 s");
}

#[test]
fn an_app_that_fails_while_it_is_stopped_for_the_agent_keeps_its_code() {
    for (strict_sync, code) in [(false, 9), (true, 74)] {
        let rules = Rules { strict_sync, ..after_a_minute(OnAgentFailure::Stop) };
        let (mut run, _) = refused(rules, 600_000);
        run.ended(60_100, Role::App, Ended::Code(9));
        run.step(60_100, Event::Orphans(0));
        run.wait(100_000);
        assert_eq!(run.code(), Some(code));
    }
}

#[test]
fn an_agent_that_comes_back_in_time_is_forgiven() {
    let mut run = Run::running(after_a_minute(OnAgentFailure::Stop));
    let mut at = 0;
    for _ in 0..5 {
        // Away for half a minute, here for a second.
        run.ended(at, Role::Agent, Ended::Code(78));
        at = next_start(&mut run);
        run.heard(at, ready());
        at += 1_000;
    }
    assert!(at > 120_000 && run.machine.stop.t0().is_none(), "{at}");
}
