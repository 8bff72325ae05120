//! What stands in the way of a database, moved into a folder beside it: whole, and only what was decided about. Touches
//! that directory only; never opens a database, never deletes data.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::json;

use super::target::{SUFFIXES, any_leftover, beside, doing, exists, stat};
use crate::durable::{self, Access, NewFile};
use crate::error::{Error, Kind, local};

/// What was decided about what lies there, and what lay there when it was.
#[derive(Debug, Clone)]
pub struct Seen {
    /// A word for the folder's name.
    word: &'static str,
    /// A sentence for whoever finds the folder.
    why: String,
    files: [Option<Identity>; 3],
    bare: bool,
}

impl Seen {
    /// Looks at the database and what belongs to it. To be asked before anything is decided about them: what has come
    /// since was not decided about.
    pub fn of(db: &Path) -> Result<Self, Error> {
        Ok(Self { word: "replaced", why: String::new(), files: identities(db)?, bare: false })
    }

    /// The same, to be moved aside under `word` if a restore succeeds.
    #[must_use]
    pub fn aside(self, word: &'static str, why: String) -> Self {
        Self { word, why, ..self }
    }

    /// The same: no application has put anything into it, and it stays unless something is to take its place.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    pub(super) fn is_bare(&self) -> bool {
        self.bare
    }

    fn anything(&self) -> bool {
        self.files.iter().any(Option::is_some)
    }
}

/// Device, inode, bytes and date of a file.
type Identity = (u64, u64, u64, SystemTime);

/// Of the database, its `-wal` and its `-journal`: what data is in.
fn identities(db: &Path) -> Result<[Option<Identity>; 3], Error> {
    let identity = |suffix| -> Result<Option<Identity>, Error> {
        let meta = stat(&beside(db, suffix))?;
        Ok(meta.map(|m| (m.dev(), m.ino(), m.len(), m.modified().unwrap_or(SystemTime::UNIX_EPOCH))))
    };
    Ok([identity("")?, identity("-wal")?, identity("-journal")?])
}

/// Moves what was seen out of the way of a database, or of none, and says where to. Nothing else is touched: what has
/// come or changed since is somebody's who is at work.
pub(in crate::run) fn clear(db: &Path, seen: &Seen, now: Timestamp) -> Result<Option<PathBuf>, Error> {
    if identities(db)? != seen.files {
        return match seen.files {
            [None, ..] if stat(db)?.is_some() => Err(exists(db)),
            _ => Err(Error::new(Kind::Busy, doing(db), "somebody writes to what is to be set aside")
                .hint("stop it first")),
        };
    }
    // An index of a WAL that is not there says nothing, and is in the way.
    let anything = seen.anything() || any_leftover(db)?;
    if anything { move_aside(db, seen.word, &seen.why, now).map(Some) } else { Ok(None) }
}

/// Moves the database and what belongs to it into `<db>.<word>-<UTC>`, with an `index.json` that says what and why.
///
/// The database goes first: what is left of a set that was moved half is a WAL without a database, which the next start
/// takes for what it is, and never a database without its WAL, which would look whole.
pub(super) fn move_aside(db: &Path, word: &str, why: &str, now: Timestamp) -> Result<PathBuf, Error> {
    let suffixes = || [""].into_iter().chain(SUFFIXES);
    refuse_in_use(db)?;
    let stem = format!(".{word}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let taken = |n: &u32| beside(db, &numbered(&stem, *n)).symlink_metadata().is_ok();
    let folder = beside(db, &numbered(&stem, (1..).find(|n| !taken(n)).unwrap_or(1)));
    let make = || -> io::Result<()> {
        fs::create_dir(&folder)?;
        let index = index(db, word, why, now)?;
        let access = Access::default();
        let new = NewFile::create(&folder.join(INDEX), format!(".{INDEX}.tmp").into(), &access)?;
        new.file().write_all(index.as_bytes())?;
        new.publish()?;
        for suffix in suffixes() {
            let from = beside(db, suffix);
            match fs::rename(&from, folder.join(from.file_name().unwrap_or_default())) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
        }
        fs::File::open(&folder)?.sync_all()?;
        fs::File::open(durable::parent(db))?.sync_all()
    };
    make().map_err(|e| local(format!("move {} to {}", db.display(), folder.display()), &e))?;
    Ok(folder)
}

fn numbered(stem: &str, number: u32) -> String {
    if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") }
}

fn index(db: &Path, word: &str, why: &str, now: Timestamp) -> io::Result<String> {
    let mut files = Vec::new();
    for suffix in [""].into_iter().chain(SUFFIXES) {
        let path = beside(db, suffix);
        let Ok(meta) = path.symlink_metadata() else { continue };
        files.push(json!({
            "name": path.file_name().unwrap_or_default().to_string_lossy(),
            "bytes": meta.len(),
            "modified": Timestamp::try_from(meta.modified()?).map(|t| t.to_string()).ok(),
        }));
    }
    let index = json!({
        "version": 1, "database": db, "reason": word, "why": why, "moved": now.to_string(), "files": files,
    });
    Ok(format!("{index:#}\n"))
}

/// Moving a database away from under a program that has it open would leave that program writing to nowhere.
pub(super) fn refuse_in_use(db: &Path) -> Result<(), Error> {
    // Where SQLite keeps its locks (os_unix.c): the pending byte and what follows it in the database, and the lock
    // slots in the -shm.
    for (suffix, start, len) in [("", 0x4000_0000, 512), ("-shm", 120, 9)] {
        let path = beside(db, suffix);
        let Ok(file) = fs::File::open(&path) else { continue };
        let mut lock = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: start,
            l_len: len,
            l_pid: 0,
        };
        let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
        if asked.is_ok() && lock.l_type != nix::libc::F_UNLCK as i16 {
            let cause = format!("process {} has {} open", lock.l_pid, path.display());
            return Err(Error::new(Kind::Busy, doing(db), cause).hint("stop it first"));
        }
    }
    Ok(())
}

/// What lies in a folder of what was moved, and why.
pub(super) const INDEX: &str = "index.json";
