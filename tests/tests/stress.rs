//! The checkpoint race that corrupts Litestream 0.3.13's backups (`spec` §11.1), provoked: an app that checkpoints all
//! the time, several writers, short readers and a foreign program that truncates the WAL in a loop. What restores must
//! equal what is live, every time, and no lock of ours may ever fail a statement of the app's.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_tests::oracle;
use holdfast_tests::process::code;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::{Holdfast, V03};
use holdfast_tests::workload::summary;
use nix::fcntl::{Flock, FlockArg};
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_app_that_checkpoints_every_5_pages_restores_equal_and_is_never_locked_out() {
    race(5, Foreign::TakesTurns);
}

#[test]
fn an_app_that_checkpoints_every_100_pages_restores_equal_and_is_never_locked_out() {
    race(100, Foreign::TakesTurns);
}

#[test]
fn a_foreign_truncate_at_any_moment_restores_equal_with_5_pages() {
    race(5, Foreign::AtAnyMoment);
}

#[test]
fn a_foreign_truncate_at_any_moment_restores_equal_with_100_pages() {
    race(100, Foreign::AtAnyMoment);
}

/// How the foreign program that runs `wal_checkpoint(TRUNCATE)` behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    /// It and the writers take turns by a lock of their own: whoever still meets SQLITE_BUSY met it because of us.
    TakesTurns,
    /// It locks writers out now and then, as a careless program does: SQLITE_BUSY proves nothing, content must.
    AtAnyMoment,
}

fn race(autocheckpoint: u32, foreign: Foreign) {
    let scene = Scene::on_file();
    // Checkpoints of ours as often as can be, too.
    let eager = ["min-checkpoint-page-count: 20", "max-checkpoint-page-count: 50", "monitor-interval: 100ms"];
    scene.configure(&eager, &["sync-interval: 100ms"]);
    let lock = scene.dir().join("app.lock");
    let pages = autocheckpoint.to_string();
    let lock_flag = lock.display().to_string();
    let mut load = vec!["--autocheckpoint", &pages, "--writers", "4", "--readers", "2", "--keep", "800"];
    load.extend(["--big-txn", "200", "--app-lock", &lock_flag, "--hold"]);

    // The app before the agent: its first statements are not part of the race.
    let mut app = scene.writer().args(["--commits", "1", "--hold"]).start();
    app.wait_log("the app", SOON, |line| line == "holding");
    let mut agent = scene.replicate(Holdfast);
    scene.caught_up(V03, 1, SOON);

    let stop = AtomicBool::new(false);
    let turns = (foreign == Foreign::TakesTurns).then_some(lock.as_path());
    let busy: u64 = std::thread::scope(|scope| {
        scope.spawn(|| truncate_in_a_loop(&scene.db(), turns, &stop));
        let busy = (1..).zip(PACES).map(|(round, pace)| burst(&scene, &load, round, pace)).sum();
        stop.store(true, Ordering::Relaxed);
        busy
    });
    println!("autocheckpoint {autocheckpoint}, foreign {foreign:?}: {busy} SQLITE_BUSY");
    if foreign == Foreign::TakesTurns {
        assert_eq!(busy, 0, "statements of the app were locked out");
    }

    let live = oracle::expect_state(&scene.db(), "the live database");
    assert_eq!(code(agent.stop(SOON)), 0, "we stop cleanly:\n{}", agent.log());
    assert_eq!(scene.restored(Holdfast, &[]), live, "after the final sync");
}

/// As fast as it goes, which leaves no gap to let the WAL restart in; with random gaps; steadily.
const PACES: [[&str; 2]; 3] = [["--gap-ms", "0"], ["--gap-ms", "4"], ["--rate", "800"]];

/// Three seconds of load, then quiet: both programs restore exactly what is live. Returns how often SQLite was busy.
fn burst(scene: &Scene, load: &[&str], round: u32, pace: [&str; 2]) -> u64 {
    let seed = round.to_string();
    let load = load.iter().copied().chain(pace).chain(["--seconds", "3", "--seed", &seed]);
    let mut writer = scene.writer().args(load).start();
    writer.wait_log("the burst", SOON, |line| line == "holding");
    let live = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(Holdfast, live.last, SOON);
    assert_eq!(scene.restored(Holdfast, &[]), live, "round {round}, restored by us");
    assert_eq!(scene.restored(V03, &[]), live, "round {round}, restored by 0.3.13");
    writer.stop(SOON);
    summary(&writer.log()).busy
}

/// What a foreign program does: its own connection, no patience.
fn truncate_in_a_loop(db: &Path, lock: Option<&Path>, stop: &AtomicBool) {
    let connection = Connection::open(db).expect("open the live database");
    connection.busy_timeout(Duration::ZERO).expect("no busy timeout");
    while !stop.load(Ordering::Relaxed) {
        let _turn = lock.map(|path| {
            let file = File::options().create(true).append(true).open(path).expect("the app's lock");
            Flock::lock(file, FlockArg::LockExclusive).expect("a turn")
        });
        // Busy is an answer, and not an error here.
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        drop(_turn);
        std::thread::sleep(Duration::from_millis(7));
    }
}
