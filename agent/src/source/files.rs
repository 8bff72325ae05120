//! The descriptors of one database: opened once, shared, closed last. See the room's rule in `mod.rs`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};

use crate::format::wal::PageSize;

/// Why a database cannot be attached to, or no longer be followed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing there yet. Not a fault: the app will create it.
    #[error("{} does not exist yet", .0.display())]
    Missing(PathBuf),
    /// There, but empty or still in rollback mode. Not a fault either.
    #[error("{} is not in WAL mode yet", .0.display())]
    NotWal(PathBuf),
    /// Not SQLite, or damaged beyond reading its header.
    #[error("open {}: {what}", .path.display())]
    NotADatabase { path: PathBuf, what: &'static str },
    /// Another file stands at the path.
    #[error("{} was replaced by another file", .0.display())]
    Replaced(PathBuf),
    /// Somebody holds a lock we cannot wait for.
    #[error("{what} {}: {source}", .path.display())]
    Sqlite { what: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("{what} {}: {source}", .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// The WAL index is not readable; `what` says how.
    #[error("read {}: {what}", .path.display())]
    Index { path: PathBuf, what: &'static str },
    /// A writer is between the two copies of the WAL index's header, and was stopped or killed there. The next look
    /// or the next writer gets past it; nothing was committed meanwhile.
    #[error("read {}: the header does not settle; its writer is stopped, starved or dead", .0.display())]
    Unsettled(PathBuf),
}

impl SourceError {
    /// Somebody holds a lock or is about to finish; the same call may go through a moment later.
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => super::pins::is_busy(source),
            Self::Unsettled(_) => true,
            _ => false,
        }
    }

    /// The app has not got that far yet; waiting is all there is to do.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::NotWal(_))
    }
}

/// Whether a file that ended within its header is empty, or was while somebody looked: it had these lengths before and
/// after. An app writes its first page whenever it likes.
const fn is_being_made(before: u64, after: u64) -> bool {
    before == 0 || after == 0 || before != after
}

/// The long-lived descriptors. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Files {
    path: PathBuf,
    /// `path` without links: SQLite puts `-wal` and `-shm` beside the file itself.
    real: PathBuf,
    identity: (u64, u64),
    /// The database file, read-only.
    pub db: Arc<File>,
    shm: Option<Arc<File>>,
}

impl Files {
    /// Opens the database file, or takes `kept` if that is still the file at `path`.
    pub fn open(path: &Path, kept: Option<Self>) -> Result<Self, SourceError> {
        let meta = std::fs::metadata(path).map_err(|e| missing(path, e))?;
        if !meta.is_file() {
            return Err(SourceError::NotADatabase { path: path.into(), what: "not a regular file" });
        }
        let real = path.canonicalize().map_err(|e| missing(path, e))?;
        if let Some(files) = kept.filter(|f| f.identity == identity(&meta)) {
            return Ok(Self { real, ..files });
        }
        let db = File::open(path).map_err(|e| missing(path, e))?;
        let meta = db.metadata().map_err(|source| io_error("stat", path, source))?;
        Ok(Self { path: path.into(), real, identity: identity(&meta), db: Arc::new(db), shm: None })
    }

