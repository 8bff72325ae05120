//! What the final sync proves while others write, hold, fail or fill the disk: the real agent, a real writer.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::in_both_roles;
use holdfast_tests::living::{
    acknowledged, brought_back, child, keep_down, lose, restored, scene, wait_for_rows, writing,
};
use holdfast_tests::oracle;
use holdfast_tests::process::{self, command};
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, SOON, Scene, children, until};
use holdfast_tests::volume::Volume;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The newest row a restore of the replica beside `db` gives now.
fn rows(db: &Path) -> Option<i64> {
    restored(db, "a copy").map(|state| state.last)
}

#[test]
fn t13_a_flush_uploads_what_would_wait_for_its_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (db, config) = (dir.path().join("app.db"), dir.path().join("l.yml"));
    let replica = db.with_extension("replica");
    let text = "dbs:\n  - path: DB\n    replicas: [{path: REPLICA, sync-interval: 1h}]\n";
    let text = text.replace("DB", db.to_str().unwrap()).replace("REPLICA", replica.to_str().unwrap());
    fs::write(&config, text).unwrap();
    // One commit a second or so: all of them after the first snapshot would wait for an hour.
    let run = scene(As::Pid1, &db, &["--rate", "200", "--commits", "100", "--hold"])
        .var("LITESTREAM_FILE_PATH", "")
        .var("DATABASE_PATH", "")
        .var("LITESTREAM_CONFIG", config.display())
        .start();
    wait_for_rows(&db, 100);
    run.wait_log("snapshot written");
    run.signal(Signal::SIGUSR1);
    until("all rows are on the replica", SOON, || rows(&db).filter(|last| *last == 100));
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}

in_both_roles! {
    fn t17_what_an_orphan_commits_after_the_app_is_on_the_replica(role) {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        let truth = holdfast_tests::workload::truth_of(&db);
        // The writer outlives the app in a session of its own, and goes on until it is told to stop.
        let script = format!(
            "setsid {} --rate 400 --truth {truth} & until [ \"$(wc -l <{truth})\" -gt 50 ] 2>/dev/null; do sleep 0.02; done; exit 4",
            ours("writer").display(),
            truth = truth.display(),
        );
        let run = Scene::new(role).real_agent().database(&db).app(["sh", "-c", &script]).run().expect(4);
        assert!(run.stderr.contains("left behind by the app: writer"), "{}", run.stderr);
        assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
        let before = oracle::expect_state(&db, "at the end");
        assert!(before.last >= acknowledged(&db) && before.last > 50);
        lose(&db);
        assert_eq!(brought_back(role, &db), before);
    }
}

#[test]
fn t18_somebody_out_of_reach_who_holds_the_database_is_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    // Holds the write lock from outside the namespace, as a neighbour in another container could.
    let hold = |db: &Path| {
        let held = rusqlite::Connection::open(db).unwrap();
        held.busy_timeout(SOON).unwrap();
        held.execute_batch("BEGIN IMMEDIATE").unwrap();
        held
    };
    let commits = ["--commits", "50", "--hold"];
    let run = scene(As::Pid1, &db, &commits).start();
    wait_for_rows(&db, 50);
    let held = hold(&db);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(74);
    assert_eq!(run.summary()["sync"]["quiesced"], false, "{}", run.stderr);
    held.execute_batch("COMMIT").unwrap();
    drop(held);

    // Who lets go in time costs nothing but that time.
    let run = scene(As::Pid1, &db, &["--commits", "50", "--hold"]).start();
    wait_for_rows(&db, 100);
    let held = hold(&db);
    run.signal(Signal::SIGTERM);
    run.wait_log("the app exited 0");
    std::thread::sleep(Duration::from_millis(300));
    held.execute_batch("UPDATE tally SET last = last; COMMIT").unwrap();
    drop(held);
    let run = run.wait().expect(0);
    assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
    let before = oracle::expect_state(&db, "at the end");
    lose(&db);
    assert_eq!(brought_back(As::Pid1, &db), before);
}

