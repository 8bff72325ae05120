//! Is this database some committed state of the workload, and which one. Opens databases, read-only statements only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::workload;

/// A committed state of the workload: rows `first..=last`, each with the content its number demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub first: i64,
    pub last: i64,
    /// Over the schema and every row of every table, but for the two tables Litestream keeps in a user's database.
    pub digest: u64,
}

/// Checks the database at `path` in full and says which state it holds. The error names what is wrong.
pub fn state(path: &Path) -> Result<State, String> {
    let db = open(path)?;
    let broken = integrity(&db)?;
    if broken != "ok" {
        return Err(format!("integrity_check: {broken}"));
    }
    let (seed, bytes, first, last) = db
        .query_row("SELECT seed, bytes, first, last FROM tally", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        })
        .map_err(|e| format!("read tally: {e}"))?;
    let mut expected = first;
    each(&db, "SELECT n, body FROM rows ORDER BY n", |row| {
        let (n, body) = (row.get_ref(0)?.as_i64()?, row.get_ref(1)?.as_str()?);
        if n != expected {
            return Ok(Err(format!("row {expected} is missing, found {n}")));
        }
        if body != workload::body(seed as u64, n, bytes as usize) {
            return Ok(Err(format!("row {n} has the content of another row or time")));
        }
        expected += 1;
        Ok(Ok(()))
    })?;
    if expected != last + 1 {
        return Err(format!("rows end at {}, the tally says {last}: between two transactions", expected - 1));
    }
    Ok(State { first, last, digest: digest(&db)? })
}

/// [`state`], for a test that cannot go on without one.
#[track_caller]
pub fn expect_state(path: &Path, what: &str) -> State {
    state(path).unwrap_or_else(|e| panic!("{what}: {}: {e}", path.display()))
}

/// The newest row of a live database, as cheaply as a reader can see it. `None` while there is no tally.
pub fn newest(path: &Path) -> Option<i64> {
    open(path).ok()?.query_row("SELECT last FROM tally", [], |row| row.get(0)).ok()
}

/// A digest of any database: its schema and every row of every table, in order.
pub fn digest_of(path: &Path) -> Result<u64, String> {
    digest(&open(path)?)
}

fn open(path: &Path) -> Result<Connection, String> {
    // Read-write, for a reader of a WAL database must be able to make its -shm; never create.
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    );
    let db = db.map_err(|e| format!("open: {e}"))?;
    db.busy_timeout(std::time::Duration::from_secs(30)).map_err(|e| e.to_string())?;
    Ok(db)
}

fn integrity(db: &Connection) -> Result<String, String> {
    let mut found = Vec::new();
    each(db, "PRAGMA integrity_check(3)", |row| {
        found.push(row.get::<_, String>(0)?);
        Ok(Ok(()))
    })?;
    Ok(found.join("; "))
}

fn digest(db: &Connection) -> Result<u64, String> {
    let mut hash = DefaultHasher::new();
    let mut tables = Vec::new();
    each(
        db,
        "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY type, name",
        |row| {
            let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
            (&kind, &name, row.get::<_, Option<String>>(2)?).hash(&mut hash);
            if kind == "table" {
                tables.push(name);
            }
            Ok(Ok(()))
        },
    )?;
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        let columns =
            db.prepare(&format!("SELECT * FROM \"{quoted}\"")).map_err(|e| e.to_string())?.column_count();
        let order: Vec<_> = (1..=columns).map(|c| c.to_string()).collect();
        each(db, &format!("SELECT * FROM \"{quoted}\" ORDER BY {}", order.join(", ")), |row| {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => 0u8.hash(&mut hash),
                    ValueRef::Integer(value) => (1u8, value).hash(&mut hash),
                    ValueRef::Real(value) => (2u8, value.to_bits()).hash(&mut hash),
                    ValueRef::Text(value) => (3u8, value).hash(&mut hash),
                    ValueRef::Blob(value) => (4u8, value).hash(&mut hash),
                }
            }
            Ok(Ok(()))
        })?;
    }
    Ok(hash.finish())
}

/// Runs `visit` on every row; stops at the first error of SQLite's or of `visit`'s own.
fn each(
    db: &Connection,
    sql: &str,
    mut visit: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<Result<(), String>>,
) -> Result<(), String> {
    let mut statement = db.prepare(sql).map_err(|e| format!("{sql}: {e}"))?;
    let mut rows = statement.query([]).map_err(|e| format!("{sql}: {e}"))?;
    while let Some(row) = rows.next().map_err(|e| format!("{sql}: {e}"))? {
        visit(row).map_err(|e| format!("{sql}: {e}"))??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &Path, rows: std::ops::RangeInclusive<i64>) -> std::path::PathBuf {
        let path = dir.join("app.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("BEGIN; {}", workload::SCHEMA)).unwrap();
        db.execute("INSERT INTO tally VALUES (1, 7, 100, ?1, ?2)", [rows.start(), rows.end()]).unwrap();
        for n in rows {
            db.execute("INSERT INTO rows VALUES (?1, ?2)", (n, workload::body(7, n, 100))).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        path
    }

    fn verdict(spoil: &str) -> Result<State, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path(), 3..=9);
        Connection::open(&path).unwrap().execute_batch(spoil).unwrap();
        state(&path)
    }

    #[test]
    fn a_committed_state_is_recognised() {
        let state = verdict("").unwrap();
        assert_eq!((state.first, state.last), (3, 9));
    }

    #[test]
    fn a_missing_row_a_foreign_row_and_a_torn_transaction_are_told_apart() {
        assert!(verdict("DELETE FROM rows WHERE n = 5").unwrap_err().contains("row 5 is missing"));
        assert!(
            verdict("UPDATE rows SET body = (SELECT body FROM rows WHERE n = 4) WHERE n = 5")
                .unwrap_err()
                .contains("row 5 has")
        );
        assert!(verdict("DELETE FROM rows WHERE n = 9").unwrap_err().contains("between two transactions"));
    }

    #[test]
    fn the_digest_sees_any_table() {
        let before = verdict("").unwrap().digest;
        assert_eq!(verdict("").unwrap().digest, before);
        assert_ne!(verdict("CREATE TABLE more (a); INSERT INTO more VALUES (1)").unwrap().digest, before);
    }

    #[test]
    fn a_damaged_page_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path(), 1..=500);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(state(&path).is_err());
    }
}