    /// The page size of a file in WAL mode: bytes 18 and 19 of its header say that it is, 16 and 17 the size
    /// (sqlite.org/fileformat2.html §1.3).
    pub fn wal_page_size(&self) -> Result<PageSize, SourceError> {
        let mut header = [0; 20];
        let len = || self.db.metadata().map(|m| m.len()).unwrap_or_default();
        let before = len();
        match self.db.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(if is_being_made(before, len()) {
                    SourceError::NotWal(self.path.clone())
                } else {
                    SourceError::NotADatabase {
                        path: self.path.clone(),
                        what: "shorter than a SQLite header",
                    }
                });
            }
            Err(source) => return Err(io_error("read", &self.path, source)),
        }
        if &header[..16] != b"SQLite format 3\0" {
            return Err(SourceError::NotADatabase {
                path: self.path.clone(),
                what: "no SQLite header (encrypted?)",
            });
        }
        if header[18..20] != [2, 2] {
            return Err(SourceError::NotWal(self.path.clone()));
        }
        let size = match u32::from(u16::from_be_bytes([header[16], header[17]])) {
            1 => 65536,
            size => size,
        };
        let wrong = || SourceError::NotADatabase {
            path: self.path.clone(),
            what: "impossible page size in its header",
        };
        PageSize::new(size).ok_or_else(wrong)
    }

    /// Does `path` lead to this file?
    pub fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| identity(&m) == self.identity)
    }

    /// Somebody else has these descriptors, too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.db) > 1 || self.shm.as_ref().is_some_and(|shm| Arc::strong_count(shm) > 1)
    }

    /// Has another process the database open?
    ///
    /// SQLite holds a shared lock on one byte of the `-shm` for as long as it has that mapped (the dead man's switch of
    /// `os_unix.c`), seen across namespaces; this process's own locks do not count. Asks on the descriptor that stays:
    /// one that was closed again would drop them.
    pub fn is_held_elsewhere(&self) -> bool {
        let Some(shm) = &self.shm else { return false };
        let mut lock = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: DEAD_MANS_SWITCH,
            l_len: 1,
            l_pid: 0,
        };
        let asked = fcntl(shm, FcntlArg::F_GETLK(&mut lock));
        asked.is_ok() && lock.l_type != nix::libc::F_UNLCK as i16
    }

    /// Does the path still lead to this file?
    pub fn check_same(&self) -> Result<(), SourceError> {
        match std::fs::metadata(&self.path) {
            Ok(m) if identity(&m) == self.identity => Ok(()),
            Ok(_) => Err(SourceError::Replaced(self.path.clone())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(SourceError::Replaced(self.path.clone())),
            Err(source) => Err(io_error("stat", &self.path, source)),
        }
    }

    /// The `-shm` of the connection made just now. A kept one may have been deleted since: whoever closes the last
    /// connection of a database does that.
    pub(super) fn shm(&mut self) -> Result<Arc<File>, SourceError> {
        let path = self.beside("-shm");
        let failed = |source| io_error("open", &path, source);
        let now = std::fs::metadata(&path).map_err(failed)?;
        if let Some(shm) = &self.shm
            && identity(&shm.metadata().map_err(failed)?) == identity(&now)
        {
            return Ok(shm.clone());
        }
        let shm = File::open(&path).map(Arc::new).map_err(failed)?;
        self.shm = Some(shm.clone());
        Ok(shm)
    }

    /// The path of the database's `-wal` or `-shm`.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.real, suffix)
    }
}

/// `station.db` and `-wal` make `station.db-wal`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `UNIX_SHM_DMS`: behind the locks of the WAL index, which begin at 120.
const DEAD_MANS_SWITCH: i64 = 128;

fn identity(meta: &std::fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

pub(super) fn io_error(what: &'static str, path: &Path, source: io::Error) -> SourceError {
    SourceError::Io { what, path: path.into(), source }
}

fn missing(path: &Path, e: io::Error) -> SourceError {
    match e.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(path.into()),
        _ => io_error("open", path, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grew_meanwhile_is_being_made_and_a_short_one_is_none() {
        for (before, after, made) in
            [(0, 0, true), (0, 4096, true), (5, 4096, true), (5, 0, true), (5, 5, false)]
        {
            assert_eq!(is_being_made(before, after), made, "{before} to {after}");
        }
    }

    #[test]
    fn a_database_that_is_made_while_somebody_looks_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut page = vec![0; 4096];
        page[..20].copy_from_slice(b"SQLite format 3\0\x10\x00\x02\x02");
        for n in 0..500 {
            let path = dir.path().join(format!("{n}.db"));
            std::fs::write(&path, b"").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    File::options().write(true).open(&path).unwrap().write_all_at(&page, 0).unwrap()
                });
                let files = Files::open(&path, None).unwrap();
                loop {
                    match files.wal_page_size() {
                        Ok(size) => break assert_eq!(size.get(), 4096),
                        Err(e) => assert!(e.is_waiting(), "{n}: {e}"),
                    }
                }
            });
        }
    }

    #[test]
    fn what_is_too_short_for_good_is_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(&path, b"hello").unwrap();
        let e = Files::open(&path, None).unwrap().wal_page_size().unwrap_err();
        assert!(!e.is_waiting() && e.to_string().contains("shorter than a SQLite header"), "{e}");
    }
}
