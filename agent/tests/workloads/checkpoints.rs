//! Who moves the WAL, and who keeps it from moving.

use std::time::Duration;

use crate::common::app::{App, Repeating};
use crate::common::scene::{FAST, Scene, generations, indexes};
use crate::{TABLE, WRITE, insert};

/// Writes with `gap` for `time` beside whatever `beside` starts, then compares byte for byte.
#[track_caller]
fn replicated(scene: &Scene, app: &mut App, gap: Duration, time: Duration, beside: &[&str]) {
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("wal pinned", 1);
    let writer = Repeating::start(&scene.db, WRITE, gap);
    let others: Vec<_> =
        beside.iter().map(|sql| Repeating::start(&scene.db, sql, Duration::from_millis(20))).collect();
    std::thread::sleep(time);
    let tally = writer.stop();
    let tries: u64 = others.into_iter().map(|o| o.stop()).map(|t| t.done + t.busy).sum();
    assert!(tally.done > 50, "{tally:?}");
    assert!(beside.is_empty() || tries > 10, "{tries} attempts of {beside:?}");
    if beside.is_empty() {
        assert_eq!(tally.busy, 0, "nobody but the agent could have been in the writer's way");
    }
    agent.stop();
    assert_eq!(generations(&scene.replica(0)), 1, "nothing broke continuity");
}

#[test]
fn an_app_that_checkpoints_automatically_is_replicated_in_one_generation() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA wal_autocheckpoint=5");
    replicated(&scene, &mut app, Duration::from_millis(5), Duration::from_secs(2), &[]);
    app.close();
    scene.same_bytes(&scene.replica(0));
    assert!(indexes(&scene.replica(0)).len() > 1, "the WAL was restarted");
}

#[test]
fn an_app_that_never_checkpoints_gets_its_wal_restarted_by_the_agent() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("wal pinned", 1);
    let write = format!("PRAGMA wal_autocheckpoint=0; {WRITE}");
    let writer = Repeating::start(&scene.db, &write, Duration::from_millis(10));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(writer.stop().busy, 0);
    agent.stop();
    let wal = std::fs::metadata(scene.path("app.db-wal")).unwrap().len();
    assert!(wal < 4 << 20, "the WAL stays short: {wal} bytes");
    app.close();
    assert!(indexes(&scene.replica(0)).len() > 1);
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn foreign_passive_and_full_checkpoints_in_a_loop_break_nothing() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    let beside = ["PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(FULL)"];
    replicated(&scene, &mut app, Duration::from_millis(3), Duration::from_secs(2), &beside);
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn foreign_restart_and_truncate_checkpoints_in_a_loop_break_nothing() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    let beside = ["PRAGMA wal_checkpoint(RESTART)", "PRAGMA wal_checkpoint(TRUNCATE)"];
    replicated(&scene, &mut app, Duration::from_millis(3), Duration::from_secs(2), &beside);
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_reader_that_stays_delays_no_upload_and_the_wal_restarts_once_it_is_gone() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    let mut reader = App::start(&scene.db);
    reader.run("BEGIN; SELECT count(*) FROM t");
    let writer = Repeating::start(&scene.db, WRITE, Duration::from_millis(5));
    std::thread::sleep(Duration::from_secs(5));
    let before = indexes(&scene.replica(0)).len();
    let seen = scene.restore(&scene.replica(0));
    let rows = App::start(&seen).run("SELECT count(*) FROM t").parse::<u64>().unwrap();
    assert!(rows > 100, "{rows} rows reached the replica while the reader stayed");
    assert_eq!(reader.run("SELECT count(*) FROM t"), "0", "it still reads its old snapshot");
    reader.run("COMMIT");
    crate::common::eventually("the WAL restarts", crate::common::LONG, || {
        indexes(&scene.replica(0)).len() > before
    });
    assert_eq!(writer.stop().busy, 0);
    agent.stop();
    reader.close();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_app_that_ends_and_starts_again_and_again_stays_in_one_generation() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("wal pinned", 1);
    for n in 0..8 {
        app.run(&insert(40, 2000));
        if n % 3 == 2 {
            app.kill();
        } else {
            app.close();
        }
        assert!(scene.path("app.db-wal").exists(), "the pin keeps the WAL");
        app = App::start(&scene.db);
    }
    app.run(WRITE);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}
