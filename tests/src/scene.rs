//! A database, its replica and everything around them, in one directory that cleans up behind itself. Starts programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::agent::Agent;
use crate::ceph::Ceph;
use crate::oracle::{self, State};
use crate::process::{Finished, Running};
use crate::replica::{self, Replica};
use crate::tool::Tool;
use crate::workload::Writer;

/// One database with one replica.
#[derive(Debug)]
pub struct Scene {
    dir: TempDir,
    pub replica: Replica,
    restores: AtomicU32,
}

impl Scene {
    /// A replica in a directory beside the database.
    pub fn on_file() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir().expect("a temporary directory");
        let replica = Replica::File(dir.path().join("replica"));
        let scene = Self { dir, replica, restores: 0.into() };
        scene.configure(&[], &[]);
        scene
    }

    /// A replica on a real S3 server, under a prefix of its own.
    pub fn on_s3() -> Self {
        let mut scene = Self::on_file();
        let name =
            scene.dir.path().file_name().expect("a directory has a name").to_string_lossy().into_owned();
        scene.replica = Replica::S3 { server: Arc::new(Ceph::connect()), prefix: format!("{name}/app") };
        scene.configure(&[], &[]);
        scene
    }

    /// Writes the configuration again, with more keys on the database and on its replica.
    pub fn configure(&self, on_db: &[&str], on_replica: &[&str]) {
        self.configure_all(&[], on_db, on_replica);
    }

    /// As [`Scene::configure`], with keys at the top as well.
    pub fn configure_all(&self, on_top: &[&str], on_db: &[&str], on_replica: &[&str]) {
        let text = replica::config(&self.db(), on_db, &self.replica, on_replica);
        let text: String = on_top.iter().map(|key| format!("{key}\n")).chain([text]).collect();
        std::fs::write(self.config(), text).expect("write the configuration");
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn db(&self) -> PathBuf {
        self.dir().join("app.db")
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("litestream.yml")
    }

    /// Starts `tool replicate`; all agents of a scene share one log.
    pub fn replicate(&self, tool: Tool) -> Running {
        tool.replicate(&self.config(), &self.dir().join("agent.log"))
    }

    /// Starts our agent with the test as its supervisor; all agents of a scene share one log.
    pub fn agent(&self) -> Agent {
        Agent::start(&self.config(), &self.dir().join("agent.log"))
    }

    /// A writer on the database, to be given flags and started.
    pub fn writer(&self) -> Writer {
        Writer::on(&self.db())
    }

    /// `tool restore FLAGS` to a fresh path; what it said, and where the database should be now.
    pub fn restore(&self, tool: Tool, flags: &[&str]) -> (Finished, PathBuf) {
        let number = self.restores.fetch_add(1, Ordering::Relaxed);
        let out = self.dir().join(format!("restored-{number}/app.db"));
        std::fs::create_dir(out.parent().expect("it has a directory")).expect("a directory for the restore");
        (tool.restore(&self.config(), &self.db(), &out, flags), out)
    }

    /// [`Scene::restore`], which must succeed and hold a committed state.
    #[track_caller]
    pub fn restored(&self, tool: Tool, flags: &[&str]) -> State {
        let (said, out) = self.restore(tool, flags);
        let what = format!("{tool} restore {}", flags.join(" "));
        said.expect_success(&what);
        let state = oracle::expect_state(&out, &what);
        let _ = std::fs::remove_dir_all(out.parent().expect("it has a directory"));
        state
    }

    /// Waits until `tool` restores row `last`, as it must once writes have stopped.
    #[track_caller]
    pub fn caught_up(&self, tool: Tool, last: i64, within: Duration) {
        let until = Instant::now() + within;
        loop {
            let (said, out) = self.restore(tool, &[]);
            let newest = if said.code == 0 { oracle::newest(&out) } else { None };
            let _ = std::fs::remove_dir_all(out.parent().expect("it has a directory"));
            if newest == Some(last) {
                return;
            }
            if Instant::now() >= until {
                let log = std::fs::read_to_string(self.dir().join("agent.log")).unwrap_or_default();
                panic!(
                    "the replica did not reach row {last} within {within:?}: {newest:?}; restore: exit {} {}{}\nthe agent:\n{log}",
                    said.code, said.stdout, said.stderr
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Now, as `-timestamp` wants it: RFC 3339 with nanoseconds, in UTC.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}
