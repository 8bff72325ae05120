//! Real signals on a real supervisor: who gets them, how long everything may take, and what the exit code says.
//!
//! The numbers in the names are those of the supervisor's specification, §8.2. Upper bounds leave room for a busy
//! machine wherever they are not themselves the promise.

use std::time::Duration;

use holdfast_tests::in_both_roles;
use holdfast_tests::supervised::{As, Scene};
use nix::sys::signal::Signal;

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

in_both_roles! {
    fn t01_e01_the_apps_code_is_ours_and_the_final_sync_ran(role) {
        for code in [0, 7, 200] {
            let run = Scene::new(role).var("FA_RUN_MS", 20).var("FA_EXIT", code).run().expect(code);
            assert!(run.first("agent drain").at >= run.first("app end").at);
            assert_eq!(run.count("agent exit"), 1);
            assert_eq!(run.summary()["sync"]["ok"], true);
            assert!(run.stderr.contains("final sync proven"), "{}", run.stderr);
        }
    }
}

in_both_roles! {
    fn t02_an_app_killed_by_a_signal_ends_us_with_128_plus_n(role) {
        for (name, code) in [("SEGV", 139), ("KILL", 137)] {
            let run = Scene::new(role).var("FA_RUN_MS", 20).var("FA_KILL", name).run().expect(code);
            assert_eq!(run.count("agent drain"), 1);
            assert_eq!(run.summary()["app"]["signal"], format!("SIG{name}"));
            assert_eq!(run.summary()["app"]["killed_by"], serde_json::Value::Null);
        }
    }
}

in_both_roles! {
    fn t03_a_stop_is_one_term_for_the_app_and_a_drain_after_its_end(role) {
        let run = Scene::new(role).var("FA_STOP_MS", 300).start();
        run.wait_for("app start");
        run.signal(Signal::SIGTERM);
        let run = run.wait().expect(0);
        assert_eq!(run.count("app signal TERM"), 1);
        assert_eq!(run.count("app signal"), 1, "and nothing else: {:?}", run.happened);
        let (flush, end, drain) = (run.first("agent flush").at, run.first("app end").at, run.first("agent drain").at);
        assert!(flush < end && end <= drain, "flush {flush}, end {end}, drain {drain}");
        assert_eq!(run.summary()["cause"], "SIGTERM");
    }
}

#[test]
fn t04_a_hung_app_is_killed_at_a_and_the_final_sync_still_runs() {
    let run = Scene::new(As::Pid1).var("FA_IGNORE", "TERM").start();
    run.wait_for("app start");
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(137);
    let t0 = run.first("app signal TERM").at;
    let drain = run.first("agent drain").at - t0;
    assert!((4_900..7_000).contains(&drain), "the drain began after {drain} ms");
    assert!(run.at - t0 < 9_500, "it took {} ms", run.at - t0);
    assert_eq!(run.summary()["app"]["killed_by"], "supervisor");
    assert_eq!(run.summary()["sync"]["ok"], true);
}

#[test]
fn t05_an_app_that_needs_three_seconds_is_not_killed_and_leaves_six_for_the_sync() {
    let run = Scene::new(As::Pid1).var("FA_STOP_MS", 3_300).start();
    run.wait_for("app start");
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    let deadline = run.first("agent drain").what["agent drain ".len()..].parse::<u64>().unwrap();
    assert!((5_000..=6_200).contains(&deadline), "the drain had {deadline} ms");
}

#[test]
fn t06_e09_a_sync_that_takes_too_long_is_given_up_within_the_grace() {
    let run = Scene::new(As::Pid1).var("FG_DRAIN_MS", 20_000).start();
    run.wait_for("app start");
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(74);
    let took = run.at - run.first("app signal TERM").at;
    assert!((9_400..10_000).contains(&took), "it took {took} ms");
    assert!(run.stderr.contains("final sync NOT complete: time is over"), "{}", run.stderr);
}

#[test]
fn t07_the_apps_failure_outranks_the_syncs_unless_strict() {
    let scene = || Scene::new(As::Pid1).var("FA_RUN_MS", 20).var("FA_EXIT", 5).var("FG_FAIL", 1);
    let run = scene().run().expect(5);
    assert_eq!(run.summary()["sync"]["why"], "the replica is full");
    scene().flags(["-strict-sync"]).run().expect(74);
}

#[test]
fn t08_a_second_term_is_forwarded_and_kills_nobody() {
    let run = Scene::new(As::Pid1).var("FA_STOP_MS", 2_000).start();
    run.wait_for("app start");
    run.signal(Signal::SIGTERM);
    pause(1_000);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!(run.count("app signal TERM"), 2);
    assert_eq!(run.count("app end"), 1);
}

#[test]
fn t08_a_second_term_hurries_if_told_to() {
    let run = Scene::new(As::Pid1).var("FA_STOP_MS", 4_000).flags(["--second-term", "hurry"]).start();
    run.wait_for("app start");
    run.signal(Signal::SIGTERM);
    pause(700);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(137);
    assert_eq!(run.count("app end"), 0);
    assert_eq!(run.summary()["sync"]["ok"], true);
}

