//! What stands in the WAL: page sizes, checksums, sizes, transactions that end and transactions that do not.

use std::fs;
use std::io::Read;
use std::time::Duration;

use holdfast::format::wal::{Chain, FRAME_HEADER_LEN, FrameHeader, HEADER_LEN, Header, WordOrder};
use holdfast::run::limits::Limits;

use crate::common::app::{App, Repeating};
use crate::common::scene::{FAST, Pace, Scene, generations, indexes, objects};
use crate::{TABLE, WRITE, insert};

#[test]
fn every_page_size_is_replicated_and_restored() {
    for size in (9..=16).map(|n| 1 << n) {
        let scene = Scene::new();
        let mut app = App::start(&scene.db);
        app.run(&format!("PRAGMA page_size={size}; PRAGMA journal_mode=WAL"));
        app.run(TABLE);
        app.run(&insert(20, size / 2));
        let agent = scene.agent(FAST);
        agent.says("wal pinned", 1);
        for _ in 0..4 {
            app.run(&insert(50, size / 2));
        }
        app.run("DELETE FROM t WHERE id % 3 = 0");
        agent.stop();
        assert_eq!(app.run("PRAGMA page_size"), size.to_string());
        app.close();
        scene.same_bytes(&scene.replica(0));
    }
}

/// Rewrites a WAL as a machine of the other byte order would have written it.
fn to_big_endian(wal: &[u8]) -> Vec<u8> {
    let old = Header::parse(wal).unwrap();
    assert_eq!(old.order, WordOrder::Little);
    let mut out = Header { order: WordOrder::Big, ..old }.encode().to_vec();
    let mut chain = Chain::start(&Header::parse(&out).unwrap());
    for frame in wal[HEADER_LEN..].chunks_exact(chain.frame_len()) {
        let mut frame = frame.to_vec();
        if FrameHeader::parse(frame.first_chunk().unwrap()).salt != old.salt {
            break;
        }
        chain.seal(&mut frame);
        out.extend(frame);
    }
    assert!(out.len() > HEADER_LEN + FRAME_HEADER_LEN);
    out
}

#[test]
fn a_wal_with_big_endian_checksums_is_continued_replicated_and_restored() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(&insert(30, 1000));
    app.kill();
    let wal = scene.path("app.db-wal");
    fs::write(&wal, to_big_endian(&fs::read(&wal).unwrap())).unwrap();
    fs::remove_file(scene.path("app.db-shm")).unwrap();
    let mut app = App::start(&scene.db);
    assert_eq!(app.run("SELECT count(*) FROM t"), "30", "SQLite recovers it");
    // Short indexes, too: a split one has checksums of its own in the same byte order.
    let limits = Limits { index_bytes: 64 << 10, ..Limits::default() };
    let agent = scene.agent_within(Pace { database: &["checkpoint-interval: 0s"], ..FAST }, limits);
    agent.says("snapshot written", 1);
    for n in 1..=3 {
        app.run(&insert(30, 1000));
        agent.says("wal segment written", n);
    }
    assert_eq!(
        Header::parse(&fs::read(&wal).unwrap()).unwrap().order,
        WordOrder::Big,
        "SQLite goes on with it"
    );
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn vacuum_is_replicated_with_the_size_it_leaves() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(&insert(2000, 1000));
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    let before: u64 = app.run("PRAGMA page_count").parse().unwrap();
    app.run("DELETE FROM t WHERE id > 200");
    app.run("VACUUM");
    let after: u64 = app.run("PRAGMA page_count").parse().unwrap();
    assert!(after < before / 4);
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_database_that_shrinks_with_every_commit_and_grows_again_is_restored() {
    let scene = Scene::new();
    let mut app = App::start(&scene.db);
    app.run("PRAGMA auto_vacuum=FULL; PRAGMA journal_mode=WAL");
    app.run(TABLE);
    app.run(&insert(500, 3000));
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    for round in 0..4 {
        app.run(&format!("DELETE FROM t WHERE id % 5 != {round}"));
        app.run("PRAGMA wal_checkpoint(PASSIVE)");
        app.run(&insert(300, 3000));
    }
    agent.stop();
    app.close();
    // Not its bytes: pages freed without being written hold what the file held there before it shrank.
    scene.same_content(&scene.replica(0));
    assert_eq!(generations(&scene.replica(0)), 1);
}

