//! What a supervisor costs that does nothing but watch: memory, and the time before the app. Prints both.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::time::{Duration, Instant};

use holdfast_tests::living::{scene, wait_for_rows};
use holdfast_tests::procfs::Cost;
use holdfast_tests::supervised::{As, Scene};
use nix::sys::signal::Signal;

/// `Name:   123 kB` of `/proc/PID/status`, in bytes.
fn memory(pid: i32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The program as the tests run it maps more of itself than the one that is shipped (`container.rs` measures that one). What
/// it has for itself alone is the same, and does not grow with what happens.
#[test]
fn a_supervisor_at_work_has_next_to_nothing_for_itself_and_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let (scene, _) = scene(As::Subreaper, &db, &["--rate", "400"]).listening();
    let run = scene.start();
    let signals = || {
        for _ in 0..500 {
            run.signal(Signal::SIGUSR2);
            run.signal(Signal::SIGWINCH);
        }
    };
    wait_for_rows(&db, 400);
    // The first ones touch what the later ones use again.
    signals();
    wait_for_rows(&db, 800);
    let own = |name| memory(run.pid(), name);
    let (before, resident) = (own("RssAnon:"), own("VmRSS:"));
    signals();
    wait_for_rows(&db, 1_200);
    let after = own("RssAnon:");
    println!("resident: {} KiB, {} KiB of it its own", resident / 1024, after / 1024);
    assert!(after < 512 << 10, "{after} bytes of its own");
    assert!(after < before + (64 << 10), "from {before} to {after} bytes");
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}

/// A healthy database: from the start of the supervisor to the start of the app, the agent's start included. The bound is
/// for a machine that is busy; the promise is 50 ms on one that is not.
#[test]
fn an_app_with_a_healthy_database_is_started_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    scene(As::Subreaper, &db, &["--commits", "50"]).run().expect(0);
    let mut took = Vec::new();
    let mut spent = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let run = Scene::new(As::Subreaper).real_agent().database(&db).app(["sleep", "60"]).start();
        run.wait_log("app started");
        took.push(started.elapsed());
        spent.push(Cost::of(run.pid().unsigned_abs()).unwrap().ran);
        run.signal(Signal::SIGTERM);
        let summary = run.wait().expect(143).summary();
        println!("to the app: {:?}, phases {}", took.last().unwrap(), summary["seconds"]);
    }
    took.sort_unstable();
    spent.sort_by(f64::total_cmp);
    println!("to the app: {:?} at best, {:.1} ms of CPU", took[0], spent[0] * 1000.0);
    assert!(took[0] < Duration::from_millis(250), "{took:?}");
    // Whatever else runs here: our own part is not what takes time.
    assert!(spent[0] < 0.010, "{spent:?} seconds of CPU");
}
