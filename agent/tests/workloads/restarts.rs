//! An agent that ends and starts again, and what continues.

use std::time::Duration;

use holdfast::run::limits::Limits;
use nix::sys::signal::Signal;

use crate::common::app::{App, Repeating};
use crate::common::scene::{FAST, Pace, Scene, generations};
use crate::{TABLE, WRITE, insert};

/// No checkpoint but the app's own.
const NEVER: Pace<'_> =
    Pace { database: &["min-checkpoint-page-count: 1000000", "checkpoint-interval: 0s"], ..FAST };

fn app(scene: &Scene) -> App {
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA wal_autocheckpoint=0");
    app.run(TABLE);
    app.run(&insert(20, 1000));
    app
}

#[test]
fn the_generation_continues_when_the_wal_did() {
    let scene = Scene::new();
    let mut app = app(&scene);
    for n in 0..4 {
        let agent = scene.agent(NEVER);
        agent.says("wal pinned", n + 1);
        app.run(WRITE);
        if n % 2 == 0 {
            agent.stop();
        } else {
            agent.says("wal segment written", 1);
            agent.kill();
        }
        app.run(WRITE);
    }
    let agent = scene.agent(NEVER);
    agent.says("wal pinned", 5);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_agent_that_starts_again_behind_a_split_index_loses_nothing() {
    let scene = Scene::new();
    let mut app = app(&scene);
    let limits = Limits { index_bytes: 64 << 10, ..Limits::default() };
    for n in 1..=3 {
        let agent = scene.agent_within(NEVER, limits);
        agent.says("wal pinned", n);
        app.run(&insert(60, 1000));
        agent.stop();
        app.run(&insert(5, 1000));
    }
    let agent = scene.agent_within(NEVER, limits);
    agent.says("wal pinned", 4);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_new_generation_says_that_the_wal_restarted_while_nobody_was_attached() {
    let scene = Scene::new();
    let mut app = app(&scene);
    let agent = scene.agent(NEVER);
    agent.says("snapshot written", 1);
    agent.stop();
    app.run("PRAGMA wal_checkpoint(RESTART)");
    app.run(WRITE);
    let agent = scene.agent(NEVER);
    agent.says("snapshot written", 2);
    let reasons = agent.lines("sync: new generation");
    assert!(
        reasons[1].contains("reason=wal header mismatch: restarted while nobody was attached"),
        "{reasons:?}"
    );
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 2);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_database_closed_while_nobody_was_attached_begins_a_new_generation() {
    let scene = Scene::new();
    let app = app(&scene);
    let agent = scene.agent(NEVER);
    agent.says("snapshot written", 1);
    agent.stop();
    app.close();
    let mut app = App::start(&scene.db);
    app.run(WRITE);
    let agent = scene.agent(NEVER);
    agent.says("snapshot written", 2);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 2);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_agent_killed_again_and_again_under_load_leaves_a_replica_that_restores() {
    let scene = Scene::new();
    let mut app = app(&scene);
    let writer = Repeating::start(&scene.db, WRITE, Duration::from_millis(3));
    for n in 0..5 {
        let agent = scene.agent(FAST);
        agent.says("wal pinned", n + 1);
        std::thread::sleep(Duration::from_millis(60 + 110 * n as u64));
        agent.kill();
    }
    let agent = scene.agent(FAST);
    agent.says("wal pinned", 6);
    assert_eq!(writer.stop().busy, 0);
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn sigterm_while_the_first_snapshot_is_running_waits_for_it() {
    let scene = Scene::new();
    let mut app = app(&scene);
    app.run(&insert(64, 1 << 20));
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let mut agent = scene.agent(FAST);
    agent.says("sync: new generation", 1);
    agent.signal(Signal::SIGTERM);
    app.run(WRITE);
    assert_eq!(agent.wait(), 0, "{}", agent.log());
    let log = agent.log();
    let (stop, snapshot) = (log.find("signal received").unwrap(), log.find("snapshot written").unwrap());
    assert!(stop < snapshot, "the signal came first:\n{log}");
    app.close();
    let restored = scene.restore(&scene.replica(0));
    assert_eq!(crate::common::scene::integrity(&restored), "ok");
}
