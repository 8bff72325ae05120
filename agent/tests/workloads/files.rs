//! Databases that appear, change their mode, are replaced or deleted while the agent runs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use holdfast::run::limits::Limits;
use holdfast::source::files::beside;

use crate::common::app::App;
use crate::common::scene::{FAST, Pace, Scene, generations};
use crate::{TABLE, WRITE, insert};

#[test]
fn a_database_that_does_not_exist_yet_is_replicated_from_its_first_commit_on() {
    let scene = Scene::new();
    let agent = scene.agent(FAST);
    agent.says("waiting for the database", 1);
    assert!(!scene.db.exists(), "the agent creates nothing");
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(&insert(10, 1000));
    agent.says("snapshot written", 1);
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_empty_file_becomes_a_database_and_is_replicated() {
    let scene = Scene::new();
    fs::write(&scene.db, "").unwrap();
    let agent = scene.agent(FAST);
    agent.says("waiting for the database", 1);
    assert_eq!(fs::metadata(&scene.db).unwrap().len(), 0);
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    agent.says("snapshot written", 1);
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_database_in_rollback_mode_is_left_alone_until_its_app_makes_it_a_wal_database() {
    let scene = Scene::new();
    let mut app = App::start(&scene.db);
    app.run(TABLE);
    app.run(&insert(50, 1000));
    let agent = scene.agent(FAST);
    agent.says("waiting for the database", 1);
    for _ in 0..20 {
        app.run(WRITE);
    }
    assert_eq!(app.run("PRAGMA journal_mode"), "delete");
    app.run("PRAGMA journal_mode=WAL");
    app.run(WRITE);
    agent.says("snapshot written", 1);
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_app_in_rollback_mode_costs_a_waiting_agent_next_to_nothing() {
    let scene = Scene::new();
    let mut app = App::start(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("waiting for the database", 1);
    let before = agent.cost();
    let start = Instant::now();
    while start.elapsed().as_secs() < 2 {
        app.run(WRITE);
    }
    let spent = agent.cost().switches - before.switches;
    assert!(spent < 600, "{spent} switches in two seconds of somebody else's commits");
    app.close();
}

#[test]
fn a_database_that_only_ever_was_empty_ends_without_an_error() {
    let scene = Scene::new();
    let agent = scene.agent(FAST);
    agent.says("waiting for the database", 1);
    agent.stop();
    assert!(!scene.db.exists() && !scene.replica(0).exists());
}

#[test]
fn a_database_closed_by_its_last_user_is_pinned_and_followed_at_the_next_start() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(&insert(30, 1000));
    app.close();
    assert!(!scene.path("app.db-wal").exists());
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    let mut app = App::start(&scene.db);
    app.run(WRITE);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}

/// Another database, closed, in `scene` under the name `name`.
fn another(scene: &Scene, name: &str, rows: u32) {
    let mut app = App::wal(&scene.path(name));
    app.run(TABLE);
    app.run(&insert(rows, 700));
    app.close();
}

fn remove_wal(scene: &Scene) {
    fs::remove_file(scene.path("app.db-wal")).unwrap();
    fs::remove_file(scene.path("app.db-shm")).unwrap();
}

#[test]
fn a_database_replaced_by_rename_begins_a_new_generation_with_that_reason() {
    let scene = Scene::new();
    another(&scene, "app.db", 20);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    another(&scene, "other.db", 77);
    remove_wal(&scene);
    fs::rename(scene.path("other.db"), &scene.db).unwrap();
    let mut app = App::start(&scene.db);
    app.run(WRITE);
    agent.says("snapshot written", 2);
    app.run(WRITE);
    assert_eq!(agent.lines("reason=database file replaced").len(), 1, "{}", agent.log());
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 2);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_database_deleted_and_created_again_begins_a_new_generation() {
    let scene = Scene::new();
    another(&scene, "app.db", 20);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    fs::remove_file(&scene.db).unwrap();
    remove_wal(&scene);
    agent.says("waiting for the database", 1);
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(&insert(5, 100));
    agent.says("snapshot written", 2);
    app.run(WRITE);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 2);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_database_behind_a_link_is_followed() {
    let scene = Scene::new();
    fs::create_dir(scene.path("volume")).unwrap();
    let real = scene.path("volume/real.db");
    std::os::unix::fs::symlink(&real, &scene.db).unwrap();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    app.run(WRITE);
    agent.says("wal segment written", 1);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn two_databases_awaited_in_one_directory_are_both_heard_of_at_once() {
    let scene = Scene::new();
    let other = scene.path("other.db");
    let rare = Pace { database: &["monitor-interval: 20s"], replicas: &[&[]] };
    let yaml =
        format!("dbs:\n{}{}", scene.configure(&scene.db, "r", rare), scene.configure(&other, "o", rare));
    let agent = scene.agent_of(&yaml, Limits::default());
    agent.says("waiting for the database", 2);
    let start = Instant::now();
    let _apps = [&scene.db, &other].map(|db| App::wal(db).run(TABLE));
    agent.says("wal pinned", 2);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_database_that_never_became_a_wal_database_ends_the_run_at_once_and_not_as_a_success() {
    let scene = Scene::new();
    let mut app = App::start(&scene.db);
    app.run(TABLE);
    let mut agent = scene.agent(FAST);
    agent.says("waiting for the database", 1);
    let start = Instant::now();
    assert_eq!(agent.terminate(), 74, "{}", agent.log());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(agent.log().contains("is not in WAL mode yet"), "{}", agent.log());
}

#[test]
fn an_app_that_wants_to_leave_wal_mode_is_refused_while_the_pin_stands() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    assert!(app.try_run("PRAGMA journal_mode=DELETE").unwrap_err().contains("locked"));
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_index_that_stays_half_written_for_a_while_costs_no_attachment() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    app.run(WRITE);
    agent.says("wal segment written", 1);
    let shm = File::options().read(true).write(true).open(beside(&scene.db, "-shm")).unwrap();
    let wal = File::options().read(true).write(true).open(beside(&scene.db, "-wal")).unwrap();
    let (mut change, mut magic) = ([0; 4], [0; 4]);
    shm.read_exact_at(&mut change, 8).unwrap();
    wal.read_exact_at(&mut magic, 0).unwrap();
    shm.write_all_at(&change.map(|b| !b), 8).unwrap();
    for _ in 0..20 {
        // The same bytes again: something to hear.
        wal.write_all_at(&magic, 0).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    // The next writer finds it so and builds the index again.
    app.run(WRITE);
    agent.says("wal segment written", 2);
    assert_eq!(agent.lines("lost the database"), [""; 0]);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}
