//! Rounds against writers that never wait for us: no error in the app, no frame lost, and the WAL stays short.

use std::time::{Duration, Instant};

use holdfast::plan::database::WalPos;
use holdfast::plan::handover::{Mode, Outcome};
use holdfast::source::live::{Live, Round};
use holdfast::source::tail::Tails;

use crate::common::app::{App, Repeating};
use crate::common::scene::{Scene, settle};
use crate::follow::Follower;

const WRITE: &str = "BEGIN IMMEDIATE; INSERT INTO t(v) VALUES(randomblob(abs(random() % 900)));
    INSERT INTO t(v) VALUES(randomblob(300)); UPDATE t SET v = randomblob(50) WHERE id = abs(random() % 5000); COMMIT";
const GENTLE: Mode = Mode::Gentle { tries: 8 };

/// A database in WAL mode that nobody has open.
fn created(scene: &Scene) {
    let mut app = App::wal(&scene.db);
    app.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)");
    app.close();
    let mut app = App::start(&scene.db);
    app.run("INSERT INTO t VALUES(1, 'x')");
    app.kill();
}

/// The follower's image is the database, byte for byte, once nobody has it open any more.
#[track_caller]
fn nothing_lost(scene: &Scene, mut follower: Follower, live: Live) -> Follower {
    follower.read(&live);
    drop(live);
    settle(&scene.db);
    assert!(follower.image() == std::fs::read(&scene.db).unwrap(), "the pages seen make up the database");
    follower
}

