//! A real writer and the real agent under the supervisor, and what comes back after the disk is lost. Spawns processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::oracle::{self, State};
use crate::process::{self, command};
use crate::programs::ours;
use crate::supervised::{As, SOON, Scene, Supervised, children, until};
use crate::workload::{truth, truth_of};

/// A supervisor with the real agent around the writer on `db`, with a replica and the truth beside it.
pub fn scene(role: As, db: &Path, flags: &[&str]) -> Scene {
    let (writer, file) = (ours("writer"), truth_of(db));
    let (writer, file) = (writer.to_str().expect("text"), file.to_str().expect("text"));
    Scene::new(role).real_agent().database(db).app_with([&[writer, "--truth", file], flags].concat())
}

/// [`scene`] with 400 commits a second, started.
pub fn writing(role: As, db: &Path) -> Supervised {
    scene(role, db, &["--rate", "400"]).start()
}

/// The number of the newest row whose commit had returned.
pub fn acknowledged(db: &Path) -> i64 {
    truth(&truth_of(db)).last().map_or(0, |committed| committed.n)
}

#[track_caller]
pub fn wait_for_rows(db: &Path, rows: i64) {
    until("rows are committed", SOON, || (acknowledged(db) >= rows).then_some(()));
}

/// The disk is gone, the replica and the truth are not.
pub fn lose(db: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", db.display()));
    }
    let _ = std::fs::remove_file(record(db));
    assert!(!db.exists());
}

/// What the replica beside `db` restores to now; nothing where it holds nothing.
#[track_caller]
pub fn restored(db: &Path, what: &str) -> Option<State> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("copy.db");
    let mut restore = command(ours("holdfast"));
    let replica = format!("file://{}", db.with_extension("replica").display());
    let said = process::run(restore.args(["restore", "-o"]).arg(&out).arg(replica), SOON);
    match said.code {
        0 => Some(oracle::expect_state(&out, what)),
        66 | 78 => None,
        code => panic!("{what}: restore exited {code}: {}", said.stderr),
    }
}

/// What the agent keeps beside the database: `.app.db.holdfast`.
pub fn record(db: &Path) -> PathBuf {
    let name = db.file_name().expect("a file").display().to_string();
    db.with_file_name(format!(".{name}.holdfast"))
}

/// Starts an app that does nothing on a lost database, and says what it found.
#[track_caller]
pub fn brought_back(role: As, db: &Path) -> State {
    let run = Scene::new(role).real_agent().database(db).app(["true"]).run().expect(0);
    assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
    oracle::expect_state(db, "brought back")
}

/// The child of the supervisor that runs program `name`, once there is one.
#[track_caller]
pub fn child(run: &Supervised, name: &str) -> i32 {
    let supervisor = run.pid();
    let runs = |pid: &i32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim() == name
    };
    until(name, SOON, || children(supervisor).into_iter().find(runs))
}

/// Kills the agent `times` times, each as soon as it runs: the next start is ever later.
pub fn keep_down(run: &Supervised, times: usize) {
    let mut last = 0;
    for _ in 0..times {
        let agent = until("another agent", SOON, || Some(child(run, "holdfast")).filter(|pid| *pid != last));
        last = agent;
        let _ = kill(Pid::from_raw(agent), Signal::SIGKILL);
        // Gone before the next look, which would else find it again.
        until("it is gone", Duration::from_secs(10), || {
            (!Path::new(&format!("/proc/{agent}/exe")).exists()).then_some(())
        });
    }
}
