//! What the app and the agent pay under load, default configuration, one program after the other.
//!
//! - `busy`: one connection without a busy timeout commits as fast as it can for 18 s; how often SQLite answered BUSY.
//! - `load`: 40,000 commits of 1 KB through Station's pool. The agent's CPU is user and system time from its start
//!   until the replica holds the last row; its memory is the kernel's high-water mark. The app's rate is compared with
//!   the mean of a run without any agent before and one after. Local bytes are what the agent stored beside the
//!   database and the replica: every other file below the scene's directory, `TMPDIR` included, is looked at every 5 ms,
//!   and the largest size each one ever had is added up. A checkpoint's pages go into the user's own database and are
//!   not counted, for the app would write them otherwise.
//!
//! What an agent costs the app depends on how the app commits. Nine of the ten connections of Station's pool sync the
//! WAL at every commit (`synchronous=FULL`), and a sync of a file that grows is dearer than one of a file that is
//! written over: here the app pays for the WAL growing behind the pin. One connection with `synchronous=NORMAL` never
//! syncs but at a checkpoint: here it gains what the pin spares it. Both rates are shown; the second is the middle one
//! of five rounds over all programs, for such a run takes hardly two seconds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_tests::oracle;
use holdfast_tests::process::Running;
use holdfast_tests::procfs::Cost;
use holdfast_tests::scene::Scene;
use holdfast_tests::workload::{Summary, summary};

use crate::column::Column;
use crate::table::{Bound, Must, Table};

pub(crate) fn busy(columns: &[Column], table: &mut Table) {
    println!("busy: one connection, no busy timeout, 18 s a program");
    for column in columns.iter().copied() {
        let scene = column.scene();
        let _agent = agent(&scene, column);
        let app = ["--connections", "1", "--no-timeout", "--seconds", "18", "--keep", "20000"];
        let counted = run(&scene, &app);
        table.set(
            "SQLITE_BUSY seen by one writer without busy timeout, 18 s",
            "",
            Must::both(Bound::AtMost(0.0)),
            column,
            counted.busy as f64,
        );
    }
}

pub(crate) fn forty_thousand_commits(columns: &[Column], table: &mut Table) {
    println!("load: 40,000 commits of 1 KB");
    let alone = || {
        let scene = Scene::on_file();
        let counted = run(&scene, &FORTY_THOUSAND);
        counted.commits as f64 / counted.seconds
    };
    let before = alone();
    let mut rates = Vec::new();
    for column in columns.iter().copied() {
        let Some(tool) = column.tool() else { continue };
        let scene = column.scene();
        let stop = AtomicBool::new(false);
        let (counted, cost, local) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| local_bytes(&scene, &stop));
            let agent = agent(&scene, column);
            let counted = run(&scene, &FORTY_THOUSAND);
            let newest = oracle::newest(&scene.db()).expect("the app's tally");
            scene.caught_up(tool, newest, Duration::from_secs(60));
            let cost = agent.as_ref().and_then(|agent| Cost::of(agent.pid())).expect("the agent still runs");
            stop.store(true, Ordering::Relaxed);
            (counted, cost, watcher.join().expect("the watcher ends"))
        });
        rates.push((column, counted.commits as f64 / counted.seconds));
        table.set("agent CPU for 40,000 commits of 1 KB", " s", Must::at_most(0.35), column, cost.cpu);
        table.set("agent peak memory, same", " MB", Must::at_most(16.0), column, cost.peak as f64 / 1e6);
        table.set(
            "bytes the agent writes locally beside the replica's own",
            " MB",
            Must::both(Bound::AtMost(0.0)),
            column,
            local as f64 / 1e6,
        );
    }
    let bare_rate = f64::midpoint(before, alone());
    if columns.contains(&Column::Bare) {
        println!("  bare: {bare_rate:.0} commits/s");
        rates.insert(0, (Column::Bare, bare_rate));
    }
    for (column, rate) in rates {
        table.set(
            "app commits/s with the agent, against bare: Station's pool",
            "",
            Must::both(Bound::AtLeast(1.1)),
            column,
            rate / bare_rate,
        );
    }
    one_connection(columns, table);
}

const ROUNDS: usize = 5;

/// 40,000 commits on one connection with `synchronous=NORMAL`.
fn one_connection(columns: &[Column], table: &mut Table) {
    // Everything is compared with the app alone, whoever is asked for.
    let mut columns = columns.to_vec();
    columns.retain(|column| *column != Column::Bare);
    columns.insert(0, Column::Bare);
    let mut rates = vec![Vec::new(); columns.len()];
    for _ in 0..ROUNDS {
        for (column, rates) in columns.iter().zip(&mut rates) {
            let scene = column.scene();
            let _agent = agent(&scene, *column);
            let counted = run(&scene, &[&FORTY_THOUSAND[..], &["--connections", "1"]].concat());
            rates.push(counted.commits as f64 / counted.seconds);
        }
    }
    for rates in &mut rates {
        rates.sort_by(f64::total_cmp);
    }
    for (column, mine) in columns.iter().zip(&rates) {
        table.set(
            "same: one connection, synchronous=NORMAL",
            "",
            Must::both(Bound::AtLeast(1.1)),
            *column,
            mine[ROUNDS / 2] / rates[0][ROUNDS / 2],
        );
    }
}

const FORTY_THOUSAND: [&str; 4] = ["--commits", "40000", "--bytes", "1000"];

/// The agent on a database that exists, caught up with it.
fn agent(scene: &Scene, column: Column) -> Option<Running> {
    let mut app = scene.writer().args(["--commits", "1", "--bytes", "1000", "--close"]).start();
    app.wait(Duration::from_secs(20));
    let tool = column.tool()?;
    let agent = scene.replicate(tool);
    scene.caught_up(tool, 1, Duration::from_secs(20));
    Some(agent)
}

/// One run of the app to its end; its connections stay open so that the log of its last commits does too.
fn run(scene: &Scene, flags: &[&str]) -> Summary {
    let mut app = scene.writer().args(flags.iter().copied()).args(["--hold"]).start();
    app.wait_log("the load", Duration::from_secs(300), |line| line == "holding");
    app.stop(Duration::from_secs(20));
    summary(&app.log())
}

/// Watches until told to stop; see the module's words on local bytes.
fn local_bytes(scene: &Scene, stop: &AtomicBool) -> u64 {
    let mut largest: HashMap<PathBuf, u64> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
        note_sizes(scene.dir(), &mut largest);
    }
    largest.values().sum()
}

fn note_sizes(dir: &Path, largest: &mut HashMap<PathBuf, u64>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // The database and its logs, the replica, what the measurement itself writes.
        let known =
            name.starts_with("app.") || name.starts_with("restored-") || OURS.contains(&name.as_str());
        match entry.metadata() {
            Ok(_) if known => {}
            Ok(meta) if meta.is_dir() => note_sizes(&path, largest),
            Ok(meta) => {
                let size = largest.entry(path).or_default();
                *size = (*size).max(meta.len());
            }
            Err(_) => {}
        }
    }
}

const OURS: [&str; 3] = ["replica", "litestream.yml", "agent.log"];
