//! What must never be taken for a database that is behind its replica: whatever can happen to a healthy one between a
//! proven final sync, or none, and the next start. Each with real agents, in both layouts; *behind* is exit 79.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::process;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::{self, Holdfast, V03, V05};
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(30);

/// An agent's life around so many commits, with a proven end.
fn clean(scene: &Scene, commits: u32) {
    let mut agent = scene.agent();
    agent.ready(SOON);
    write(scene, commits);
    let drained = agent.drain(SOON);
    assert!(drained.ok, "{drained:?}\n{}", agent.log());
    assert!(agent.exit(SOON).success());
}

/// So many commits, by an app that comes and goes.
fn write(scene: &Scene, commits: u32) {
    let mut writer = scene.writer().args(["--commits", &commits.to_string()]).start();
    assert!(writer.wait(SOON).success(), "{}", writer.log());
}

/// What a start would do: the code, and the words.
fn start(scene: &Scene) -> (i32, String) {
    let mut command: Command = Holdfast.command("restore");
    command.args(["-for-start", "-dry-run", "-config"]).arg(scene.config()).arg(scene.db());
    let said = process::run(&mut command, SOON);
    (said.code, format!("{}{}", said.stdout, said.stderr))
}

#[track_caller]
fn starts(scene: &Scene, what: &str) {
    let (code, said) = start(scene);
    assert_eq!(code, 0, "{what}: {said}");
    assert!(said.contains("good here"), "{what}: {said}");
}

fn objects(scene: &Scene) -> Vec<PathBuf> {
    let (mut all, mut dirs) = (Vec::new(), vec![scene.dir().join("replica")]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { all.push(path) }
        }
    }
    all.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    all
}

/// Runs `between` on databases of both layouts that had a proven end, and asks before and after.
fn after(what: &str, between: impl Fn(&Scene, &str)) {
    for format in ["v0.3", "ltx"] {
        let scene = Scene::on_file();
        scene.configure(&[], &["sync-interval: 20ms", &format!("format: {format}")]);
        clean(&scene, 30);
        starts(&scene, what);
        between(&scene, format);
        starts(&scene, &format!("{what}, {format}"));
        // And it goes on as if nothing had been.
        clean(&scene, 5);
        starts(&scene, &format!("after {what}, {format}"));
    }
}

#[test]
fn a_proven_end_and_nothing_since() {
    after("nothing", |_, _| ());
    after("an agent that came and went", |scene, _| clean(scene, 0));
}

#[test]
fn everything_killed_at_once() {
    after("kill -9", |scene, _| {
        let mut agent = scene.agent();
        agent.ready(SOON);
        let mut app = scene.writer().args(["--rate", "500"]).start();
        std::thread::sleep(Duration::from_millis(300));
        agent.kill();
        app.kill();
    });
}

#[test]
fn commits_that_no_agent_has_seen() {
    after("an agent that died before the app", |scene, _| {
        let mut agent = scene.agent();
        agent.ready(SOON);
        agent.kill();
        write(scene, 20);
    });
}

#[test]
fn a_wal_that_was_restarted_truncated_or_removed_while_nobody_was_attached() {
    let by = |sql: &'static str| {
        move |scene: &Scene, _: &str| {
            let db = Connection::open(scene.db()).unwrap();
            db.execute_batch(sql).unwrap();
        }
    };
    after(
        "a restart",
        by("PRAGMA wal_checkpoint(RESTART); CREATE TABLE more(a); INSERT INTO more VALUES(1);"),
    );
    after("a truncation", by("PRAGMA wal_checkpoint(TRUNCATE);"));
    after(
        "a change of mode",
        by("PRAGMA journal_mode=DELETE; CREATE TABLE more(a); PRAGMA journal_mode=WAL;"),
    );
}

#[test]
fn a_generation_that_began_because_an_agent_could_not_prove_anything() {
    after("a new beginning", |scene, _| {
        let db = Connection::open(scene.db()).unwrap();
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
        drop(db);
        let mut agent = scene.agent();
        agent.ready(SOON);
        write(scene, 5);
        agent.untroubled(Instant::now(), SOON);
        agent.kill();
    });
}

#[test]
fn a_replica_that_lost_its_youngest_or_its_oldest_objects() {
    after("lost youngest", |scene, _| fs::remove_file(objects(scene).last().unwrap()).unwrap());
    after("retention elsewhere", |scene, _| {
        let all = objects(scene);
        for path in &all[..all.len() - 1] {
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn a_second_replica_that_lags() {
    let scene = Scene::on_file();
    let config = fs::read_to_string(scene.config()).unwrap();
    let second = scene.dir().join("second");
    let two = format!("{config}      - name: second\n        path: {}\n", second.display());
    fs::write(scene.config(), two).unwrap();
    clean(&scene, 30);
    let saved = scene.dir().join("saved");
    assert!(Command::new("cp").arg("-a").args([&second, &saved]).status().unwrap().success());
    clean(&scene, 30);
    starts(&scene, "two replicas");
    fs::remove_dir_all(&second).unwrap();
    fs::rename(&saved, &second).unwrap();
    starts(&scene, "the second one lags");
    clean(&scene, 5);
    starts(&scene, "and caught up");
}

/// Litestream goes on with the database and its replica for a while, by its own rules, and stops.
#[test]
fn a_replica_that_litestream_went_on_with_here() {
    for (tool, format) in [(V03, "v0.3"), (V05, "ltx")] {
        for commits in [20, 0] {
            let scene = Scene::on_file();
            scene.configure(&[], &["sync-interval: 20ms", &format!("format: {format}")]);
            clean(&scene, 30);
            // Litestream knows no `format`.
            scene.configure(&[], &["sync-interval: 100ms"]);
            litestream(&scene, tool, commits);
            scene.configure(&[], &["sync-interval: 20ms", &format!("format: {format}")]);
            starts(&scene, &format!("{tool}, {commits} commits"));
            clean(&scene, 5);
            starts(&scene, &format!("after {tool}, {commits} commits"));
        }
    }
}

fn litestream(scene: &Scene, tool: Tool, commits: u32) {
    let mut other = scene.replicate(tool);
    std::thread::sleep(Duration::from_millis(700));
    if commits > 0 {
        write(scene, commits);
    }
    std::thread::sleep(Duration::from_millis(700));
    other.stop(SOON);
}
