//! After the app: orphans, the final sync, the exit code.

use super::*;

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