#[test]
fn one_transaction_of_twenty_segments_is_sent_in_pieces_by_an_agent_that_stays_small() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA cache_size=100");
    app.run(TABLE);
    app.run(WRITE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    app.run(&insert(88, 1 << 20));
    app.run(WRITE);
    crate::common::eventually("all of it is sent", crate::common::LONG, || {
        objects(&scene.replica(0)).iter().filter(|o| o.contains("/wal/")).count() > 20
    });
    let peak = agent.cost().peak;
    agent.stop();
    assert!(peak < 32 << 20, "the agent needed {} MiB", peak >> 20);
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_storm_of_rollbacks_that_spilled_is_never_sent_and_the_agent_comes_to_rest() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA cache_size=10");
    app.run(TABLE);
    app.run(&insert(100, 3000));
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    for _ in 0..30 {
        app.run(&format!("BEGIN; {}; ROLLBACK", insert(400, 3000)));
    }
    let (wal, sent) = (fs::metadata(scene.path("app.db-wal")).unwrap().len(), objects(&scene.replica(0)));
    assert!(wal > 1_000_000, "the transactions spilled into the WAL: {wal} bytes");
    let before = agent.cost();
    std::thread::sleep(Duration::from_secs(3));
    let after = agent.cost();
    assert!(after.switches - before.switches < 150, "{before:?} {after:?}");
    assert_eq!(objects(&scene.replica(0)), sent, "nothing of it was sent");
    app.run(&insert(3, 3000));
    app.run(&format!("BEGIN; {}; ROLLBACK", insert(100, 3000)));
    app.run(WRITE);
    agent.stop();
    app.close();
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn a_long_transaction_reaches_the_replica_soon_after_its_commit() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA cache_size=10");
    app.run(TABLE);
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    app.run(&format!("BEGIN; {}", insert(400, 3000)));
    let wal = fs::metadata(scene.path("app.db-wal")).unwrap().len();
    assert!(wal > 1_000_000, "the transaction spilled into the WAL: {wal} bytes");
    std::thread::sleep(Duration::from_millis(2500));
    app.run(&insert(1, 10));
    let sent = objects(&scene.replica(0));
    app.run("COMMIT");
    crate::common::eventually("the commit is sent", Duration::from_millis(500), || {
        objects(&scene.replica(0)) != sent
    });
    agent.stop();
}

/// As [`Scene::same_bytes`], a little at a time.
#[track_caller]
fn same_large_files(a: &std::path::Path, b: &std::path::Path) {
    let (mut a, mut b) = (fs::File::open(a).unwrap(), fs::File::open(b).unwrap());
    assert_eq!(a.metadata().unwrap().len(), b.metadata().unwrap().len());
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let n = a.read(&mut x).unwrap();
        b.read_exact(&mut y[..n]).unwrap();
        assert!(x[..n] == y[..n], "the megabyte at {at} differs");
        at += n as u64;
        if n == 0 {
            return;
        }
    }
}

/// SQLite never uses the page at 1 GiB, where its locks are (sqlite.org/fileformat2.html §1.1).
#[test]
fn a_database_that_grows_across_the_lock_page_is_restored() {
    let scene = Scene::new();
    let mut app = App::start(&scene.db);
    app.run("PRAGMA page_size=65536; PRAGMA journal_mode=WAL");
    app.run(TABLE);
    app.close();
    // Everything up to the lock page at once: pages nobody uses, without a byte on the disk.
    const LOCK_PAGE: u32 = (1 << 30) / 65536 + 1;
    let file = fs::File::options().write(true).open(&scene.db).unwrap();
    file.set_len(u64::from(LOCK_PAGE - 2) * 65536).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &(LOCK_PAGE - 2).to_be_bytes(), 28).unwrap();
    drop(file);
    let mut app = App::start(&scene.db);
    assert_eq!(app.run("PRAGMA page_count"), (LOCK_PAGE - 2).to_string());
    let agent = scene.agent(FAST);
    agent.says("snapshot written", 1);
    app.run(&insert(6, 60_000));
    let pages: u32 = app.run("PRAGMA page_count").parse().unwrap();
    assert!(pages > LOCK_PAGE, "{pages}");
    agent.stop();
    app.close();
    crate::common::scene::settle(&scene.db);
    let restored = scene.restore(&scene.replica(0));
    same_large_files(&restored, &scene.db);
}

#[test]
fn a_wal_longer_than_an_index_may_be_is_continued_in_the_next_and_restored() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA wal_autocheckpoint=0");
    app.run(TABLE);
    let limits = Limits { index_bytes: 256 << 10, ..Limits::default() };
    let never = ["min-checkpoint-page-count: 1000000", "checkpoint-interval: 0s"];
    let agent = scene.agent_within(Pace { database: &never, ..FAST }, limits);
    agent.says("snapshot written", 1);
    for _ in 0..20 {
        app.run(&insert(20, 3000));
        std::thread::sleep(Duration::from_millis(30));
    }
    // One transaction over several times the length of an index.
    app.run(&insert(300, 3000));
    app.run(WRITE);
    agent.stop();
    app.close();
    let found = indexes(&scene.replica(0));
    assert!(found.len() > 4, "{found:?}");
    assert_eq!(generations(&scene.replica(0)), 1);
    let past = objects(&scene.replica(0))
        .iter()
        .filter_map(|o| o.split_once("/wal/"))
        .any(|(_, name)| u64::from_str_radix(&name[9..17], 16).unwrap() >= limits.index_bytes);
    assert!(!past, "a segment starts below the end of an index");
    scene.same_bytes(&scene.replica(0));
}

#[test]
fn an_index_that_was_split_ends_when_the_wal_restarts() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let limits = Limits { index_bytes: 100 << 10, ..Limits::default() };
    let agent = scene.agent_within(FAST, limits);
    agent.says("wal pinned", 1);
    let writer = Repeating::start(&scene.db, WRITE, Duration::from_millis(5));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(writer.stop().busy, 0);
    agent.stop();
    app.close();
    assert_eq!(generations(&scene.replica(0)), 1);
    assert!(indexes(&scene.replica(0)).len() > 2);
    scene.same_bytes(&scene.replica(0));
}
