//! One of us per database: a second supervisor or agent waits, takes over, or ends with 75.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use holdfast_tests::process::{Running, command};
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, SOON, Scene, Supervised};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A supervisor whose app runs on the database in `dir`.
fn first(dir: &Path) -> Supervised {
    let run = Scene::new(As::Subreaper).database(&dir.join("station.db")).start();
    run.wait_for("app start");
    run
}

fn second(dir: &Path, wait: &str) -> Scene {
    let scene = Scene::new(As::Subreaper).database(&dir.join("station.db")).var("FA_RUN_MS", 20);
    scene.flags(["-lock-wait", wait])
}

/// An agent on its own.
fn agent(dir: &Path) -> Running {
    let mut agent = command(ours("holdfast"));
    let replica = format!("file://{}", dir.join("replica").display());
    agent.arg("replicate").arg(dir.join("station.db")).arg(replica);
    Running::start(&mut agent, &dir.join("agent.log"))
}

#[test]
fn t62_e21_a_second_supervisor_is_refused_while_the_first_has_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let has = first(dir.path());
    let refused = second(dir.path(), "300ms").run().expect(75);
    assert!(refused.happened.is_empty(), "nothing was restored and nothing started: {:?}", refused.happened);
    assert!(refused.stderr.contains("another supervisor or agent has had it"), "{}", refused.stderr);
    has.signal(Signal::SIGTERM);
    has.wait().expect(0);
    assert_eq!(second(dir.path(), "0s").run().expect(0).count("app start"), 1);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("lock")), "{left:?}");
}

#[test]
fn t62_a_second_supervisor_waits_and_goes_on_when_the_first_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let has = first(dir.path());
    let waits = second(dir.path(), "30s").start();
    waits.wait_log("waiting for another supervisor or agent to end");
    assert!(waits.happened().is_empty());
    has.signal(Signal::SIGTERM);
    has.wait().expect(0);
    assert_eq!(waits.wait().expect(0).count("app start"), 1);
}

#[test]
fn a_stop_ends_the_wait_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let _has = first(dir.path());
    let waits = second(dir.path(), "60s").start();
    waits.wait_log("waiting for another supervisor or agent to end");
    let asked = Instant::now();
    waits.signal(Signal::SIGTERM);
    waits.wait().expect(143);
    assert!(asked.elapsed() < SOON);
}

#[test]
fn t62_the_lock_of_a_killed_supervisor_is_its_agents_until_that_has_drained() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(As::Subreaper).database(&dir.path().join("station.db")).var("FA_RUN_MS", 20_000);
    let killed = scene.var("FG_EOF_MS", 1_500).start();
    let app: i32 = killed.wait_for("app start").what["app start ".len()..].parse().unwrap();
    killed.signal(Signal::SIGKILL);
    killed.wait_for("agent eof");
    // It is nobody's any more.
    kill(Pid::from_raw(app), Signal::SIGKILL).unwrap();
    let waits = second(dir.path(), "20s").start();
    waits.wait_log("waiting for another supervisor or agent to end");
    let next = waits.wait().expect(0);
    assert!(next.first("agent restore").at >= killed.wait_for("agent eof").at + 1_400, "{:?}", next.happened);
}

#[test]
fn t62_an_agent_alone_waits_for_a_supervisor_and_a_second_agent_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let has = first(dir.path());
    let mut alone = agent(dir.path());
    alone.wait_log("it waits", SOON, |line| line.contains("waiting for another agent or supervisor to end"));
    has.signal(Signal::SIGTERM);
    has.wait().expect(0);
    alone.wait_log("it goes on", SOON, |line| line.contains("waiting for the database"));
    let mut more = agent(dir.path());
    assert_eq!(more.wait(SOON).code(), Some(75), "{}", more.log());
    assert!(more.log().contains("another agent or supervisor replicates it"), "{}", more.log());
    alone.stop(SOON);
}
