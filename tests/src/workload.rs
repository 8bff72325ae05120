//! Rows whose content follows from their number, and the writer that commits them. Values, and one process to start.
//!
//! Every transaction appends rows and moves `tally.last` to the newest of them, so that any state between two
//! transactions, any lost page and any page of another time shows: see [`crate::oracle`].

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chance::Chance;
use crate::process::Running;
use crate::{process, programs};

/// What the writer creates in an empty database. `tally` has one row.
pub const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tally (
        id INTEGER PRIMARY KEY CHECK (id = 1), seed INTEGER NOT NULL, bytes INTEGER NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL);";

/// The content of row `n`: `bytes` bytes of words, about half as large when compressed.
pub fn body(seed: u64, n: i64, bytes: usize) -> String {
    let mut chance = Chance::new(seed ^ (n as u64).wrapping_mul(0xff51_afd7_ed55_8ccd));
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        let mut bits = chance.bits();
        for _ in 0..10 {
            text.push_str(WORDS[(bits & 63) as usize]);
            bits >>= 6;
        }
    }
    text.truncate(bytes);
    text
}

/// One line of the writer's truth: row `n` was committed, and the commit had returned, at `at` (Unix time, ns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub n: i64,
    pub at: u128,
}

impl Committed {
    /// `N NANOSECONDS`.
    pub fn parse(line: &str) -> Option<Self> {
        let (n, at) = line.split_once(' ')?;
        Some(Self { n: n.parse().ok()?, at: at.parse().ok()? })
    }
}

/// The truth so far: every whole line a writer has written to `path`.
pub fn truth(path: &Path) -> Vec<Committed> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| Committed::parse(line).unwrap_or_else(|| panic!("truth line {line:?}")))
        .collect()
}

/// What the writer says of itself when it ends, one JSON object on its last line of standard error.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub seed: u64,
    pub commits: u64,
    pub seconds: f64,
    /// Statements answered SQLITE_BUSY, on writing and reading connections.
    pub busy: u64,
    /// The slowest commit, and the 99th percentile.
    pub worst_ms: f64,
    pub p99_ms: f64,
}

/// A writer to start: `Writer::on(db).args(["--rate", "200"])`. Its truth goes to `DB.truth` beside the database.
#[derive(Debug)]
pub struct Writer {
    command: Command,
    db: PathBuf,
}

impl Writer {
    /// The writer on database `db`, opened the way Station does unless flags say otherwise.
    pub fn on(db: &Path) -> Self {
        let mut command = process::command(programs::ours("writer"));
        command.arg("--db").arg(db).arg("--truth").arg(truth_of(db));
        Self { command, db: db.to_path_buf() }
    }

    /// Adds flags, see `writer --help`.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        Running::start(&mut self.command, &self.db.with_extension("writer.log"))
    }
}

/// Where the truth about database `db` is written.
pub fn truth_of(db: &Path) -> PathBuf {
    db.with_extension("truth")
}

/// The summary at the end of a writer's log.
pub fn summary(log: &str) -> Summary {
    let line = log.lines().rev().find(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("the writer's summary in its log:\n{log}"));
    serde_json::from_str(line).unwrap_or_else(|e| panic!("the writer's summary {line}: {e}"))
}

const WORDS: [&str; 64] = [
    "able ", "acid ", "aged ", "also ", "area ", "army ", "away ", "baby ", "back ", "ball ", "band ",
    "bank ", "base ", "bath ", "bear ", "beat ", "been ", "beer ", "bell ", "belt ", "best ", "bill ",
    "bird ", "blow ", "blue ", "boat ", "body ", "bomb ", "bond ", "bone ", "book ", "boom ", "born ",
    "boss ", "both ", "bowl ", "bulk ", "burn ", "bush ", "busy ", "call ", "calm ", "came ", "camp ",
    "card ", "care ", "case ", "cash ", "cast ", "cell ", "chat ", "chip ", "city ", "club ", "coal ",
    "coat ", "code ", "cold ", "come ", "cook ", "cool ", "cope ", "copy ", "core ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_follows_from_seed_and_number() {
        assert_eq!(body(1, 42, 1000), body(1, 42, 1000));
        assert_eq!(body(1, 42, 1000).len(), 1000);
        assert_ne!(body(1, 42, 1000), body(1, 43, 1000));
        assert_ne!(body(1, 42, 1000), body(2, 42, 1000));
    }

    #[test]
    fn a_torn_last_line_of_the_truth_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth");
        std::fs::write(&path, "1 100\n2 200\n3 3").unwrap();
        assert_eq!(truth(&path), [Committed { n: 1, at: 100 }, Committed { n: 2, at: 200 }]);
    }
}
