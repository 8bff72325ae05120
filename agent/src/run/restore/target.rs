//! Where the restored database goes. Touches that directory only; never opens a database, never deletes data. What lies
//! there is moved by [`super::aside`].

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown};

use super::aside::{Seen, clear, move_aside};
use crate::durable::{self, Access, NewFile};
use crate::error::{Error, Kind, local};

/// What is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    Nothing,
    /// A file of no bytes and no WAL beside it: what `touch` makes. It holds nothing, so it counts as missing
    /// (spec/users-and-faults.md FT-07). With a WAL beside it, it may be a database whose pages are all in there.
    Empty,
    Database,
}

/// Looks, without opening anything.
pub(super) fn look(db: &Path) -> Result<Present, Error> {
    let Some(meta) = stat(db)? else { return Ok(Present::Nothing) };
    if !meta.is_file() {
        return Err(Error::new(Kind::LocalData, doing(db), "the path exists and is not a file"));
    }
    match meta.len() {
        0 if stat(&beside(db, "-wal"))?.is_none() => Ok(Present::Empty),
        _ => Ok(Present::Database),
    }
}

/// A WAL that lies there would be replayed into the restored database by the first program that opens it, and no
/// integrity check would notice (spec/users-and-faults.md B0).
pub(super) fn refuse_leftovers(db: &Path) -> Result<(), Error> {
    for suffix in SUFFIXES {
        let path = beside(db, suffix);
        if stat(&path)?.is_some() {
            let hint = format!("move it aside: mv {0} {0}.aside", path.display());
            let cause = format!(
                "{} is left from another database and would be replayed into this one",
                path.display()
            );
            return Err(Error::new(Kind::LocalData, doing(db), cause).hint(hint));
        }
    }
    Ok(())
}

/// Mode and owner of the restored file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ownership {
    /// Exact permission bits; by default those of the directory without execute, less the umask.
    pub mode: Option<u32>,
    /// By default those of the directory, if the process may give files away.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// Opens the file to restore into; creates its directory if there is none.
pub(super) fn create(db: &Path, ownership: &Ownership) -> Result<NewFile, Error> {
    let parent = durable::parent(db);
    let make = || -> io::Result<NewFile> {
        durable::create_dir_all(parent, &Access::default())?;
        let dir = fs::metadata(parent)?;
        let access = Access {
            file_mode: dir.mode() & 0o666,
            owner: Some((dir.uid(), dir.gid())),
            ..Access::default()
        };
        let new =
            NewFile::create(db, format!("{}-{:016x}", temp_prefix(db), durable::random()).into(), &access)?;
        // Where it has a name, [`sweep`] must know that somebody is at work on it. A file system without locks has none.
        let _ = new.file().try_lock();
        Ok(new)
    };
    let new = make().map_err(|e| local(format!("create {}", db.display()), &e))?;
    if ownership.uid.is_some() || ownership.gid.is_some() {
        fchown(new.file(), ownership.uid.map(Uid::from_raw), ownership.gid.map(Gid::from_raw))
            .map_err(|e| local(format!("change the owner of {}", db.display()), &e.into()))?;
    }
    if let Some(mode) = ownership.mode {
        new.file()
            .set_permissions(fs::Permissions::from_mode(mode))
            .map_err(|e| local(format!("change the mode of {}", db.display()), &e))?;
    }
    Ok(new)
}