#[test]
fn t24_an_agent_that_lost_its_supervisor_uploads_what_there_is_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let run = writing(As::Subreaper, &db);
    wait_for_rows(&db, 100);
    let (app, agent) = (child(&run, "writer"), child(&run, "holdfast"));
    let last = acknowledged(&db);
    run.signal(Signal::SIGKILL);
    until("the agent has ended", SOON, || (!Path::new(&format!("/proc/{agent}/exe")).exists()).then_some(()));
    assert!(kill(Pid::from_raw(app), None).is_ok(), "the app is untouched");
    kill(Pid::from_raw(app), Signal::SIGKILL).unwrap();
    assert!(rows(&db) >= Some(last), "{:?} of {last} rows", rows(&db));
    run.wait().expect(137);
}

in_both_roles! {
    fn t27_a_term_for_everybody_at_once_loses_nothing(role) {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        let run = writing(role, &db);
        wait_for_rows(&db, 200);
        let supervisor = run.pid();
        for pid in children(supervisor).into_iter().chain([supervisor]) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        }
        let run = run.wait().expect(0);
        assert_eq!((&run.summary()["sync"]["ok"], &run.summary()["agent_restarts"]), (&true.into(), &0.into()));
        let before = oracle::expect_state(&db, "at the stop");
        lose(&db);
        assert_eq!(brought_back(role, &db), before);
    }
}

#[test]
fn t32_a_wal_that_restarted_while_there_was_no_agent_begins_a_new_generation() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let run = scene(As::Pid1, &db, &["--rate", "800", "--autocheckpoint", "50"]).start();
    wait_for_rows(&db, 200);
    run.wait_log("snapshot written");
    // The pause before the fifth start is two seconds, give or take a fifth.
    keep_down(&run, 5);
    let last = acknowledged(&db);
    wait_for_rows(&db, last + 500);
    run.wait_log("restarted while nobody was attached");
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
    let generations = fs::read_dir(db.with_extension("replica").join("generations")).unwrap().count();
    assert!(generations >= 2, "{generations}");
    let before = oracle::expect_state(&db, "at the stop");
    lose(&db);
    assert_eq!(brought_back(As::Pid1, &db), before);
}

#[test]
fn t36_a_store_that_was_down_is_caught_up_with_and_nobody_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let replica = db.with_extension("replica");
    let run = writing(As::Pid1, &db);
    wait_for_rows(&db, 100);
    run.wait_log("snapshot written");
    fs::rename(&replica, dir.path().join("aside")).unwrap();
    fs::write(&replica, "in the way").unwrap();
    let last = acknowledged(&db);
    wait_for_rows(&db, last + 400);
    fs::remove_file(&replica).unwrap();
    fs::rename(dir.path().join("aside"), &replica).unwrap();
    until("it has caught up", SOON, || rows(&db).filter(|held| *held >= last + 400));
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!((&run.summary()["sync"]["ok"], &run.summary()["agent_restarts"]), (&true.into(), &0.into()));
    let before = oracle::expect_state(&db, "at the stop");
    lose(&db);
    assert_eq!(brought_back(As::Pid1, &db), before);
}

#[test]
fn t38_a_full_disk_is_the_apps_own_error_and_what_it_committed_is_proven() {
    let volume = Volume::mount();
    let outside = tempfile::tempdir().unwrap();
    let (db, replica) = (volume.path().join("app.db"), outside.path().join("replica"));
    let truth = outside.path().join("app.truth");
    let writer = ours("writer");
    let app = [writer.to_str().unwrap(), "--bytes", "2000", "--truth", truth.to_str().unwrap()];
    let scene = Scene::new(As::Subreaper).real_agent().app(app);
    let scene = scene.var("LITESTREAM_FILE_PATH", replica.display()).var("DATABASE_PATH", db.display());
    let file = |name: &str| fs::File::create(scene.dir().join(name)).unwrap();
    let (out, err) = (file("stdout"), file("stderr"));
    let enter = volume.enter();
    let enter: Vec<_> = enter.iter().map(String::as_str).collect();
    let run = scene.start_under(&enter, out, err).wait().expect(1);
    assert!(run.stderr.contains("full"), "the app says so: {}", run.stderr);
    assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
    assert_eq!(run.summary()["agent_restarts"], 0, "{}", run.stderr);
    let last = holdfast_tests::workload::truth(&truth).last().unwrap().n;
    let copy = outside.path().join("copy.db");
    let mut restore = command(ours("holdfast"));
    restore.args(["restore", "-o"]).arg(&copy).arg(format!("file://{}", replica.display()));
    process::run(&mut restore, SOON).expect_success("restore");
    assert!(oracle::expect_state(&copy, "a copy").last >= last);
}
