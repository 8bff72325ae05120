//! `dir` in the configuration: databases that come and go are followed, restored by their paths, and handed to and from
//! the real Litestream 0.5.17.

use std::time::Duration;

use holdfast_tests::process::{self, code};
use holdfast_tests::tenants::{Tenants, commit};
use holdfast_tests::tool::Tool;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn databases_that_appear_are_replicated_wherever_they_appear() {
    let tenants = Tenants::new(&["sync-interval: 50ms"]);
    let early = tenants.open("early.db");
    std::fs::write(tenants.db("empty.db"), "").unwrap();
    std::fs::write(tenants.db("text.db"), "this is a text, and quite a long one").unwrap();
    std::fs::write(tenants.db("other.txt"), "").unwrap();
    let mut agent = tenants.replicate(Tool::Holdfast);
    tenants.reaches("early.db", 1, SOON);
    let later = ["late.db", "eu/deep/late.db", "empty.db"].map(|name| (name, tenants.open(name)));
    for (name, db) in &later {
        tenants.reaches(name, 1, SOON);
        commit(db);
    }
    commit(&early);
    for (name, _) in &later {
        tenants.reaches(name, 2, SOON);
    }
    tenants.reaches("early.db", 2, SOON);
    let log = agent.log();
    assert_eq!(log.matches("text.db matches the pattern and is not a SQLite database").count(), 1, "{log}");
    let listed = process::run(
        Tool::Holdfast.command("databases").arg("-config").arg(tenants.config()),
        Duration::from_secs(10),
    );
    let names: Vec<_> = listed.stdout.lines().skip(1).filter_map(|l| l.split_whitespace().next()).collect();
    let paths =
        ["early.db", "empty.db", "eu/deep/late.db", "late.db"].map(|n| tenants.db(n).display().to_string());
    assert_eq!(names, paths, "{}", listed.stdout);
    later.iter().for_each(|(_, db)| commit(db));
    assert_eq!(code(agent.stop(SOON)), 0, "{}", agent.log());
    assert_eq!(tenants.rows(Tool::Holdfast, "eu/deep/late.db"), Some(3));
    assert_eq!(agent.log().matches("final sync complete").count(), 4);
}

#[test]
fn a_database_that_vanishes_leaves_its_last_commit_and_goes_on_when_it_comes_back() {
    let tenants = Tenants::new(&["sync-interval: 50ms"]);
    let (gone, moved) = (tenants.open("gone.db"), tenants.open("moved.db"));
    let mut agent = tenants.replicate(Tool::Holdfast);
    tenants.reaches("gone.db", 1, SOON);
    tenants.reaches("moved.db", 1, SOON);
    // What is committed last, nobody has seen when the files are gone.
    agent.signal(Signal::SIGSTOP);
    commit(&gone);
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(tenants.db(&format!("gone.db{suffix}"))).unwrap();
    }
    agent.signal(Signal::SIGCONT);
    agent.wait_log("it is let go", SOON, |l| l.contains("removed database") && l.contains("gone.db"));
    drop(gone);
    assert_eq!(tenants.rows(Tool::Holdfast, "gone.db"), Some(2), "{}", agent.log());
    let gone = tenants.open("gone.db");
    for _ in 0..3 {
        commit(&gone);
    }
    tenants.reaches("gone.db", 4, SOON);
    // The same file at another path is another database, and neither loses the other's locks.
    commit(&moved);
    drop(moved);
    for suffix in ["", "-wal", "-shm"] {
        let from = tenants.db(&format!("moved.db{suffix}"));
        if from.exists() {
            std::fs::rename(from, tenants.db(&format!("renamed.db{suffix}"))).unwrap();
        }
    }
    tenants.reaches("renamed.db", 2, SOON);
    assert_eq!(tenants.rows(Tool::Holdfast, "moved.db"), Some(2));
    let renamed = tenants.open("renamed.db");
    tenants.reaches("renamed.db", 3, SOON);
    drop(renamed);
    assert_eq!(code(agent.stop(SOON)), 0, "{}", agent.log());
    let log = agent.log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn without_watch_those_there_at_the_start_are_replicated() {
    let tenants = Tenants::new(&[]);
    tenants.configure(&[], &["sync-interval: 50ms"]);
    let db = tenants.open("a.db");
    drop(tenants.open("eu/b.db"));
    let mut agent = tenants.replicate(Tool::Holdfast);
    tenants.reaches("a.db", 1, SOON);
    drop(tenants.open("late.db"));
    commit(&db);
    tenants.reaches("a.db", 2, SOON);
    assert_eq!(code(agent.stop(SOON)), 0, "{}", agent.log());
    assert!(!tenants.replica("late.db").exists() && !tenants.replica("eu").exists());
}

#[test]
fn a_directory_that_can_hold_nothing_is_refused_by_name() {
    let tenants = Tenants::new(&[]);
    let refused = |want: &str| {
        let mut agent = tenants.replicate(Tool::Holdfast);
        assert_eq!(code(agent.wait(SOON)), 78);
        let log = agent.log();
        assert!(log.contains(want), "{want} in\n{log}");
    };
    tenants.configure(&[], &[]);
    refused("no SQLite database in `dir: ");
    std::fs::remove_dir(tenants.data()).unwrap();
    refused("cannot be read: No such file or directory");
    std::fs::write(tenants.data(), "").unwrap();
    refused("is not a directory");
    // To restore what was lost with the directory needs no directory.
    let (said, _) = tenants.restore(Tool::Holdfast, "a.db");
    assert_eq!(said.code, 66, "{}", said.stderr);
}

#[test]
fn litestream_0_5_17_restores_and_continues_what_we_wrote_and_we_what_it_wrote() {
    let tenants = Tenants::new(&["sync-interval: 50ms", "format: ltx"]);
    let names = ["a.db", "eu/b.db", ".hidden.db"];
    let open = names.map(|name| (name, tenants.open(name)));
    let mut rows = 1;
    for tool in [Tool::Holdfast, Tool::V05, Tool::Holdfast, Tool::V05] {
        let mut agent = tenants.replicate(tool);
        let up = if tool == Tool::Holdfast { "wal pinned" } else { "replicating to" };
        agent.wait_log("it replicates", SOON, |l| l.contains(up) && l.contains(".hidden.db"));
        open.iter().for_each(|(_, db)| commit(db));
        rows += 1;
        for name in names {
            let until = std::time::Instant::now() + SOON;
            while tenants.rows_by_url(Tool::V05, name) != Some(rows) {
                assert!(std::time::Instant::now() < until, "{tool} {name}: not {rows} rows\n{}", agent.log());
                std::thread::sleep(Duration::from_millis(100));
            }
            assert_eq!(tenants.rows(Tool::Holdfast, name), Some(rows), "{tool} {name}");
        }
        assert_eq!(code(agent.stop(SOON)), 0, "{}", agent.log());
    }
}