/// Hands over whenever 100 frames wait, for as long as `time`, and up to ten times as long for want of a restart where
/// `restarts` asks for one: a round costs two fsyncs, which on a slow disk is longer than many a pause.
fn hand_over_against(gap: Duration, time: Duration, restarts: u32) -> (Follower, u64) {
    let scene = Scene::new();
    created(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let mut follower = Follower::new(&live);
    let writer = Repeating::start(&scene.db, WRITE, gap);
    let start = Instant::now();
    while start.elapsed() < time || (follower.restarts < restarts && start.elapsed() < 10 * time) {
        follower.read(&live);
        let waiting = live.look().map_or(0, |v| v.marks.frames.saturating_sub(v.marks.backfilled));
        if waiting > 100 {
            let rounded = follower.round(&mut live, GENTLE);
            assert_eq!(rounded.locked, Duration::ZERO, "a hand-over takes no write lock");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let tally = writer.stop();
    assert_eq!(tally.busy, 0, "{tally:?} with a pause up to {gap:?}");
    (nothing_lost(&scene, follower, live), tally.done)
}

#[test]
fn a_hand_over_restarts_the_wal_behind_an_unhurried_writer_and_loses_nothing() {
    let (follower, commits) = hand_over_against(Duration::from_millis(20), Duration::from_secs(3), 1);
    assert!(follower.restarts > 0, "{commits} commits, {} frames", follower.frames);
}

/// Whether it finds the gap for a restart is the disk's affair: a round costs two fsyncs.
#[test]
fn a_hand_over_never_disturbs_a_writer_of_a_thousand_commits_a_second() {
    let (follower, commits) = hand_over_against(Duration::from_millis(1), Duration::from_secs(2), 0);
    assert!(commits > 100 && follower.frames > commits, "{commits} commits, {} frames", follower.frames);
}

#[test]
fn a_hand_over_never_disturbs_a_writer_that_never_pauses() {
    let (follower, commits) = hand_over_against(Duration::ZERO, Duration::from_secs(2), 0);
    assert!(commits > 100 && follower.frames > commits, "{commits} commits, {} frames", follower.frames);
}

#[test]
fn a_sealed_round_holds_a_writer_that_never_pauses_for_a_moment_and_restarts_the_wal() {
    let scene = Scene::new();
    created(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let mut follower = Follower::new(&live);
    let writer = Repeating::with_timeout(&scene.db, WRITE, Duration::ZERO, Duration::from_secs(10));
    let mut held = Vec::new();
    for n in 1..=5 {
        std::thread::sleep(Duration::from_millis(200));
        follower.read(&live);
        // As in the agent: one without the lock goes first, so that little is left to be done under it.
        follower.round(&mut live, Mode::Gentle { tries: 1 });
        let start = Instant::now();
        while follower.restarts < n {
            assert!(start.elapsed() < Duration::from_secs(20), "no restart after a sealed round");
            follower.read(&live);
            if follower.restarts < n {
                let rounded = follower.round(&mut live, Mode::Sealed);
                match rounded.outcome {
                    Outcome::HandedOver(_) => held.push(rounded.locked),
                    Outcome::NotYet(_) | Outcome::TooLarge(_) => {}
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let tally = writer.stop();
    assert_eq!(tally.busy, 0, "the lock is held for less than any busy timeout: {tally:?}");
    held.sort();
    assert!(held[0] > Duration::ZERO, "{held:?}");
    assert!(held[held.len() / 2] < Duration::from_millis(250), "{held:?}");
    nothing_lost(&scene, follower, live);
}

#[test]
fn a_sealed_round_without_the_lock_changes_nothing() {
    let scene = Scene::new();
    created(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let mut follower = Follower::new(&live);
    let mut app = App::start(&scene.db);
    app.run("BEGIN IMMEDIATE; INSERT INTO t(v) VALUES(1)");
    let before = live.look().unwrap();
    let rounded = follower.round(&mut live, Mode::Sealed);
    assert!(matches!(rounded.outcome, Outcome::NotYet(_)), "{rounded:?}");
    assert_eq!((rounded.locked, live.look().unwrap()), (Duration::ZERO, before));
    app.run("COMMIT");
    app.kill();
    nothing_lost(&scene, follower, live);
}

#[test]
fn a_reader_that_stays_only_postpones_the_restart() {
    let scene = Scene::new();
    created(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let mut follower = Follower::new(&live);
    let mut app = App::start(&scene.db);
    let mut reader = App::start(&scene.db);
    reader.run("BEGIN; SELECT count(*) FROM t");
    app.run(WRITE);
    let rounded = follower.round(&mut live, GENTLE);
    assert!(matches!(rounded.outcome, Outcome::NotYet(_)), "a reader holds an older mark: {rounded:?}");
    app.run(WRITE);
    follower.read(&live);
    reader.run("COMMIT");
    let rounded = follower.round(&mut live, GENTLE);
    assert!(matches!(rounded.outcome, Outcome::HandedOver(_)), "{rounded:?}");
    app.run(WRITE);
    follower.read(&live);
    assert_eq!(follower.restarts, 1);
    app.kill();
    reader.kill();
    nothing_lost(&scene, follower, live);
}

#[test]
fn a_tail_larger_than_may_be_held_keeps_the_wal() {
    let scene = Scene::new();
    created(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let mut follower = Follower::new(&live);
    let mut app = App::start(&scene.db);
    app.run("INSERT INTO t(v) VALUES(zeroblob(100000))");
    let view = live.look().unwrap();
    let from = WalPos { incarnation: 0, offset: 0 };
    let round = Round { mode: GENTLE, salt: view.marks.salt, from: Some(from), limit: 50_000 };
    let rounded = live.round(&round, &Tails::default()).unwrap();
    assert!(matches!(rounded.outcome, Outcome::TooLarge(_)), "{rounded:?}");
    app.run(WRITE);
    follower.read(&live);
    assert_eq!(follower.restarts, 0);
    app.kill();
    nothing_lost(&scene, follower, live);
}

#[test]
fn a_round_about_an_incarnation_that_is_over_moves_nothing_and_holds_nothing() {
    let scene = Scene::new();
    created(&scene);
    let mut app = App::start(&scene.db);
    app.run("PRAGMA wal_checkpoint(PASSIVE)");
    let mut live = Live::attach(&scene.db, None).unwrap();
    let salt = live.look().unwrap().marks.salt;
    app.run(WRITE);
    let before = live.look().unwrap();
    assert_ne!(before.marks.salt, salt, "the WAL was wholly backfilled and restarted");
    let tails = Tails::default();
    for mode in [GENTLE, Mode::Sealed, Mode::Repin] {
        let round = Round { mode, salt, from: Some(WalPos { incarnation: 0, offset: 0 }), limit: 1 << 20 };
        let rounded = live.round(&round, &tails).unwrap();
        assert!(matches!(rounded.outcome, Outcome::NotYet(_)), "{mode:?}: {rounded:?}");
        assert_eq!(live.look().unwrap(), before, "{mode:?}");
        assert!(tails.get(0).is_none(), "{mode:?}");
    }
}
