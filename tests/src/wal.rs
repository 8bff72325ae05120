//! Where the committed part of a live write-ahead log ends, by the word of SQLite's own index header. Reads one file.
//!
//! Independent of the agent's reader, which it judges. Never call it in a process that holds a connection to the
//! database: closing any descriptor of the `-shm` file drops that connection's locks.

use std::path::{Path, PathBuf};

/// End of the last committed frame in the database's `-wal`, in bytes; 0 when there is none.
///
/// The header of the `-shm` file (`walformat.html` §2.1): page size at 14 (1 means 65536), last valid frame at 16,
/// both in the machine's byte order. A reader that starts now sees exactly this much.
pub fn committed_end(db: &Path) -> u64 {
    let header = std::fs::read(beside(db, "-shm")).unwrap_or_default();
    let (Some(size), Some(last)) = (header.get(14..16), header.get(16..20)) else { return 0 };
    let page = match u16::from_ne_bytes([size[0], size[1]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    match u32::from_ne_bytes([last[0], last[1], last[2], last[3]]) {
        0 => 0,
        frames => 32 + u64::from(frames) * (24 + page),
    }
}

/// Whether no commit is half way into the index header, which is there twice: a writer that stands still in between
/// keeps every reader out, SQLite's own as well.
pub fn is_readable(db: &Path) -> bool {
    let header = std::fs::read(beside(db, "-shm")).unwrap_or_default();
    header.get(..HEADER) == header.get(HEADER..2 * HEADER)
}

/// Bytes of each of the two.
const HEADER: usize = 48;

/// `<db>-wal` for `-wal`.
pub fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn database(dir: &Path) -> (PathBuf, Connection) {
        let path = dir.join("app.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        db.execute_batch("CREATE TABLE t (a)").unwrap();
        (path, db)
    }

    #[test]
    fn the_end_moves_with_every_commit_and_not_with_a_rollback() {
        let dir = tempfile::tempdir().unwrap();
        let (path, db) = database(dir.path());
        let first = committed_end(&path);
        assert_eq!((first - 32) % 4120, 0);
        db.execute_batch("BEGIN; INSERT INTO t VALUES (randomblob(100000)); ROLLBACK").unwrap();
        assert_eq!(committed_end(&path), first);
        db.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(committed_end(&path), first + 4120);
    }

    #[test]
    fn two_different_headers_are_a_commit_half_way() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _db) = database(dir.path());
        assert!(is_readable(&path));
        let shm = beside(&path, "-shm");
        let other = dir.path().join("half");
        let mut bytes = std::fs::read(shm).unwrap();
        bytes[HEADER + 16] += 1;
        std::fs::write(beside(&other, "-shm"), bytes).unwrap();
        assert!(!is_readable(&other));
    }

    #[test]
    fn leftovers_of_an_earlier_log_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (path, db) = database(dir.path());
        db.execute_batch("INSERT INTO t VALUES (randomblob(100000))").unwrap();
        let long = committed_end(&path);
        db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        db.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        let short = committed_end(&path);
        assert!(0 < short && short < long, "{short} {long}");
        assert!(std::fs::metadata(beside(&path, "-wal")).unwrap().len() >= long);
    }
}
