//! When something is sent, and what it costs when nothing is.

use std::time::{Duration, Instant};

use crate::common::app::{App, Repeating};
use crate::common::scene::{FAST, Pace, Scene, objects};
use crate::common::{LONG, eventually};
use crate::{TABLE, WRITE};

/// Litestream's defaults: `sync-interval: 1s`.
const DEFAULT: Pace<'_> = Pace { database: &[], replicas: &[&[]] };

fn segments(scene: &Scene) -> usize {
    objects(&scene.replica(0)).iter().filter(|o| o.contains("/wal/")).count()
}

#[test]
fn a_commit_after_a_quiet_interval_is_on_the_replica_within_50_ms_and_those_after_it_share_an_object() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(DEFAULT);
    agent.says("snapshot written", 1);
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(1100));
            let before = segments(&scene);
            app.run(WRITE);
            let start = Instant::now();
            eventually("the commit arrives", LONG, || segments(&scene) > before);
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[2] < Duration::from_millis(50), "{times:?}");

    std::thread::sleep(Duration::from_millis(1100));
    let (before, start) = (segments(&scene), Instant::now());
    let mut commits = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        app.run(WRITE);
        commits += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = segments(&scene) - before;
    assert!(commits > 50 && (1..=3).contains(&sent), "{commits} commits in {sent} objects");
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_idle_database_costs_no_object_and_next_to_no_wake_up() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(DEFAULT);
    agent.says("snapshot written", 1);
    app.run(WRITE);
    std::thread::sleep(Duration::from_millis(2500));
    let (sent, before) = (objects(&scene.replica(0)), agent.cost());
    std::thread::sleep(Duration::from_secs(5));
    let after = agent.cost();
    assert_eq!(objects(&scene.replica(0)), sent);
    assert!(after.switches - before.switches <= 5, "in five seconds: {before:?} {after:?}");
    assert!(after.cpu - before.cpu <= Duration::from_millis(10), "{before:?} {after:?}");
    app.close();
}

#[test]
fn snapshots_retention_and_drills_under_load_agree_with_the_database() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let chores = [
        "sync-interval: 20ms",
        "snapshot-interval: 400ms",
        "retention: 1s",
        "retention-check-interval: 300ms",
        "validation-interval: 300ms",
    ];
    let agent = scene.agent(Pace { replicas: &[&chores], ..FAST });
    agent.says("snapshot written", 1);
    let writer = Repeating::start(&scene.db, WRITE, Duration::from_millis(4));
    agent.says("retention enforced", 2);
    agent.says("snapshot written", 5);
    agent.says("status=\"ok\"", 3);
    assert_eq!(writer.stop().busy, 0);
    assert!(agent.lines("status=\"mismatch\"").is_empty(), "{}", agent.log());
    assert!(agent.lines("status=\"error\"").is_empty(), "{}", agent.log());
    let snapshots = objects(&scene.replica(0)).iter().filter(|o| o.contains("/snapshots/")).count();
    assert!(snapshots < agent.lines("snapshot written").len(), "old ones are deleted");
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}