/// Makes the restored file visible as `db`, durably, without replacing anything.
///
/// With `force` a database that is there is moved, with its `-wal`, `-shm` and `-journal`, into a folder beside it,
/// which is returned; with `seen` whatever was seen, if it is still that.
pub(super) fn publish(
    new: NewFile,
    db: &Path,
    force: bool,
    seen: Option<&Seen>,
    now: Timestamp,
) -> Result<Option<PathBuf>, Error> {
    let failed = |e: &io::Error| local(format!("write {}", db.display()), e);
    // The slow part first: what is checked next should still be so at the rename.
    new.file().sync_all().map_err(|e| failed(&e))?;
    let forced = |db| move_aside(db, "replaced", "-force", now).map(Some);
    let moved = match (seen, look(db)?) {
        (Some(seen), _) => clear(db, seen, now)?,
        (None, Present::Database) if force => forced(db)?,
        (None, Present::Database) => return Err(exists(db)),
        (None, Present::Nothing | Present::Empty) if force && any_leftover(db)? => forced(db)?,
        (None, Present::Nothing) => None,
        (None, Present::Empty) => {
            refuse_leftovers(db)?;
            return replace_empty(new, db).map(|()| None);
        }
    };
    refuse_leftovers(db)?;
    match new.publish() {
        Ok(()) => Ok(moved),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(exists(db)),
        Err(e) => Err(failed(&e)),
    }
}

pub(super) fn exists(db: &Path) -> Error {
    Error::new(Kind::CannotCreate, doing(db), "the file exists already")
        .hint("-if-db-not-exists keeps it, -force moves it aside, -o restores to another path")
}

/// A file of no bytes makes room and is removed only when it still has none.
fn replace_empty(new: NewFile, db: &Path) -> Result<(), Error> {
    let failed = |e: io::Error| local(format!("write {}", db.display()), &e);
    let aside = beside(db, &format!(".empty-{:08x}", durable::random() as u32));
    fs::rename(db, &aside).map_err(failed)?;
    if let Err(e) = new.publish() {
        // Back to where it was, unless somebody has put another there.
        let _ = fs::hard_link(&aside, db).and_then(|()| fs::remove_file(&aside));
        return Err(if e.kind() == ErrorKind::AlreadyExists { exists(db) } else { failed(e) });
    }
    match fs::metadata(&aside) {
        Ok(meta) if meta.len() == 0 => fs::remove_file(&aside).map_err(failed),
        _ => {
            tracing::warn!(path = %aside.display(), "somebody wrote to the empty database while it was replaced: kept");
            Ok(())
        }
    }
}

