//! What probes and scrapers are told by a real agent, over real connections, and that asking costs replication nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::app::App;
use common::scene::{FAST, Scene};
use common::{LONG, agent::Agent, eventually};
use holdfast::run::limits::Limits;
use nix::sys::signal::Signal;

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)";
const WRITE: &str = "INSERT INTO t(v) VALUES(randomblob(300))";

/// An address nobody listens on.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The scene's agent, with `top` at the top of its configuration, and where it listens.
fn listening(scene: &Scene, top: &str) -> (Agent, String) {
    let addr = free();
    let database = scene.configure(&scene.db, "r", FAST);
    let agent = scene.agent_of(&format!("addr: {addr}\n{top}dbs:\n{database}"), Limits::default());
    eventually("it listens", LONG, || TcpStream::connect(&addr).is_ok());
    (agent, addr)
}

/// Sends `bytes`; status and everything else of the answer. `None` if nobody answers.
fn send(addr: &str, bytes: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(bytes).ok()?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    Some((text.split(' ').nth(1)?.parse().ok()?, text))
}

fn get(addr: &str, path: &str) -> Option<(u16, String)> {
    let (status, text) = send(addr, format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// `/livez`, `/startupz`, `/readyz`
fn three(addr: &str) -> Option<[u16; 3]> {
    let status = |path| get(addr, path).map(|(status, _)| status);
    Some([status("/livez")?, status("/startupz")?, status("/readyz")?])
}

#[track_caller]
fn answers(addr: &str, expected: [u16; 3]) {
    let mut last = None;
    let start = Instant::now();
    while last != Some(expected) {
        assert!(start.elapsed() < LONG, "{last:?}, {expected:?} expected: {:?}", get(addr, "/readyz"));
        last = three(addr);
    }
}

/// The value of the one sample that begins so.
#[track_caller]
fn metric(page: &str, begins: &str) -> f64 {
    let mut found = page.lines().filter(|line| line.starts_with(begins));
    let line = found.next().unwrap_or_else(|| panic!("no {begins} in {page}"));
    assert_eq!(found.next(), None, "{begins} stands there once");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn metrics(addr: &str) -> String {
    let (status, page) = get(addr, "/metrics").unwrap();
    assert_eq!(status, 200);
    page
}

#[test]
fn t87_an_agent_is_up_once_its_database_is_pinned_or_waited_for() {
    let scene = Scene::new();
    let (agent, addr) = listening(&scene, "max-lag: 1h\n");
    answers(&addr, [200, 200, 200]);
    assert_eq!(metric(&metrics(&addr), "holdfast_database_waiting{"), 1.0);
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    agent.says("wal pinned", 1);
    eventually("it is pinned and has a base", LONG, || {
        let page = metrics(&addr);
        page.contains("holdfast_databases{state=\"pinned\"} 1\n")
            && page.lines().any(|l| l.starts_with("holdfast_replica_has_base{") && l.ends_with(" 1"))
    });
    answers(&addr, [200, 200, 200]);
    app.close();
    agent.stop();
    assert_eq!(get(&addr, "/livez"), None, "nobody listens any more");

    // A file that is no database has started nothing.
    let scene = Scene::new();
    fs::write(&scene.db, "not a database at all, but long enough to have had a header if it were one, that is to say 100 bytes").unwrap();
    let (agent, addr) = listening(&scene, "");
    agent.says("no SQLite header", 1);
    answers(&addr, [200, 503, 503]);
    let (_, why) = get(&addr, "/readyz").unwrap();
    assert!(why.contains("app.db is not pinned: ") && why.contains("no SQLite header"), "{why}");
    agent.kill();
}

#[test]
fn a_replica_that_is_away_breaks_the_objective_and_not_the_agent() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    // No directory can be made here, whoever asks.
    fs::write(scene.replica(0), "in the way").unwrap();
    let (agent, addr) = listening(&scene, "max-lag: 300ms\n");
    answers(&addr, [200, 200, 503]);
    let (_, why) = get(&addr, "/readyz").unwrap();
    assert!(why.contains("app.db is ") && why.contains(" s behind on its replica r0: "), "{why}");
    let page = metrics(&addr);
    assert!(metric(&page, "holdfast_replica_lag_seconds{") > 0.3, "{page}");
    assert_eq!(metric(&page, "holdfast_replica_error{"), 1.0);
    assert_eq!(metric(&page, "holdfast_replica_has_base{"), 0.0);
    let failed: f64 = page
        .lines()
        .filter(|l| l.starts_with("holdfast_replica_errors_total{"))
        .map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert!(failed >= 1.0, "{page}");

    fs::remove_file(scene.replica(0)).unwrap();
    answers(&addr, [200, 200, 200]);
    app.run(WRITE);
    let mut page = String::new();
    eventually("the commit was seen, and is acknowledged", LONG, || {
        page = metrics(&addr);
        metric(&page, "litestream_total_wal_bytes{") >= 4120.0
            && metric(&page, "holdfast_replica_lag_bytes{") == 0.0
    });
    assert_eq!(metric(&page, "holdfast_replica_lag_seconds{"), 0.0, "{page}");
    assert_eq!(metric(&page, "holdfast_replica_error{"), 0.0, "{page}");
    assert!(metric(&page, "litestream_replica_wal_offset{") > 4120.0, "{page}");
    assert!(metric(&page, "litestream_replica_wal_bytes{") > 4120.0, "{page}");
    app.close();
    agent.stop();
}

/// Acknowledged within moments, however much is written: the age of what is lacking does not add up.
#[test]
fn under_a_writer_that_never_pauses_the_lag_is_that_of_the_last_moments() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let (agent, addr) = listening(&scene, "");
    let writer = common::app::Repeating::with_timeout(
        &scene.db,
        WRITE,
        Duration::from_millis(2),
        Duration::from_secs(5),
    );
    agent.says("wal segment written", 1);
    let (start, mut seen) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(6) {
        seen.push(metric(&metrics(&addr), "holdfast_replica_lag_seconds{"));
        std::thread::sleep(Duration::from_millis(50));
    }
    writer.stop();
    // A busy machine may hold up a scrape or two.
    seen.sort_by(f64::total_cmp);
    let middle = seen[seen.len() / 2];
    assert!(middle < 2.0, "{seen:?}");
    assert!(seen.iter().any(|lag| *lag > 0.0), "something was on its way");
    app.close();
    agent.stop();
}

#[test]
fn a_scrape_a_moment_costs_no_request() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    app.run(WRITE);
    let (agent, addr) = listening(&scene, "");
    let requests = || {
        let page = metrics(&addr);
        let lines: Vec<_> =
            page.lines().filter(|l| l.starts_with("holdfast_requests_total{")).map(str::to_owned).collect();
        lines
    };
    agent.says("snapshot written", 1);
    // Until it is at rest.
    let mut before = requests();
    eventually("the agent is at rest", LONG, || {
        std::thread::sleep(Duration::from_secs(1));
        let now = requests();
        let rests = now == before && now.iter().any(|l| l.contains("\"PUT\"") && !l.ends_with(" 0"));
        before = now;
        rests
    });
    for _ in 0..100 {
        assert_eq!(three(&addr), Some([200; 3]));
        assert_eq!(get(&addr, "/status").unwrap().0, 200);
        assert_eq!(requests(), before);
    }
    app.close();
    agent.stop();
}

