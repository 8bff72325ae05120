//! One of us per database: a lock on a file beside it. Makes that file, and takes it away again.
//!
//! `flock(2)`: it belongs to the open file, so a child that inherits the descriptor holds it, too, and the kernel lets go
//! of it whatever kills us. The file is `.NAME-holdfast.lock`, which neither SQLite (`NAME-wal`, `-shm`, `-journal`) nor
//! Litestream (`.NAME-litestream`) knows, nor a pattern for databases.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

/// Ours as long as this, or a descriptor inherited from it, is open. Dropping it removes the file.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the database at `db`, whose directory must exist; `None` if somebody else has it.
    pub fn try_take(db: &Path) -> io::Result<Option<Self>> {
        let path = beside(db)?;
        loop {
            // Readable is enough to lock it: another user's lock holds us off, too.
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
            let file = match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    match options.write(true).create_new(true).mode(0o644).open(&path) {
                        // Somebody else was faster.
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                        made => made?,
                    }
                }
                there => there?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // Whoever had it may have removed it between our opening and our locking: then it locks nothing.
            let ours = file.metadata()?;
            if path.symlink_metadata().is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Some(Self { file, path }));
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is let go of, so that nobody has it yet. What stays is an empty file that the next one locks.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The file that is locked for `db`: beside the file itself, whatever links lead to it.
pub fn beside(db: &Path) -> io::Result<PathBuf> {
    let name = |path: &Path| {
        let mut file = OsString::from(".");
        file.push(path.file_name()?);
        file.push("-holdfast.lock");
        Some(file)
    };
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    if let Ok(real) = db.canonicalize() {
        return Ok(real.with_file_name(name(&real).ok_or_else(no_file)?));
    }
    let dir = db.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(dir.canonicalize()?.join(name(db).ok_or_else(no_file)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect()
    }

    #[test]
    fn one_has_it_and_the_next_one_after_him_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        let first = Lock::try_take(&db).unwrap().unwrap();
        assert_eq!(names(dir.path()), [".x.db-holdfast.lock"]);
        assert!(Lock::try_take(&db).unwrap().is_none());
        assert!(Lock::try_take(&dir.path().join("y.db")).unwrap().is_some(), "another database");
        drop(first);
        assert!(names(dir.path()).is_empty());
        assert!(Lock::try_take(&db).unwrap().is_some());
    }

    #[test]
    fn what_a_killed_process_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        std::fs::write(beside(&db).unwrap(), "").unwrap();
        assert!(Lock::try_take(&db).unwrap().is_some());
    }

    #[test]
    fn a_descriptor_that_somebody_inherited_still_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("x.db");
        let mut first = Lock::try_take(&db).unwrap().unwrap();
        let inherited = first.file.try_clone().unwrap();
        // As if it was killed: it removes nothing.
        first.path = dir.path().join("elsewhere");
        drop(first);
        assert!(Lock::try_take(&db).unwrap().is_none());
        drop(inherited);
        assert!(Lock::try_take(&db).unwrap().is_some());
    }

    #[test]
    fn two_names_of_one_database_have_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let _held = Lock::try_take(&real.join("x.db")).unwrap().unwrap();
        assert!(Lock::try_take(&link.join("x.db")).unwrap().is_none());
        std::fs::write(real.join("x.db"), "").unwrap();
        std::os::unix::fs::symlink(real.join("x.db"), dir.path().join("other.db")).unwrap();
        assert!(Lock::try_take(&dir.path().join("other.db")).unwrap().is_none());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (db, victim) = (dir.path().join("x.db"), dir.path().join("victim"));
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, beside(&db).unwrap()).unwrap();
        assert!(Lock::try_take(&db).is_err());
        assert!(victim.exists());
    }
}
