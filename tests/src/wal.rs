//! Where the committed part of a write-ahead log ends, read from the file as SQLite's format page describes it.
//! Independent of the agent's own reader, which it judges. Reads one file.

use std::path::{Path, PathBuf};

/// End of the last committed frame in the database's `-wal`, in bytes; 0 when there is none.
///
/// Only meaningful while nobody writes. Frames are told from leftovers of an earlier log by their salts; a frame
/// that ends a transaction carries the database's size in pages.
pub fn committed_end(db: &Path) -> u64 {
    let bytes = std::fs::read(path(db)).unwrap_or_default();
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let (Some(page), Some(salt1), Some(salt2)) = (word(8), word(16), word(20)) else { return 0 };
    let frame = 24 + page as usize;
    let mut end = 0;
    let mut at = 32;
    while bytes.len() >= at + frame && word(at + 8) == Some(salt1) && word(at + 12) == Some(salt2) {
        at += frame;
        if word(at - frame + 4) != Some(0) {
            end = at as u64;
        }
    }
    end
}

/// `<db>-wal`.
pub fn path(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_moves_with_every_commit_and_not_with_a_rollback() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        db.execute_batch("CREATE TABLE t (a)").unwrap();
        let first = committed_end(&path);
        assert_eq!((first - 32) % 4120, 0);
        db.execute_batch("BEGIN; INSERT INTO t VALUES (randomblob(100000)); ROLLBACK").unwrap();
        assert_eq!(committed_end(&path), first);
        db.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(committed_end(&path), first + 4120);
    }

    #[test]
    fn leftovers_of_an_earlier_log_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(100000))").unwrap();
        let long = committed_end(&path);
        db.pragma_update_and_check(None, "wal_checkpoint", "RESTART", |_| Ok(())).unwrap();
        db.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        let short = committed_end(&path);
        assert!(0 < short && short < long, "{short} {long}");
        assert!(std::fs::metadata(super::path(&path)).unwrap().len() >= long);
    }
}
