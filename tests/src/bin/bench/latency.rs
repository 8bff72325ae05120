//! From the return of a commit to the moment the replica restores it, default configuration.
//!
//! Measured from outside and the same way for every program: the replica's directory is looked at every half
//! millisecond; whenever a new object has appeared, the moment is noted and the directory is copied with hard links.
//! Afterwards each copy is restored by the program itself. A commit's latency ends at the first copy that holds it.
//! All programs run at the same time, each with its own app on the same schedule of commits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_tests::oracle;
use holdfast_tests::replica::{self, Replica};
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool;
use holdfast_tests::workload::{self, truth_of};

use crate::column::Column;
use crate::table::{Bound, Must, Table};

/// Commits a little more than a sync interval apart, at random: each is the first after a quiet interval.
pub(crate) fn after_a_quiet_interval(columns: &[Column], table: &mut Table) {
    println!("latency: 50 commits, 1.05 to 2.05 s apart");
    let must = [10.0, 50.0].map(|most| Must::both(Bound::AtMost(most)));
    measure(
        columns,
        &["--commits", "50", "--least-gap-ms", "1050", "--gap-ms", "1000"],
        "commit → durable",
        must,
        table,
    );
}

/// Commits closer together than the sync interval: now it paces the uploads, by design, and the latency is its.
pub(crate) fn within_the_interval(columns: &[Column], table: &mut Table) {
    println!("paced: 300 commits, up to 200 ms apart");
    measure(
        columns,
        &["--commits", "300", "--gap-ms", "200"],
        "same, commits within the sync interval",
        [Must::TOLD; 2],
        table,
    );
}

fn measure(columns: &[Column], schedule: &[&str], what: &str, must: [Must; 2], table: &mut Table) {
    let figures: Vec<(Column, Vec<f64>)> = std::thread::scope(|scope| {
        let running: Vec<_> = columns
            .iter()
            .copied()
            .filter(|column| column.tool().is_some())
            .map(|column| (column, scope.spawn(move || latencies(column, schedule))))
            .collect();
        let figures =
            |(column, thread): (_, ScopedJoinHandle<_>)| (column, thread.join().expect("a measurement ends"));
        running.into_iter().map(figures).collect()
    });
    for (column, figures) in figures {
        for (percent, must) in [50, 99].into_iter().zip(must) {
            let at = (figures.len() * percent / 100).min(figures.len() - 1);
            table.set(&format!("{what}, p{percent}"), " ms", must, column, figures[at]);
        }
    }
}

/// Milliseconds for each commit, sorted.
fn latencies(column: Column, schedule: &[&str]) -> Vec<f64> {
    let tool = column.tool().expect("an agent");
    let scene = column.scene();
    let mut first = scene.writer().args(["--commits", "1", "--hold"]).start();
    first.wait_log("the app", SOON, |line| line == "holding");
    let mut agent = scene.replicate(tool);
    scene.caught_up(tool, 1, SOON);

    let Replica::File(directory) = &scene.replica else { unreachable!("this scene is on file") };
    let (copies, stop) = (scene.dir().join("copies"), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(directory, &copies, &stop));
        let mut app = scene.writer().args(schedule.iter().copied()).args(["--hold", "--seed", "11"]).start();
        app.wait_log("the commits", Duration::from_secs(300), |line| line == "holding");
        std::thread::sleep(Duration::from_millis(2500));
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher ends")
    });
    agent.kill();

    let restored: Vec<_> = seen.iter().map(|copy| (copy.at, newest_in(tool, &scene, &copy.path))).collect();
    let mut found: Vec<f64> = workload::truth(&truth_of(&scene.db()))
        .iter()
        .skip(1)
        .map(|commit| {
            let durable = restored.iter().find(|(_, newest)| *newest >= commit.n);
            let (at, _) =
                durable.unwrap_or_else(|| panic!("{tool}: row {} never reached the replica", commit.n));
            at.saturating_sub(commit.at) as f64 / 1e6
        })
        .collect();
    found.sort_by(f64::total_cmp);
    found
}

/// A copy of the replica, and when the newest object in it was first seen (Unix time, ns).
struct Copy {
    at: u128,
    path: PathBuf,
}

fn watch(directory: &Path, copies: &Path, stop: &AtomicBool) -> Vec<Copy> {
    let (mut known, mut made) = (objects(directory), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(500));
        let now = objects(directory);
        if now.is_subset(&known) {
            continue;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos();
        let path = copies.join(made.len().to_string());
        for object in &now {
            let target = path.join(object);
            std::fs::create_dir_all(target.parent().expect("a file lies in a directory"))
                .expect("a directory");
            // Gone already when a compaction was quicker: then its product is there.
            let _ = std::fs::hard_link(directory.join(object), target);
        }
        made.push(Copy { at, path });
        known = now;
    }
    made
}

/// Finished objects, by their path below `directory`.
fn objects(directory: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![directory.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(path);
            } else if path.extension().is_some_and(|ext| ext == "lz4" || ext == "ltx") {
                found.insert(path.strip_prefix(directory).expect("it lies below").to_path_buf());
            }
        }
    }
    found
}

/// The newest row of what `tool` restores from a copy.
fn newest_in(tool: Tool, scene: &Scene, copy: &Path) -> i64 {
    let (config, out) = (copy.with_extension("yml"), copy.with_extension("db"));
    let text = replica::config(&scene.db(), &[], &Replica::File(copy.to_path_buf()), &[]);
    std::fs::write(&config, text).expect("write the configuration");
    let done = tool.restore(&config, &scene.db(), &out, &[]);
    if done.code == 0 { oracle::newest(&out).unwrap_or(0) } else { 0 }
}

const SOON: Duration = Duration::from_secs(20);