/// Removes what a restore that was killed has left where files cannot do without a name.
///
/// # Errors
/// [`Kind::Busy`] while such a restore is at work.
pub(in crate::run) fn sweep(db: &Path) -> Result<(), Error> {
    let parent = durable::parent(db);
    let prefix = format!("{}-", temp_prefix(db));
    let Ok(entries) = fs::read_dir(parent) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().and_then(|n| n.strip_prefix(&prefix));
        if !ours.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit())) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = fs::File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {
                tracing::info!(path = %path.display(), "removing what an interrupted restore has left");
                fs::remove_file(&path).map_err(|e| local(format!("remove {}", path.display()), &e))?;
            }
            Err(fs::TryLockError::WouldBlock) => {
                let cause = format!("another restore is at work on {}", path.display());
                return Err(Error::new(Kind::Busy, doing(db), cause));
            }
            Err(fs::TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

fn temp_prefix(db: &Path) -> String {
    format!(".{}.holdfast-restore", db.file_name().unwrap_or_default().to_string_lossy())
}

pub(super) fn any_leftover(db: &Path) -> Result<bool, Error> {
    for suffix in SUFFIXES {
        if stat(&beside(db, suffix))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `None` only if there is positively nothing; a symbolic link is something, wherever it leads.
pub(super) fn stat(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(link) => Ok(Some(link)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(local(format!("look at {}", path.display()), &e)),
        },
        Err(e) if e.raw_os_error() == Some(Errno::ENOTDIR as i32) => {
            Err(Error::new(Kind::LocalData, doing(path), "a file stands where its directory should be"))
        }
        Err(e) => Err(local(format!("look at {}", path.display()), &e)),
    }
}

pub(super) fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

pub(super) fn doing(db: &Path) -> String {
    format!("restore {}", db.display())
}

/// What SQLite keeps beside a database.
pub(super) const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::run::restore::aside::{INDEX, Seen, refuse_in_use};

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        (dir, db)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn restored(db: &Path) -> NewFile {
        let new = create(db, &Ownership::default()).unwrap();
        new.file().write_all(b"restored").unwrap();
        new
    }

    fn now() -> Timestamp {
        "2026-11-21T07:47:26Z".parse().unwrap()
    }

    #[test]
    fn a_zero_byte_file_counts_as_missing_only_without_a_wal() {
        let (_dir, db) = dir();
        assert_eq!(look(&db).unwrap(), Present::Nothing);
        fs::write(&db, b"").unwrap();
        assert_eq!(look(&db).unwrap(), Present::Empty);
        fs::write(beside(&db, "-wal"), b"").unwrap();
        assert_eq!(look(&db).unwrap(), Present::Database);
        fs::write(&db, b"x").unwrap();
        assert_eq!(look(&db).unwrap(), Present::Database);
    }

    #[test]
    fn a_directory_or_a_dangling_link_in_place_of_the_file_is_refused() {
        let (_dir, db) = dir();
        fs::create_dir(&db).unwrap();
        assert_eq!(look(&db).unwrap_err().code(), 65);
        fs::remove_dir(&db).unwrap();
        std::os::unix::fs::symlink("nowhere", &db).unwrap();
        assert_eq!(look(&db).unwrap_err().code(), 65);
    }

    #[test]
    fn each_leftover_is_refused_by_name_before_and_at_the_rename() {
        for suffix in SUFFIXES {
            let (dir, db) = dir();
            let new = restored(&db);
            fs::write(beside(&db, suffix), b"stale").unwrap();
            let e = refuse_leftovers(&db).unwrap_err();
            assert!(e.code() == 65 && e.to_string().contains(&format!("app.db{suffix}.aside")), "{e}");
            assert_eq!(publish(new, &db, false, None, now()).unwrap_err().code(), 65);
            assert_eq!(names(dir.path()), [format!("app.db{suffix}")]);
        }
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let (dir, db) = dir();
        let new = restored(&db);
        fs::write(&db, b"somebody else's").unwrap();
        assert_eq!(publish(new, &db, false, None, now()).unwrap_err().code(), 73);
        assert_eq!(fs::read(&db).unwrap(), b"somebody else's");
        assert_eq!(names(dir.path()), ["app.db"]);
    }

    #[test]
    fn an_empty_file_makes_room() {
        let (dir, db) = dir();
        fs::write(&db, b"").unwrap();
        assert_eq!(publish(restored(&db), &db, false, None, now()).unwrap(), None);
        assert_eq!(fs::read(&db).unwrap(), b"restored");
        assert_eq!(names(dir.path()), ["app.db"]);
    }

    #[test]
    fn force_moves_the_whole_set_aside() {
        let (dir, db) = dir();
        fs::write(&db, b"old").unwrap();
        fs::write(beside(&db, "-wal"), b"old wal").unwrap();
        let moved = publish(restored(&db), &db, true, None, now()).unwrap().unwrap();
        assert_eq!(fs::read(&db).unwrap(), b"restored");
        assert_eq!(names(dir.path()), ["app.db", "app.db.replaced-20261121T074726Z"]);
        assert_eq!(names(&moved), ["app.db", "app.db-wal", "index.json"]);
    }

    #[test]
    fn what_was_seen_is_set_aside_whole_with_a_word_of_why() {
        let (dir, db) = dir();
        fs::write(beside(&db, "-wal"), b"old wal").unwrap();
        fs::write(beside(&db, "-shm"), b"old shm").unwrap();
        for word in ["orphan-wal", "corrupt", "corrupt"] {
            let seen = Seen::of(&db).unwrap().aside(word, "it was in the way".into());
            let moved = publish(restored(&db), &db, false, Some(&seen), now()).unwrap().unwrap();
            assert_eq!(fs::read(&db).unwrap(), b"restored");
            let text = fs::read_to_string(moved.join(INDEX)).unwrap();
            let index: serde_json::Value = serde_json::from_str(&text).unwrap();
            let listed: Vec<_> =
                index["files"].as_array().unwrap().iter().map(|f| f["name"].clone()).collect();
            let there: Vec<_> = names(&moved).into_iter().filter(|n| n != INDEX).collect();
            assert_eq!((listed.len(), &index["reason"]), (there.len(), &serde_json::json!(word)));
            assert_eq!(index["why"], "it was in the way");
        }
        let stem = "20261121T074726Z";
        let expected =
            ["", &format!(".corrupt-{stem}"), &format!(".corrupt-{stem}-2"), &format!(".orphan-wal-{stem}")];
        assert_eq!(names(dir.path()), expected.map(|suffix| format!("app.db{suffix}")));
    }

    #[test]
    fn t63_what_has_come_or_changed_since_is_not_touched() {
        let (dir, db) = dir();
        let seen = Seen::of(&db).unwrap().aside("orphan-wal", String::new());
        let new = restored(&db);
        fs::write(&db, b"started by hand").unwrap();
        assert_eq!(publish(new, &db, false, Some(&seen), now()).unwrap_err().code(), 73);
        let seen = Seen::of(&db).unwrap().aside("corrupt", String::new());
        let new = restored(&db);
        fs::write(beside(&db, "-wal"), b"at work").unwrap();
        assert_eq!(publish(new, &db, false, Some(&seen), now()).unwrap_err().code(), 75);
        assert_eq!(fs::read(&db).unwrap(), b"started by hand");
        assert_eq!(names(dir.path()), ["app.db", "app.db-wal"]);
    }

    #[test]
    fn what_a_killed_restore_has_left_goes_unless_another_is_at_work() {
        let (dir, db) = dir();
        let left = dir.path().join(".app.db.holdfast-restore-0123456789abcdef");
        let other = dir.path().join(".app.db.holdfast-restore-notes");
        fs::write(&other, b"somebody's").unwrap();
        fs::write(&left, b"half").unwrap();
        let at_work = fs::File::open(&left).unwrap();
        at_work.lock().unwrap();
        assert_eq!(sweep(&db).unwrap_err().code(), 75);
        drop(at_work);
        sweep(&db).unwrap();
        assert_eq!(names(dir.path()), [".app.db.holdfast-restore-notes"]);
    }

    #[test]
    fn force_does_not_take_a_database_from_a_program_that_has_it_open() {
        let (dir, db) = dir();
        let open = rusqlite::Connection::open(&db).unwrap();
        open.execute_batch("pragma journal_mode=wal; create table t(x); begin; select * from t").unwrap();
        // Locks of one process do not conflict with each other: ask from another one.
        let me = std::env::current_exe().unwrap();
        let asked = std::process::Command::new(me)
            .args(["--exact", "run::restore::target::tests::asks_for_the_locks", "--nocapture"])
            .env("HOLDFAST_TEST_DB", &db)
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stdout));
        assert!(names(dir.path()).contains(&"app.db".to_owned()));
    }

    /// The other process of the test above; alone it checks that a free database is free.
    #[test]
    fn asks_for_the_locks() {
        match std::env::var_os("HOLDFAST_TEST_DB") {
            Some(db) => assert_eq!(refuse_in_use(Path::new(&db)).unwrap_err().code(), 75),
            None => {
                let (_dir, db) = dir();
                fs::write(&db, b"").unwrap();
                refuse_in_use(&db).unwrap();
            }
        }
    }

    #[test]
    fn the_mode_follows_the_directory_or_the_flag() {
        let (dir, db) = dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        publish(restored(&db), &db, false, None, now()).unwrap();
        assert_eq!(fs::metadata(&db).unwrap().mode() & 0o777, 0o600);
        let other = dir.path().join("other.db");
        let new = create(&other, &Ownership { mode: Some(0o640), ..Ownership::default() }).unwrap();
        publish(new, &other, false, None, now()).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o640);
    }
}
