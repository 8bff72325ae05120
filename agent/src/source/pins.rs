//! The two connections that take turns at pinning the WAL. They read, checkpoint PASSIVE, and write nothing.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::files::SourceError;
use crate::plan::handover::Slot;

/// Connections for [`Slot::A`] and [`Slot::B`]; the second is opened when it is first needed.
#[derive(Debug)]
pub(super) struct Pins {
    path: std::path::PathBuf,
    slots: [Option<Connection>; 2],
}

impl Pins {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), slots: [None, None] }
    }

    /// Begins a read transaction: from here on the connection's mark pins the WAL.
    ///
    /// `PRAGMA schema_version` reads page 1 and nothing else: no schema is parsed, whatever the app put into it.
    pub(super) fn begin(&mut self, slot: Slot) -> Result<(), SourceError> {
        let begun = self.slot(slot)?.execute_batch("BEGIN; PRAGMA schema_version;");
        begun.map_err(|e| {
            self.end(slot);
            self.error("begin a read transaction on", e)
        })
    }

    /// Gives the memory back that only the next round will use.
    pub(super) fn rest(&self) {
        self.slots.iter().flatten().for_each(forget_index);
    }

    /// Takes the write lock; `false` when a writer has it.
    pub(super) fn begin_write(&mut self, slot: Slot) -> Result<bool, SourceError> {
        let conn = self.slot(slot)?;
        conn.busy_timeout(Duration::ZERO)
            .and_then(|()| conn.execute_batch("BEGIN IMMEDIATE;"))
            .map_or_else(|e| if is_busy(&e) { Ok(false) } else { Err(self.error("lock", e)) }, |()| Ok(true))
    }

    /// Ends the transaction, if there is one.
    pub(super) fn end(&mut self, slot: Slot) {
        if let Some(conn) = &self.slots[slot as usize]
            && !conn.is_autocommit()
            && let Err(error) = conn.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "end a read transaction");
        }
    }

    /// `PRAGMA wal_checkpoint(PASSIVE)`; `false` when somebody else is checkpointing.
    pub(super) fn checkpoint(&mut self, slot: Slot) -> Result<bool, SourceError> {
        let row = self.slot(slot)?.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get::<_, i64>(0));
        match row {
            Ok(busy) => Ok(busy == 0),
            Err(e) if is_busy(&e) => Ok(false),
            Err(e) => Err(self.error("checkpoint", e)),
        }
    }

    fn slot(&mut self, slot: Slot) -> Result<&Connection, SourceError> {
        let n = slot as usize;
        if self.slots[n].is_none() {
            self.slots[n] = Some(connect(&self.path).map_err(|e| self.error("open", e))?);
        }
        // The line above has filled it.
        self.slots[n].as_ref().ok_or(SourceError::Missing(self.path.clone()))
    }

    fn error(&self, what: &'static str, source: rusqlite::Error) -> SourceError {
        SourceError::Sqlite { what, path: self.path.clone(), source }
    }
}

/// Read-write, because a reader takes its lock in the `-shm`; never creating, and never checkpointing or deleting the
/// WAL when it closes.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    without_lookaside(&conn);
    conn.busy_timeout(ATTACH_WAIT)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A cache of one page is not allocated in bulk: a pinned idle database costs 80 KB less. Setting it parses the
    // schema, whose pages go again before the pin begins.
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 1; PRAGMA shrink_memory;")?;
    Ok(conn)
}

/// Gives back the 48 KB SQLite sets aside for each connection's small allocations: a pin makes next to none, and two
/// hundred idle databases would keep 10 MB of it. A refusal costs only that memory.
fn without_lookaside(conn: &Connection) {
    use rusqlite::ffi;
    // SAFETY: the handle is open for as long as `conn` is borrowed and no other thread has it; the three arguments
    // after the verb are the ones SQLITE_DBCONFIG_LOOKASIDE takes: no buffer of ours, slots of 0 bytes, 0 of them.
    let code = unsafe {
        ffi::sqlite3_db_config(
            conn.handle(),
            ffi::SQLITE_DBCONFIG_LOOKASIDE,
            std::ptr::null_mut::<std::ffi::c_void>(),
            0 as std::ffi::c_int,
            0 as std::ffi::c_int,
        )
    };
    if code != ffi::SQLITE_OK {
        tracing::debug!(code, "switch lookaside off");
    }
}

/// Takes the WAL index out of this process's resident memory. It stays mapped, and comes back from the page cache where
/// it is touched: a pin that rests touches nothing, and a thousand of them would keep 32 MB resident.
fn forget_index(conn: &Connection) {
    use rusqlite::ffi;
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    let mut region: *mut std::ffi::c_void = std::ptr::null_mut();
    // SAFETY: the handle is open for as long as `conn` is borrowed and no other thread uses it; the verb writes the
    // pointer of the main database's file, which lives as long as the connection, and whose methods SQLite documents for
    // callers. Region 0 is mapped already (the WAL has been read), and is not extended. `MADV_DONTNEED` on a shared
    // mapping of a file loses nothing: its pages are the page cache's.
    unsafe {
        let verb = ffi::SQLITE_FCNTL_FILE_POINTER;
        let asked = ffi::sqlite3_file_control(conn.handle(), c"main".as_ptr(), verb, (&raw mut file).cast());
        if asked != ffi::SQLITE_OK || file.is_null() || (*file).pMethods.is_null() {
            return;
        }
        let methods = &*(*file).pMethods;
        let Some(map) = methods.xShmMap.filter(|_| methods.iVersion >= 2) else { return };
        if map(file, 0, INDEX_REGION, 0, (&raw mut region).cast()) == ffi::SQLITE_OK && !region.is_null() {
            nix::libc::madvise(region, INDEX_REGION as usize, nix::libc::MADV_DONTNEED);
        }
    }
}

/// Bytes of the WAL index SQLite maps at a time (sqlite.org/walformat.html §2.1).
const INDEX_REGION: std::ffi::c_int = 32 * 1024;

pub(super) fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// How long to wait for somebody who is recovering the WAL or changing the journal mode.
const ATTACH_WAIT: Duration = Duration::from_secs(1);
