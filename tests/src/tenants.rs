//! A directory of small databases, as an application with one for each tenant keeps it. Writes databases; starts programs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::process::{self, Finished, Running};
use crate::tool::Tool;

/// `data/` with databases, `replica/` with their replicas, and a configuration that names only the two.
#[derive(Debug)]
pub struct Tenants {
    dir: TempDir,
}

impl Tenants {
    /// An empty directory and a configuration that watches it recursively, with more keys on the replica.
    pub fn new(on_replica: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir().expect("a temporary directory");
        let tenants = Self { dir };
        std::fs::create_dir(tenants.data()).expect("a directory");
        tenants.configure(&["recursive: true", "watch: true"], on_replica);
        tenants
    }

    /// Writes the configuration again, with other keys.
    pub fn configure(&self, on_directory: &[&str], on_replica: &[&str]) {
        let lines = |keys: &[&str], by: &str| keys.iter().map(|k| format!("{by}{k}\n")).collect::<String>();
        let text = format!(
            "dbs:\n  - dir: {}\n    pattern: '*.db'\n{}    replica:\n      path: {}\n{}",
            self.data().display(),
            lines(on_directory, "    "),
            self.replica("").display(),
            lines(on_replica, "      "),
        );
        std::fs::write(self.config(), text).expect("write the configuration");
    }

    /// Where things of this test may lie.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("litestream.yml")
    }

    /// The database of this name, with or without folders: `a.db`, `eu/a.db`.
    pub fn db(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    /// Its replica.
    pub fn replica(&self, name: &str) -> PathBuf {
        self.dir().join("replica").join(name)
    }

    /// Starts `tool replicate`.
    pub fn replicate(&self, tool: Tool) -> Running {
        tool.replicate(&self.config(), &self.dir().join("agent.log"))
    }

    /// Opens a database as its application would, creating it with one row. What follows is a commit each.
    pub fn open(&self, name: &str) -> Connection {
        let path = self.db(name);
        std::fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("a directory");
        let db = Connection::open(path).expect("open a database");
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).expect("WAL mode");
        db.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (NULL)")
            .expect("a first commit");
        db
    }

    /// `tool restore` of a database by its path in the configuration, to a fresh file.
    pub fn restore(&self, tool: Tool, name: &str) -> (Finished, PathBuf) {
        let out = tempfile::Builder::new().prefix("restored-").tempdir_in(self.dir());
        let out = out.expect("a directory for the restore").keep().join("restored.db");
        (tool.restore(&self.config(), &self.db(name), &out, &[]), out)
    }

    /// How many rows a replica restores to; `None` if it restores nothing.
    pub fn rows(&self, tool: Tool, name: &str) -> Option<i64> {
        let (said, out) = self.restore(tool, name);
        (said.code == 0).then(|| count(&Connection::open(out).expect("open the restored database")))
    }

    /// As [`Tenants::rows`], from the replica's own place: 0.5.17 does not find databases of a directory.
    pub fn rows_by_url(&self, tool: Tool, name: &str) -> Option<i64> {
        let out = tempfile::Builder::new().prefix("restored-").tempdir_in(self.dir());
        let out = out.expect("a directory for the restore").keep().join("restored.db");
        let url = format!("file://{}", self.replica(name).display());
        let mut command = tool.command("restore");
        command.arg("-o").arg(&out).arg(url);
        let said = process::run(&mut command, Duration::from_secs(60));
        (said.code == 0).then(|| count(&Connection::open(out).expect("open the restored database")))
    }

    /// Waits until the replica of `name` restores to this many rows.
    #[track_caller]
    pub fn reaches(&self, name: &str, rows: i64, within: Duration) {
        let until = Instant::now() + within;
        loop {
            let found = self.rows(Tool::Holdfast, name);
            if found == Some(rows) {
                return;
            }
            let log = || std::fs::read_to_string(self.dir().join("agent.log")).unwrap_or_default();
            assert!(Instant::now() < until, "{name}: {found:?} rows, not {rows}; the agent:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// One more commit.
pub fn commit(db: &Connection) {
    db.execute_batch("INSERT INTO t VALUES (NULL)").expect("a commit");
}

fn count(db: &Connection) -> i64 {
    let sound: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).expect("a check");
    assert_eq!(sound, "ok");
    db.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).expect("the rows")
}
