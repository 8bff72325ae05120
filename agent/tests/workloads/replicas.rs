//! Several replicas and several databases, one of which hangs or fails.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use holdfast::run::limits::Limits;

use crate::common::app::App;
use crate::common::scene::{FAST, Pace, Scene, digest, generations, indexes, integrity, objects};
use crate::common::{LONG, eventually};
use crate::{TABLE, WRITE, insert};

/// The median time from a commit to its object, over seven commits.
fn lag(scene: &Scene, app: &mut App, replica: usize) -> Duration {
    let mut times: Vec<_> = (0..7)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(60));
            let before = objects(&scene.replica(replica)).len();
            app.run(WRITE);
            let start = Instant::now();
            eventually("the commit arrives", LONG, || objects(&scene.replica(replica)).len() > before);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[3]
}

#[test]
fn a_replica_whose_server_never_answers_delays_neither_another_nor_the_app() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    // Connections are taken and never served.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut yaml = "shutdown-sync-timeout: 1s\ndbs:\n".to_owned();
    yaml += &scene.configure(&scene.db, "r", FAST);
    yaml += &format!(
        "      - name: silent\n        type: s3\n        bucket: b\n        path: p\n        region: us-east-1
        endpoint: http://{}\n        access-key-id: a\n        secret-access-key: b\n",
        silent.local_addr().unwrap()
    );
    let mut agent = scene.agent_of(&yaml, Limits::default());
    agent.says("snapshot written", 1);
    let typical = lag(&scene, &mut app, 0);
    assert!(typical < Duration::from_millis(100), "{typical:?}");
    let start = Instant::now();
    assert_eq!(agent.terminate(), 74, "{}", agent.log());
    assert!(start.elapsed() < Duration::from_secs(5), "the deadline is kept: {:?}", start.elapsed());
    assert!(agent.log().contains("final sync incomplete"), "{}", agent.log());
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_replica_that_fails_is_tried_again_without_another_commit_and_delays_nobody() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(&insert(20, 1000));
    // A file where the second replica's directory should be.
    fs::write(scene.replica(1), "in the way").unwrap();
    let two = Pace { replicas: &[&["sync-interval: 20ms"], &["sync-interval: 20ms"]], ..FAST };
    let agent = scene.agent(two);
    agent.says("snapshot written", 1);
    let typical = lag(&scene, &mut app, 0);
    assert!(typical < Duration::from_millis(100), "{typical:?}");
    assert!(!agent.lines("trying again").is_empty(), "{}", agent.log());
    fs::remove_file(scene.replica(1)).unwrap();
    agent.says("snapshot written", 2);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
    scene.same_bytes(&scene.replica(1));
}

#[test]
fn a_replica_that_fails_in_the_middle_catches_up_in_its_generation() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    app.run(WRITE);
    agent.says("wal segment written", 1);
    fs::rename(scene.replica(0), scene.path("aside")).unwrap();
    fs::write(scene.replica(0), "in the way").unwrap();
    for _ in 0..5 {
        app.run(&insert(50, 1000));
    }
    agent.says("write wal segment; trying again", 1);
    fs::remove_file(scene.replica(0)).unwrap();
    fs::rename(scene.path("aside"), scene.replica(0)).unwrap();
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn two_databases_and_two_replicas_each_are_four_equal_copies() {
    let scene = Scene::new();
    let other = scene.path("other.db");
    let two = Pace { replicas: &[&["sync-interval: 20ms"], &["sync-interval: 50ms"]], ..FAST };
    let yaml = format!("dbs:\n{}{}", scene.configure(&scene.db, "r", two), scene.configure(&other, "o", two));
    let agent = scene.agent_of(&yaml, Limits::default());
    agent.says("waiting for the database", 2);
    let (mut a, mut b) = (App::wal(&scene.db), App::wal(&other));
    for app in [&mut a, &mut b] {
        app.run(TABLE);
    }
    agent.says("snapshot written", 4);
    for n in 0..20 {
        a.run(WRITE);
        if n % 4 == 0 {
            b.run(&insert(20, 1000));
        }
    }
    agent.stop();
    a.close();
    b.close();
    for n in 0..2 {
        scene.same_bytes(&scene.replica(n));
        let restored = scene.restore(&scene.path(&format!("o{n}")));
        assert_eq!((integrity(&restored), digest(&restored)), ("ok".into(), digest(&other)));
    }
}

#[test]
fn t37_a_replica_that_stays_away_is_let_go_at_the_cap_and_begins_anew_when_it_returns() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let pace = Pace {
        database: &["monitor-interval: 100ms", "min-checkpoint-page-count: 50", "max-wal-size: 2MB"],
        replicas: &[&["sync-interval: 20ms"], &["sync-interval: 20ms"]],
    };
    // What could be held for it instead is less than it will lack.
    let agent = scene.agent_within(pace, Limits { tail_bytes: 512 << 10, ..Limits::default() });
    agent.says("snapshot written", 2);
    fs::rename(scene.replica(1), scene.path("aside")).unwrap();
    fs::write(scene.replica(1), "in the way").unwrap();
    let rows = insert(20, 1000);
    eventually("the WAL restarts without it", LONG, || {
        app.run(&rows);
        std::thread::sleep(Duration::from_millis(10));
        // Twice or so while what it lacks can be held, then not before the cap.
        fs::metadata(scene.path("app.db-wal")).unwrap().len() > 2_000_000
            && indexes(&scene.replica(0)).len() > 8
    });
    fs::remove_file(scene.replica(1)).unwrap();
    fs::rename(scene.path("aside"), scene.replica(1)).unwrap();
    agent.says("snapshot written", 3);
    assert_eq!(agent.lines("reason=replica fell behind max-wal-size").len(), 1, "{}", agent.log());
    agent.stop();
    app.close();
    assert_eq!((generations(&scene.replica(0)), generations(&scene.replica(1))), (1, 2));
    scene.same_bytes(&scene.replica(0));
    scene.same_bytes(&scene.replica(1));
}
