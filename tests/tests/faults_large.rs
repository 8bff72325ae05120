//! A database of many parts over a connection that breaks every few megabytes to a server that is busy now and then: the
//! first snapshot arrives without beginning anew, and restores.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use holdfast_tests::chance::Chance;
use holdfast_tests::faulty::{Destination, each};
use holdfast_tests::proxy::{Answer, Fault, Request, Service};
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(120);
/// Longer than a part, so that one in so many breaks off.
const MB: u64 = 1 << 20;

#[test]
fn a_large_database_gets_through_and_comes_back() {
    let seed = Chance::seed("faults_large");
    each(&["format: v0.3", "format: ltx"], |destination, format| {
        let megabytes = if destination.service == Service::S3 { 100 } else { 30 };
        destination.configure("30s", format);
        let scene = &destination.scene;
        let app = fill(destination, megabytes);
        let chance = Mutex::new(Chance::new(seed));
        let service = destination.service;
        destination.proxy().script(move |request| faulty(&chance, service, request));

        let begun = Instant::now();
        let mut agent = scene.agent();
        agent.ready(SOON);
        let drained = agent.drain(SOON);
        assert!(drained.ok, "{service:?} {format}: {drained:?}\n{}", agent.log());
        assert!(agent.exit(SOON).success());
        let uploads = destination.proxy().requests().iter().filter(|line| begins_upload(line)).count();
        println!("{service:?} {format}: {megabytes} MB in {:?}, {uploads} uploads", begun.elapsed());
        assert!(uploads <= 2, "{service:?}: {uploads} uploads were begun:\n{}", agent.log());

        let begun = Instant::now();
        let (said, out) = destination.restore();
        assert_eq!(said.code, 0, "{service:?}: {}", said.stderr);
        println!("{service:?} {format}: restored in {:?}", begun.elapsed());
        let restored = Connection::open(out).expect("the restored database");
        assert!(rows(&restored) == rows(&app), "{service:?}: other rows");
    });
}

/// A megabyte at 400 KB a second, where a silence of one second is too long.
#[test]
fn what_is_large_has_the_time_a_slow_line_takes() {
    each(&[()], |destination, ()| {
        let app = fill(destination, 1);
        destination.proxy().script(|request| match request.length {
            0..MB => Fault::Pass,
            MB.. => Fault::Slow { rate: 400_000 },
        });
        let begun = Instant::now();
        let mut agent = destination.scene.agent();
        agent.ready(SOON);
        agent.untroubled(begun, SOON);
        assert!(begun.elapsed() > Duration::from_secs(2), "it was slow");
        let drained = agent.drain(SOON);
        assert!(drained.ok, "{:?}: {drained:?}\n{}", destination.service, agent.log());
        assert!(!agent.log().contains("trying again"), "{}", agent.log());
        assert!(agent.exit(SOON).success());
        let (said, out) = destination.restore();
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(rows(&Connection::open(out).expect("the restored database")) == rows(&app));
    });
}

/// Every tenth request meets a busy server; of the large ones, one in five breaks off on its way there or back.
fn faulty(chance: &Mutex<Chance>, service: Service, request: &Request) -> Fault {
    if request.number.is_multiple_of(10) {
        return Fault::Answer(Answer::throttled(service));
    }
    let mut chance = chance.lock().expect("nobody panics here");
    match chance.below(10) {
        0 if request.length > MB => Fault::ResetRequest { after: 3 * MB },
        1 if request.length > MB => Fault::ResetAnswer { after: None },
        0 | 1 if request.method == "GET" => Fault::ResetAnswer { after: Some(MB) },
        _ => Fault::Pass,
    }
}

/// The request that starts an upload in parts, where there is one.
fn begins_upload(line: &str) -> bool {
    line.starts_with("POST ")
        && (line.ends_with("?uploads") || line.ends_with("?uploads=") || !line.contains('?'))
}

/// Rows that no compressor makes smaller, all in the database file.
fn fill(destination: &Destination, megabytes: u64) -> Connection {
    let db = Connection::open(destination.scene.db()).expect("a database");
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE blobs (n INTEGER PRIMARY KEY, body BLOB);")
        .expect("a table");
    for n in 0..megabytes {
        db.execute("INSERT INTO blobs VALUES (?1, randomblob(1048576))", [n as i64]).expect("a row");
    }
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO blobs VALUES (-1, 'the last');")
        .expect("a checkpoint");
    db
}

fn rows(db: &Connection) -> Vec<(i64, Vec<u8>)> {
    let mut all = db.prepare("SELECT n, CAST(body AS BLOB) FROM blobs ORDER BY n").expect("a table");
    let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("every row")
}
