//! Large databases and many objects.
//!
//! - `snapshot`, `restore`: a database of 679 MB, checkpointed and closed. The snapshot's time runs from the moment the
//!   program has read 4 MB, so that nobody's tick counts, to the object under its final name; memory is the high-water
//!   mark. Each program then restores the replica it wrote itself.
//! - `objects`: one replica in the v0.3 layout, about 271 MB of WAL in some 657 objects; all restore that one. Then one
//!   of as many LTX files, for those that read them.
//!
//! Each is done five times and the middle one counts: the first to fill the machine's page cache pays for memory that
//! nobody has touched before.

use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_tests::process::Running;
use holdfast_tests::procfs::Cost;
use holdfast_tests::replica::{self, Replica};
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool;
use holdfast_tests::{oracle, wal};

use crate::column::Column;
use crate::table::{Bound, Must, Table};

pub(crate) fn large_database(columns: &[Column], table: &mut Table) {
    println!("snapshot, restore: a database of 679 MB");
    let source = Scene::on_file();
    let fill = ["--commits", "52", "--rows", "10000", "--bytes", "1180", "--connections", "1", "--close"];
    source.writer().args(fill).start().wait(Duration::from_secs(300));
    let size = std::fs::metadata(source.db()).expect("the database").len();
    println!("  {} MB", size / 1_000_000);
    for column in columns.iter().copied() {
        let Some(tool) = column.tool() else { continue };
        let runs = [(); RUNS].map(|()| {
            let scene = column.scene();
            std::fs::rename(source.db(), scene.db()).expect("the database moves to its scene");
            let taken = snapshot(tool, &scene);
            let restored = restore_once(tool, &scene);
            std::fs::rename(scene.db(), source.db()).expect("the database moves back");
            (taken, restored)
        });
        let (seconds, peak) = middle(runs.map(|(taken, _)| taken));
        table.set("snapshot of a 679 MB database", " s", Must::at_most(1.0), column, seconds);
        table.set("peak memory of that snapshot", " MB", Must::at_most(32.0), column, peak);
        let (seconds, peak) = middle(runs.map(|(_, restored)| restored));
        let must = Must { ours: Bound::AtMost(0.9), ltx: Bound::AtMost(1.5) };
        table.set("restore of it", " s", must, column, seconds);
        table.set("peak memory of that restore", " MB", Must::at_most(48.0), column, peak);
    }
}

pub(crate) fn many_objects(columns: &[Column], table: &mut Table) {
    println!("objects: many uploads");
    let scene = many(Column::Ours);
    for column in columns.iter().copied().filter(|column| *column != Column::Ltx) {
        let Some(tool) = column.tool() else { continue };
        let (seconds, peak) = middle([(); RUNS].map(|()| restore_once(tool, &scene)));
        table.set("restore of 271 MB in 657 objects", " s", Must::at_most(0.7), column, seconds);
        table.set("peak memory of that restore of many objects", " MB", Must::at_most(64.0), column, peak);
    }
    let scene = many(Column::Ltx);
    for column in columns.iter().copied().filter(|column| matches!(column, Column::V05 | Column::Ltx)) {
        let Some(tool) = column.tool() else { continue };
        let (seconds, peak) = middle([(); RUNS].map(|()| restore_once(tool, &scene)));
        let must = |most| Must { ours: Bound::Told, ltx: Bound::AtMost(most) };
        table.set("restore of 271 MB in 660 LTX files", " s", must(0.8), column, seconds);
        table.set("peak memory of that restore of LTX files", " MB", must(64.0), column, peak);
    }
}

