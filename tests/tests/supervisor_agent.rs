//! What an agent can do wrong while the app runs, and in the final sync.

use std::time::Duration;

use holdfast_tests::supervised::{As, Scene, Supervised};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn agent(run: &Supervised, nth: usize) -> Pid {
    // As a subreaper, so that the pid in the log is the pid here.
    let started = run.wait_for_nth("agent start", nth);
    Pid::from_raw(started.what["agent start ".len()..].parse().expect("a process id"))
}

#[test]
fn t30_e07_an_agent_killed_three_times_comes_back_and_the_app_never_notices() {
    let run = Scene::new(As::Subreaper).start();
    run.wait_for("app start");
    for nth in 1..=3 {
        run.wait_for_nth("agent ready", nth);
        kill(agent(&run, nth), Signal::SIGKILL).unwrap();
    }
    run.wait_for_nth("agent ready", 4);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!((run.count("app start"), run.count("app signal")), (1, 1));
    assert_eq!(run.summary()["agent_restarts"], 3);
    assert_eq!(run.summary()["sync"]["ok"], true);
    let starts: Vec<u64> =
        run.happened.iter().filter(|h| h.what.starts_with("agent start")).map(|h| h.at).collect();
    assert!(starts[2] - starts[1] >= 190 && starts[3] - starts[2] >= 390, "0, 0.25, 0.5 s: {starts:?}");
}

#[test]
fn t31_an_agent_that_hangs_is_killed_and_started_again() {
    let scene = Scene::new(As::Subreaper).var("FG_HANG", 1).var("FG_BAD_STARTS", 1);
    let run = scene.flags(["-agent-timeout", "1s"]).start();
    run.wait_for_nth("agent ready", 2);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert!(run.stderr.contains("agent silent for 1 s: killed"), "{}", run.stderr);
    assert_eq!(run.summary()["agent_restarts"], 1);
}

/// An agent that was well once and is refused from its second start on.
fn refused(flags: [&str; 4]) -> Supervised {
    let scene = Scene::new(As::Subreaper).var("FG_GOOD_STARTS", 1).var("FG_EXIT", 78);
    let run = scene.flags(flags).start();
    run.wait_for("app start");
    kill(agent(&run, 1), Signal::SIGKILL).expect("it runs");
    run.wait_for_nth("agent start", 2);
    run
}

#[test]
fn t33_an_agent_that_exits_78_for_good_costs_the_app_nothing_and_is_not_tried_fast() {
    let run = refused(["-on-agent-failure", "continue", "-agent-max-down", "1s"]);
    let line = run.wait_log("agent exited 78: nothing is replicated now; starting it again in ");
    let pause = line.split("again in ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let pause: f64 = pause.parse().unwrap();
    assert!((24.0..=36.0).contains(&pause), "half a minute, a fifth more or less: {line}");
    // Longer than the agent may be away, and than all fast tries together.
    std::thread::sleep(Duration::from_millis(1_500));
    let happened = run.happened();
    assert_eq!(happened.iter().filter(|h| h.what.starts_with("agent start")).count(), 2, "{happened:?}");
    assert!(
        !happened.iter().any(|h| h.what.starts_with("app signal") || h.what == "app end"),
        "{happened:?}"
    );
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(74);
    assert_eq!((run.count("app start"), run.count("app signal TERM")), (1, 1));
}

#[test]
fn t33_an_agent_that_exits_78_for_good_can_end_the_app_with_80() {
    let run = refused(["-on-agent-failure", "stop", "-agent-max-down", "1s"]);
    let run = run.wait().expect(80);
    assert_eq!((run.count("app signal TERM"), run.count("app end")), (1, 1));
    assert!(run.stderr.contains("no agent for 1 s: the app is stopped"), "{}", run.stderr);
    let summary = run.summary();
    assert_eq!((&summary["cause"], &summary["sync"]["ok"]), (&"no agent for 1 s".into(), &false.into()));
}

#[test]
fn t25_a_pause_of_the_whole_container_is_not_the_agents_fault() {
    let run = Scene::new(As::Subreaper).flags(["-agent-timeout", "2s"]).start();
    run.wait_for("app start");
    let both = [Pid::from_raw(run.pid()), agent(&run, 1)];
    for pid in both {
        kill(pid, Signal::SIGSTOP).unwrap();
    }
    std::thread::sleep(Duration::from_secs(4));
    // The supervisor first: the agent has had no chance to speak.
    for pid in both {
        kill(pid, Signal::SIGCONT).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait().expect(0).summary()["agent_restarts"], 0);
}

#[test]
fn t34_an_agent_that_dies_in_the_sync_is_replaced_once() {
    let scene = || Scene::new(As::Pid1).var("FA_RUN_MS", 20).var("FG_DIE_IN_DRAIN", 1);
    let run = scene().var("FG_BAD_STARTS", 1).run().expect(0);
    assert_eq!((run.count("agent drain"), run.summary()["agent_restarts"].as_u64()), (2, Some(1)));
    let run = scene().run().expect(74);
    assert_eq!(run.count("agent drain"), 2);
    assert!(run.stderr.contains("final sync NOT complete"), "{}", run.stderr);
}

#[test]
fn t35_an_agent_that_contradicts_itself_is_not_believed() {
    let run = Scene::new(As::Pid1).var("FA_RUN_MS", 20).var("FG_LIE", 1).run().expect(74);
    assert_eq!(run.summary()["sync"]["why"], "the agent reports success with 4120 bytes of lag");
}

#[test]
fn an_agent_that_died_is_started_for_the_final_sync_before_its_turn() {
    let scene = Scene::new(As::Pid1).var("FG_DIE_AFTER", 200).var("FG_BAD_STARTS", 4).var("FA_STOP_MS", 200);
    let run = scene.start();
    run.wait_for_nth("agent start", 4);
    // The fourth wait is a second, give or take a fifth.
    let waits = || run.stderr().matches("starting it again in").count();
    while waits() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!(run.count("agent start"), 5);
    assert_eq!(run.summary()["sync"]["ok"], true);
}
