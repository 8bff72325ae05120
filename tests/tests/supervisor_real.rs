//! The real agent, a real writer and real signals: what was committed before the end is on the replica after it.

use std::time::Duration;

use holdfast_tests::in_both_roles;
use holdfast_tests::living::{acknowledged, brought_back, child, lose, wait_for_rows, writing};
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, SOON, Scene};
use holdfast_tests::{oracle, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

in_both_roles! {
    fn t40_what_was_there_at_the_stop_is_there_after_the_loss(role) {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        let run = writing(role, &db);
        wait_for_rows(&db, 300);
        run.signal(Signal::SIGTERM);
        let run = run.wait().expect(0);
        assert!(run.stderr.contains("final sync proven"), "{}", run.stderr);
        let before = oracle::expect_state(&db, "at the stop");
        lose(&db);
        assert_eq!(brought_back(role, &db), before);
    }
}

#[test]
fn t02_an_app_killed_in_the_middle_loses_no_acknowledged_row() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let run = writing(As::Pid1, &db);
    wait_for_rows(&db, 300);
    kill(Pid::from_raw(child(&run, "writer")), Signal::SIGKILL).unwrap();
    let run = run.wait().expect(137);
    assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
    let last = acknowledged(&db);
    lose(&db);
    let found = brought_back(As::Pid1, &db).last;
    assert!(found >= last, "{last} was acknowledged to the app, {found} came back");
}

#[test]
fn t30_an_agent_killed_while_the_app_writes_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let run = writing(As::Pid1, &db);
    for kills in 1..=2 {
        wait_for_rows(&db, kills * 200);
        kill(Pid::from_raw(child(&run, "holdfast")), Signal::SIGKILL).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    wait_for_rows(&db, 800);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!(run.summary()["agent_restarts"], 2);
    let before = oracle::expect_state(&db, "at the stop");
    lose(&db);
    assert_eq!(brought_back(As::Pid1, &db), before);
}

#[test]
fn t44_a_replica_that_is_not_one_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    // A plain file where the replica's directory should be: neither readable as one nor proven empty.
    let replica = db.with_extension("replica");
    std::fs::write(&replica, "in the way").unwrap();
    let scene = Scene::new(As::Pid1).real_agent().database(&db).app(["touch", db.to_str().unwrap()]);
    scene.run().expect(78);
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, [replica], "nothing was written");
}

#[test]
fn t55_a_database_that_is_here_starts_whatever_the_replica_says() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let run = writing(As::Pid1, &db);
    wait_for_rows(&db, 100);
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
    let replica = db.with_extension("replica");
    std::fs::remove_dir_all(&replica).unwrap();
    std::fs::write(&replica, "in the way").unwrap();
    let last = acknowledged(&db);
    let run = writing(As::Pid1, &db);
    wait_for_rows(&db, last + 100);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(74);
    assert!(run.stderr.contains("final sync NOT complete"), "{}", run.stderr);
    assert!(oracle::expect_state(&db, "untouched").last > last);
}

#[test]
fn without_a_command_of_its_own_it_runs_the_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let config = dir.path().join("l.yml");
    let text = format!(
        "exec: sh -c 'echo \"$1\" > {here}/ran; exit 3' sh 'two words'\ndbs:\n  - path: {here}/app.db\n    replica: {{path: {here}/replica}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let out = std::process::Command::new(ours("holdfast-supervisor"))
        .args(["-stop-grace", "10s", "-listen", "off", "-config"])
        .arg(&config)
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::read_to_string(dir.path().join("ran")).unwrap(), "two words\n");
}

/// The agent's configuration changes while the app runs; the supervisor's own rules hold to the end.
#[test]
fn a_hangup_adds_a_replica_and_the_app_never_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let config = dir.path().join("l.yml");
    let with = |replicas: &str| format!("dbs:\n  - path: {here}/app.db\n    replicas: [{replicas}]\n");
    std::fs::write(&config, with(&format!("{{name: one, path: {here}/one}}"))).unwrap();
    let mut command = process::command(ours("holdfast-supervisor"));
    command.args(["-stop-grace", "20s", "-listen", "off", "-config"]).arg(&config).arg("--");
    command.arg(ours("writer")).args(["--rate", "50"]).env("DATABASE_URL", dir.path().join("app.db"));
    let mut run = process::Running::start(&mut command, &dir.path().join("log"));
    run.wait_log("it replicates", SOON, |line| line.contains("snapshot written"));
    let both = format!("{{name: one, path: {here}/one}}, {{name: two, path: {here}/two}}");
    std::fs::write(&config, with(&both)).unwrap();
    run.signal(Signal::SIGHUP);
    run.wait_log("it reloads", SOON, |line| line.contains("configuration reloaded"));
    run.stop(SOON);
    assert!(run.log().contains("final sync proven"), "{}", run.log());
    let live = oracle::expect_state(&dir.path().join("app.db"), "the live database");
    for replica in ["one", "two"] {
        let out = dir.path().join(format!("{replica}.db"));
        let url = format!("file://{here}/{replica}");
        let mut restore = process::command(ours("holdfast"));
        process::run(restore.args(["restore", "-o"]).arg(&out).arg(url), SOON).expect_success("restore");
        assert_eq!(oracle::expect_state(&out, replica), live);
    }
}

#[test]
fn with_a_log_for_machines_every_line_of_a_run_is_one_object_whoever_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    let (db, config) = (dir.path().join("app.db"), dir.path().join("litestream.yml"));
    let text = format!(
        "logging: {{type: json}}\ndbs:\n- path: {}\n  replicas:\n  - path: {}\n",
        db.display(),
        dir.path().join("replica").display()
    );
    std::fs::write(&config, text).unwrap();
    let writer = ours("writer").display().to_string();
    let scene = Scene::new(As::Pid1).real_agent().database(&db).var("SUPERVISOR_CONFIG", config.display());
    let run = scene.app([&writer, "--commits", "20"]).run().expect(0);
    let mut speakers = std::collections::BTreeSet::new();
    for line in run.stderr.lines() {
        let event: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{}", run.stderr));
        // The last line is the summary, which is no event.
        if let Some(message) = event.get("message") {
            assert!(message.is_string() && event["timestamp"].is_string(), "{line}");
            assert!(["ERROR", "WARN", "INFO"].contains(&event["level"].as_str().unwrap()), "{line}");
            speakers.insert(event["program"].as_str().map(str::to_owned));
        }
    }
    assert_eq!(speakers.len(), 2, "the supervisor and its agent: {speakers:?}");
}