/// A replica of ours with an object for each of 656 transactions.
fn many(column: Column) -> Scene {
    let scene = column.scene();
    let keys = [column.keys(), &["sync-interval: 5ms"]].concat();
    let config = replica::config(&scene.db(), &[], &scene.replica, &keys);
    // Nothing is merged meanwhile.
    std::fs::write(scene.config(), format!("levels: [{{interval: 12h}}]\n{config}"))
        .expect("a configuration");
    let mut agent = scene.replicate(Tool::Holdfast);
    let load = [&["--commits", "656", "--rows", "24", "--bytes", "16000"], &MANY[..]].concat();
    let mut app = scene.writer().args(load).start();
    app.wait_log("the objects", Duration::from_secs(120), |line| line == "holding");
    let newest = oracle::newest(&scene.db()).expect("the app's tally");
    scene.caught_up(Tool::Holdfast, newest, Duration::from_secs(20));
    agent.stop(Duration::from_secs(20));
    app.stop(Duration::from_secs(20));
    let Replica::File(directory) = &scene.replica else { unreachable!("this scene is on file") };
    let objects = count(directory, |_| true);
    let size = std::fs::metadata(scene.db()).map_or(0, |meta| meta.len());
    println!("  {column}: {objects} objects, a database of {} MB", size / 1_000_000);
    scene
}

const MANY: [&str; 5] = ["--rate", "40", "--hold", "--autocheckpoint", "0"];

/// Seconds and MB of the first snapshot.
fn snapshot(tool: Tool, scene: &Scene) -> (f64, f64) {
    let Replica::File(directory) = &scene.replica else { unreachable!("this scene is on file") };
    let mut agent = scene.replicate(tool);
    let until = Instant::now() + Duration::from_secs(60);
    let wait_for = |what: &str, there: &dyn Fn() -> bool| {
        while !there() {
            assert!(Instant::now() < until, "{tool}: no {what} within a minute");
            std::thread::sleep(Duration::from_millis(1));
        }
        Instant::now()
    };
    let began = wait_for("beginning", &|| Cost::of(agent.pid()).is_some_and(|cost| cost.read > 4_000_000));
    let ended = wait_for("snapshot", &|| count(directory, is_snapshot) > 0);
    let peak = Cost::of(agent.pid()).expect("the agent still runs").peak;
    agent.stop(Duration::from_secs(30));
    ((ended - began).as_secs_f64(), peak as f64 / 1e6)
}

/// A whole copy of the database under its final name: hundreds of megabytes, compressed.
fn is_snapshot(path: &Path) -> bool {
    let finished = path.extension().is_some_and(|ext| ext == "lz4" || ext == "ltx");
    finished && std::fs::metadata(path).is_ok_and(|meta| meta.len() > 50_000_000)
}

fn count(dir: &Path, wanted: fn(&Path) -> bool) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .map(|path| if path.is_dir() { count(&path, wanted) } else { usize::from(wanted(&path)) })
        .sum()
}

/// As many took longer as took less.
const RUNS: usize = 5;

/// The middle one by its time.
fn middle(mut runs: [(f64, f64); RUNS]) -> (f64, f64) {
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[RUNS / 2]
}

/// Seconds and MB of a restore of the newest state.
fn restore_once(tool: Tool, scene: &Scene) -> (f64, f64) {
    let out = scene.dir().join("out.db");
    let mut command = tool.command("restore");
    command.arg("-config").arg(scene.config()).arg("-o").arg(&out).arg(scene.db());
    let began = Instant::now();
    let mut run = Running::start(&mut command, &scene.dir().join("restore.log"));
    let mut peak = 0;
    while run.alive() {
        peak = Cost::of(run.pid()).map_or(peak, |cost| cost.peak.max(peak));
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = began.elapsed().as_secs_f64();
    assert!(out.exists(), "{tool} restored nothing:\n{}", run.log());
    oracle::newest(&out).unwrap_or_else(|| panic!("{tool} restored something else"));
    for suffix in ["", "-wal", "-shm", ".tmp-wal", ".tmp-shm"] {
        let _ = std::fs::remove_file(wal::beside(&out, suffix));
    }
    (seconds, peak as f64 / 1e6)
}