#[test]
fn t09_e11_a_second_interrupt_kills_the_app_and_keeps_the_sync() {
    let run = Scene::new(As::Pid1).var("FA_IGNORE", "INT").start();
    run.wait_for("app start");
    run.signal(Signal::SIGINT);
    run.wait_for("app signal INT");
    pause(700);
    run.signal(Signal::SIGINT);
    let run = run.wait().expect(137);
    let drain = run.first("agent drain").at - run.first("app signal INT").at;
    assert!(drain < 4_000, "killed at once, not at 5 s: {drain}");
    assert_eq!(run.summary()["sync"]["ok"], true);
}

#[test]
fn t10_two_interrupts_during_the_sync_abandon_it() {
    let run = Scene::new(As::Pid1).var("FG_DRAIN_MS", 60_000).flags(["--stop-grace", "60s"]).start();
    run.wait_for("app start");
    run.signal(Signal::SIGINT);
    run.wait_for("agent drain");
    pause(600);
    run.signal(Signal::SIGINT);
    run.wait_log("press again to abandon");
    pause(600);
    let pressed = holdfast_tests::supervised::monotonic_ms();
    run.signal(Signal::SIGINT);
    let run = run.wait().expect(74);
    assert!(run.at - pressed < 1_000, "it took {} ms", run.at - pressed);
    assert!(run.stderr.contains("abandoned by SIGINT"), "{}", run.stderr);
}

#[test]
fn t11_the_same_signal_within_half_a_second_is_one() {
    let run = Scene::new(As::Pid1).var("FA_STOP_MS", 300).start();
    run.wait_for("app start");
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait().expect(0).count("app signal TERM"), 1);
}

in_both_roles! {
    fn t12_e10_signals_for_the_app_arrive_and_ours_do_not(role) {
        let run = Scene::new(role).start();
        run.wait_for("app start");
        for ours in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
            run.signal(ours);
        }
        run.wait_for("agent flush");
        run.wait_for("agent reload");
        run.wait_log("state: run for");
        for (signal, name) in [(Signal::SIGQUIT, "QUIT"), (Signal::SIGWINCH, "WINCH"), (Signal::SIGCONT, "CONT")] {
            run.signal(signal);
            run.wait_for(&format!("app signal {name}"));
        }
        let realtime = nix::libc::SIGRTMIN() + 5;
        // nix has no name for real-time signals; the shell's kill has.
        let kill = std::process::Command::new("kill").arg(format!("-{realtime}")).arg(run.pid().to_string()).status();
        assert!(kill.unwrap().success());
        run.wait_for(&format!("app signal {realtime}"));
        run.signal(Signal::SIGTERM);
        let run = run.wait().expect(0);
        assert_eq!(run.count("app signal"), 5, "{:?}", run.happened);
        assert_eq!(run.count("agent reload"), 1, "{:?}", run.happened);
    }
}

#[test]
fn an_app_killed_by_a_realtime_signal_is_reaped_like_any_other() {
    let realtime = nix::libc::SIGRTMIN() + 5;
    let run = Scene::new(As::Pid1).app(["sh", "-c", &format!("kill -{realtime} $$")]).run();
    let run = run.expect(128 + realtime);
    assert_eq!(run.summary()["app"]["signal"], "SIGRTMIN+5");
}

in_both_roles! {
    fn an_app_that_ends_by_our_term_ends_us_with_143_and_a_proof(role) {
        let run = Scene::new(role).app(["sleep", "60"]).start();
        run.wait_log("app started");
        run.signal(Signal::SIGTERM);
        let run = run.wait().expect(143);
        assert_eq!(run.summary()["sync"]["ok"], true);
    }
}

#[test]
fn an_app_that_ends_by_our_term_without_a_proof_ends_us_with_74() {
    let run = Scene::new(As::Pid1).app(["sleep", "60"]).var("FG_FAIL", 1).start();
    run.wait_log("app started");
    run.signal(Signal::SIGTERM);
    run.wait().expect(74);
}

in_both_roles! {
    fn t14_e05_a_stop_during_the_restore_ends_it_at_once(role) {
        let run = Scene::new(role).var("FG_RESTORE_MS", 60_000).start();
        run.wait_for("agent restore");
        let asked = holdfast_tests::supervised::monotonic_ms();
        run.signal(Signal::SIGTERM);
        let run = run.wait().expect(143);
        // 200 ms is the promise; the rest is for a busy machine to start and stop processes.
        assert!(run.at - asked < 1_000, "it took {} ms", run.at - asked);
        assert_eq!(run.count("app"), 0);
    }
}

#[test]
fn t15_a_stop_between_two_tries_of_the_restore_ends_it_at_once() {
    let run = Scene::new(As::Pid1).var("FG_RESTORE_EXIT", 69).start();
    run.wait_log("could not be reached");
    run.signal(Signal::SIGINT);
    assert_eq!(run.wait().expect(130).count("app"), 0);
}

in_both_roles! {
    fn t15_a_stop_before_the_agent_is_ready_starts_no_app(role) {
        let run = Scene::new(role).var("FG_READY_MS", 5_000).start();
        run.wait_for("agent start");
        run.signal(Signal::SIGTERM);
        assert_eq!(run.wait().expect(143).count("app"), 0);
    }
}
