//! SIGTERM at fifty random moments of a life: while it starts, restores, runs and stops. What was acknowledged to the app
//! before a proven final sync is on the replica, no stop takes longer than its grace, and the exit code says what happened.
//! `SEED=17 tests/run t95` replays a run's moments.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::chance::Chance;
use holdfast_tests::living::{acknowledged, lose, restored, scene};
use holdfast_tests::supervised::{As, Ended, SOON, Supervised, monotonic_ms, until};
use nix::sys::signal::Signal;

const CYCLES: u64 = 25;
const GRACE_MS: u64 = 10_000;

/// Where the life stands when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// So long after it could first be heard: a restore, an agent that attaches, an app that opens its database.
    Start(Duration),
    /// So long after the app was started.
    Run(Duration),
    /// As `Run`, and once more so long after that: while it stops.
    Stop(Duration, Duration),
}

impl Moment {
    fn draw(chance: &mut Chance) -> Self {
        let mut up_to = |ms| chance.between(Duration::ZERO, Duration::from_millis(ms));
        let (start, run, stop) = (up_to(120), up_to(250), up_to(40));
        match chance.below(3) {
            0 => Self::Start(start),
            1 => Self::Run(run),
            _ => Self::Stop(run, stop),
        }
    }
}

/// Waits until SIGTERM would not be lost: PID 1 has it blocked.
fn listens(run: &Supervised) {
    let pid = run.pid();
    until("it has blocked SIGTERM", SOON, || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let blocked = u64::from_str_radix(line("SigBlk:")?, 16).ok()?;
        (line("Name:")?.starts_with("holdfast-sup") && blocked & (1 << 14) != 0).then_some(())
    });
}

/// Sends the signals; the time of the first.
fn strike(run: &Supervised, moment: Moment) -> u64 {
    listens(run);
    let (before, again) = match moment {
        Moment::Start(delay) => (delay, None),
        Moment::Run(delay) => {
            run.wait_log("app started");
            (delay, None)
        }
        Moment::Stop(delay, again) => {
            run.wait_log("app started");
            (delay, Some(again))
        }
    };
    std::thread::sleep(before);
    let asked = monotonic_ms();
    run.signal(Signal::SIGTERM);
    if let Some(again) = again {
        std::thread::sleep(again);
        // Within half a second it is the same press; what it finds may be over already.
        run.try_signal(Signal::SIGTERM);
    }
    asked
}

fn judge(run: &Ended, asked: u64, db: &Path, safe: i64, what: &str) {
    let what = format!("{what}:\n{}", run.stderr);
    assert!(run.at - asked < GRACE_MS, "{} ms: {what}", run.at - asked);
    let (summary, started) = (run.summary(), run.stderr.contains("app started"));
    assert_eq!(summary["exit"], run.code, "{what}");
    match (started, &summary["sync"]["ok"]) {
        // 143: before the writer had its handler.
        (true, ok) if *ok == true => assert!([0, 143].contains(&run.code), "{what}"),
        (true, _) => assert_eq!(run.code, 74, "{what}"),
        (false, _) => assert_eq!((run.code, &summary["app"]), (143, &serde_json::Value::Null), "{what}"),
    }
    let held = restored(db, &what).map_or(0, |state| state.last);
    assert!(held >= safe, "row {safe} was proven, {held} is held: {what}");
    if summary["sync"]["ok"] == true {
        assert!(
            held >= acknowledged(db),
            "row {} was acknowledged, {held} is held: {what}",
            acknowledged(db)
        );
    }
    let left: Vec<_> = fs::read_dir(db.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            let known =
                ["app.db", "app.db-wal", "app.db-shm", "app.replica", "app.truth", ".app.db.holdfast"];
            !known.contains(&name.as_str())
        })
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}: {what}");
}

fn life(role: As, seed: u64) {
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let mut proven = 0;
    let mut seen = [0; 3];
    for cycle in 1..=CYCLES {
        let moment = Moment::draw(&mut chance);
        // A disk may only be lost after a proof: a crash without one promises nothing.
        let lost = proven >= acknowledged(&db) && chance.below(2) == 0;
        if lost {
            lose(&db);
        }
        let rows = chance.below(1_000_000).to_string();
        let run = scene(role, &db, &["--rate", "600", "--big-txn", "200", "--seed", &rows]).start();
        let asked = strike(&run, moment);
        let run = run.wait();
        let what = format!("SEED={seed}, cycle {cycle}, {moment:?}, disk lost: {lost}");
        judge(&run, asked, &db, proven, &what);
        if run.summary()["sync"]["ok"] == true {
            proven = acknowledged(&db);
        }
        seen[match moment {
            Moment::Start(_) => 0,
            Moment::Run(_) => 1,
            Moment::Stop(..) => 2,
        }] += 1;
    }
    println!(
        "{CYCLES} stops: {} at the start, {} later, {} twice; {proven} rows proven",
        seen[0], seen[1], seen[2]
    );
    assert!(proven > 0, "something was written at all");
}

#[test]
fn t95_a_stop_at_any_moment_as_pid_1_loses_nothing_that_was_proven() {
    life(As::Pid1, Chance::seed("chaos as PID 1"));
}

#[test]
fn t95_a_stop_at_any_moment_as_a_subreaper_loses_nothing_that_was_proven() {
    life(As::Subreaper, Chance::seed("chaos as a subreaper"));
}