#[test]
fn t89_hanging_connections_hold_up_neither_replication_nor_its_end_nor_a_probe() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    let (mut agent, addr) = listening(&scene, "");
    answers(&addr, [200, 200, 200]);
    let address = addr.parse().unwrap();
    let hanging: Vec<_> = (0..1000)
        .map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok())
        .collect();
    assert!(hanging.len() > 100, "{} connected", hanging.len());
    let began = Instant::now();
    answers(&addr, [200, 200, 200]);
    assert!(began.elapsed() < Duration::from_secs(2), "three probes took {:?}", began.elapsed());
    let segments = agent.lines("wal segment written").len();
    app.run(WRITE);
    agent.says("wal segment written", segments + 1);
    app.close();
    assert_eq!(agent.terminate(), 0, "{}", agent.log());
    scene.same_content(&scene.replica(0));
    drop(hanging);
}

#[test]
fn what_is_no_request_is_refused() {
    let scene = Scene::new();
    let (agent, addr) = listening(&scene, "");
    let status = |bytes: &[u8]| send(&addr, bytes).map(|(status, _)| status);
    assert_eq!(status(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"), Some(405));
    assert_eq!(status(b"GET /debug/pprof/ HTTP/1.1\r\nHost: x\r\n\r\n"), Some(404));
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\r\n\r\n"), Some(400));
    let long = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(status(long.as_bytes()), Some(431));
    let (head, text) = send(&addr, b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(head == 200 && text.ends_with("\r\n\r\n"), "{text}");
    // A request that never comes to its end is given up.
    assert!(matches!(status(b"GET /livez HTTP/1.1\r\n"), None | Some(408)));
    assert_eq!(get(&addr, "/healthz?x=y").unwrap().0, 200);
    agent.stop();
}

#[test]
fn an_address_that_is_taken_is_said_and_stops_nothing() {
    let scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let database = scene.configure(&scene.db, "r", FAST);
    let agent = scene.agent_of(&format!("addr: {addr}\ndbs:\n{database}"), Limits::default());
    agent.says(&format!("listen on {addr} for metrics: Address already in use"), 1);
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    agent.says("snapshot written", 1);
    app.close();
    agent.stop();
    scene.same_content(&scene.replica(0));
}

#[test]
fn while_the_final_sync_lasts_the_agent_lives_and_is_not_ready() {
    let scene = Scene::new();
    let mut app = App::wal(&scene.db);
    app.run(TABLE);
    fs::write(scene.replica(0), "in the way").unwrap();
    let (mut agent, addr) = listening(&scene, "shutdown-sync-timeout: 2s\n");
    answers(&addr, [200, 200, 200]);
    agent.signal(Signal::SIGTERM);
    answers(&addr, [200, 200, 503]);
    let (_, why) = get(&addr, "/readyz").unwrap();
    assert_eq!(why, "{\"ok\":false,\"why\":[\"phase: stopping\"]}\n");
    assert_eq!(agent.wait(), 74, "{}", agent.log());
    app.close();
}
