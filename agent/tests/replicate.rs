//! The agent's loop against a real SQLite writer and a directory: what is written comes back, whatever happens.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::time::Duration;

use holdfast::error::Kind;
use holdfast::plan::restore::Target;
use holdfast::run::restore::{Options, Outcome, Ownership, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};
use holdfast_config::exit::Exit;
use holdfast_config::{Config, Destination, Replica};
use rusqlite::Connection;

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;").unwrap();
    db
}

fn sum(path: &Path) -> (i64, i64) {
    let db = Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
    db.query_row("SELECT count(*), sum(length(v) * id) FROM t", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap()
}

#[tokio::test]
async fn what_a_busy_writer_commits_before_sigterm_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (db, replica) = (dir.path().join("a.db"), dir.path().join("replica"));
    let writer = open(&db);
    writer.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)").unwrap();
    let mut config =
        Config::for_command_line(&db, vec![Replica::to(Destination::File { path: replica.clone() })]);
    config.databases[0].replicas[0].sync_interval = Duration::from_millis(50);
    config.databases[0].min_checkpoint_pages = 100;
    let run = tokio::spawn(holdfast::run::replicate::run(config, None, Default::default()));
    let written = tokio::task::spawn_blocking(move || {
        let end = std::time::Instant::now() + Duration::from_secs(3);
        let mut n = 0u32;
        while std::time::Instant::now() < end {
            writer.execute("INSERT INTO t(v) VALUES(randomblob(?))", [n % 900]).unwrap();
            n += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        (writer, n)
    });
    let (_writer, n) = written.await.unwrap();
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap(), Exit::Ok);
    let copy = dir.path().join("copy.db");
    let mut options = Options {
        db: copy.clone(),
        target: Target::LATEST,
        parallelism: 4,
        if_db_not_exists: false,
        force: false,
        seen: None,
        dry_run: false,
        ownership: Ownership::default(),
        show: Show::Nothing,
    };
    let store = Store::in_directory(&replica, &OpenOptions::default());
    let sources = [Source { name: "file".into(), store }];
    let outcome = restore(&sources, &options).await.unwrap();
    assert!(matches!(outcome, Outcome::Restored(_)), "{outcome:?}");
    assert_eq!(sum(&copy), sum(&db));
    assert_eq!(sum(&copy).0, i64::from(n));
    let generations = std::fs::read_dir(replica.join("generations")).unwrap().count();
    assert_eq!(generations, 1, "one unbroken generation");
    let wal =
        std::fs::read_dir(replica.join("generations")).unwrap().next().unwrap().unwrap().path().join("wal");
    let names: Vec<_> = std::fs::read_dir(&wal).unwrap().map(|e| e.unwrap().file_name()).collect();
    let indexes: std::collections::BTreeSet<_> =
        names.iter().map(|n| n.to_string_lossy()[..8].to_owned()).collect();
    assert!(indexes.len() > 1, "the WAL was restarted by hand-over: {indexes:?} of {n} commits");

    // The table was in the WAL when the base was copied: without any WAL it is no database, and the base says so.
    std::fs::remove_dir_all(wal).unwrap();
    options.db = dir.path().join("short.db");
    let refused = restore(&sources, &options).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unrestorable);
    let said = refused.to_string();
    assert!(said.contains("00000000.snapshot.lz4") && said.contains("its end is missing"), "{said}");
    assert!(!options.db.exists());
}
