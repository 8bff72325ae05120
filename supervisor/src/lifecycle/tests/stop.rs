//! A stop, from the first signal to the end of the app, and who gets which signal.

use super::*;

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
