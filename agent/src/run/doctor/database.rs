//! What stands in the way of replicating a database file: [`look`] reads its header and asks the kernel, [`judge`] decides.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use holdfast_config::exit::Exit;
use holdfast_config::volume::{Kind, Volume};
use indicatif::BinaryBytes;
use nix::unistd::{AccessFlags, access};

use super::Finding;
use crate::format::dbfile::{DbFault, DbHeader, HEADER_LEN};
use crate::source::files::beside;

/// What there is at a database's path.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    file: There,
    volume: Option<Volume>,
    /// Files beside it, as suffixes, that are not empty.
    beside: Vec<&'static str>,
    /// The first of the file and its directory that this user may not write to.
    locked: Option<PathBuf>,
}

#[derive(Debug)]
enum There {
    Nothing,
    NoFile,
    Unreadable(String),
    /// Bytes, and what the first of them are; `None` where there are none.
    File {
        len: u64,
        header: Option<Result<DbHeader, DbFault>>,
    },
}

/// Reads the header. Not for a process that replicates: closing the file drops SQLite's locks (`source/mod.rs`).
pub(super) fn look(path: &Path) -> Seen {
    let file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => There::Nothing,
        Err(e) => There::Unreadable(e.to_string().split(" (os error").next().unwrap_or_default().to_owned()),
    };
    let filled = |suffix: &&str| beside(path, suffix).metadata().is_ok_and(|m| m.len() > 0);
    let locked = [path, crate::durable::parent(path)]
        .into_iter()
        .find(|p| p.exists() && access(*p, AccessFlags::R_OK | AccessFlags::W_OK).is_err());
    Seen {
        path: path.into(),
        file,
        volume: Volume::of(path).ok(),
        beside: ["-wal", "-journal"].into_iter().filter(filled).collect(),
        locked: locked.map(Into::into),
    }
}

fn open(path: &Path) -> io::Result<There> {
    let meta = path.metadata()?;
    if !meta.is_file() {
        return Ok(There::NoFile);
    }
    let mut bytes = [0; HEADER_LEN];
    let file = File::open(path)?;
    let read = file.read_at(&mut bytes, 0)?;
    let header = (read > 0).then(|| DbHeader::parse(&bytes[..read]));
    Ok(There::File { len: meta.len(), header })
}

/// `max_wal`: how long the WAL may become.
pub(super) fn judge(seen: &Seen, max_wal: u64) -> Vec<Finding> {
    let mut findings = vec![file(seen)];
    let len = match &seen.file {
        There::File { len, header: Some(Ok(header)) } => {
            findings.extend(library(header));
            *len
        }
        _ => 0,
    };
    if let Some(locked) = &seen.locked {
        findings.push(Finding::failed(
            "access",
            Exit::Denied,
            format!("this user may not write to {}", locked.display()),
            "run this as the app's user or in its group: SQLite shares the WAL's index by writing to it",
        ));
    }
    if let Some(volume) = &seen.volume {
        findings.push(volume_kind(volume));
        findings.push(space(volume, len, max_wal));
    }
    findings
}

fn file(seen: &Seen) -> Finding {
    const CHECK: &str = "database";
    let path = seen.path.display();
    let broken = |detail: String, fix: &str| Finding::failed(CHECK, Exit::LocalData, detail, fix);
    match &seen.file {
        There::Nothing if !seen.beside.is_empty() => broken(
            format!("there is no {path}, but what another one left: {path}{}", seen.beside.join(" and ")),
            "move it aside: SQLite would replay it into whatever is restored here",
        ),
        There::Nothing => {
            Finding::ok(CHECK, "not there yet: restored if the replica has it, else the app creates it")
        }
        There::NoFile => {
            broken("it is not a file".into(), "correct `path`, or the mount that made a directory of it")
        }
        There::Unreadable(cause) => {
            Finding::failed(CHECK, Exit::Denied, cause.clone(), "let the user this runs as read it")
        }
        There::File { header: None, .. } => {
            Finding::ok(CHECK, "empty: restored if the replica has it, else the app fills it")
        }
        There::File { header: Some(Err(fault)), .. } => {
            broken(fault.to_string(), "correct `path`; or move it aside and restore")
        }
        There::File { header: Some(Ok(header)), len } if !header.wal => Finding::warning(
            CHECK,
            format!("{}, but not in WAL mode: nothing is replicated until it is", size(*len, header)),
            "let the app set PRAGMA journal_mode=WAL, which the file then keeps",
        ),
        There::File { header: Some(Ok(header)), len } => {
            Finding::ok(CHECK, format!("{}, WAL mode", size(*len, header)))
        }
    }
}

/// `12.00 MiB in pages of 4096 bytes`
fn size(len: u64, header: &DbHeader) -> String {
    format!("{} in pages of {} bytes", BinaryBytes(len), header.page_size.get())
}

fn library(header: &DbHeader) -> Option<Finding> {
    let library = header.library?;
    Some(match library.has_wal_reset_bug() {
        false => Finding::ok("sqlite", format!("last written by {library}")),
        true => Finding::warning(
            "sqlite",
            format!(
                "last written by {library}, which can lose commits when a checkpoint meets a restart of the WAL"
            ),
            "build the app with 3.51.3 or later, or with 3.50.7 or 3.44.6",
        ),
    })
}

fn volume_kind(volume: &Volume) -> Finding {
    const CHECK: &str = "volume";
    let name = &volume.name;
    let warning = |what: &str, fix: &str| Finding::warning(CHECK, format!("{name}: {what}"), fix);
    match volume.kind {
        _ if volume.read_only => Finding::failed(
            CHECK,
            Exit::CannotCreate,
            format!("{name}, mounted read-only"),
            "mount it so that it can be written to",
        ),
        Kind::Local => Finding::ok(CHECK, name.clone()),
        Kind::Network => Finding::failed(
            CHECK,
            Exit::LocalData,
            format!(
                "{name} is a network file system, where SQLite's WAL does not work and databases get damaged"
            ),
            "keep the database on a disk of this machine; the replica is what survives it",
        ),
        Kind::Foreign => warning(
            "locks and shared memory are up to the program or host behind it",
            "keep the database on a disk of this machine, unless you know that both work here",
        ),
        Kind::Layer => warning(
            "the container's own layer, which goes with it",
            "mount a volume to keep it over a restart; without one every start is a restore",
        ),
        Kind::Memory => warning(
            "memory, which goes with the machine or the container",
            "mount a volume to keep it over a restart; without one every start is a restore",
        ),
    }
}

fn space(volume: &Volume, len: u64, max_wal: u64) -> Finding {
    const CHECK: &str = "free space";
    let free = BinaryBytes(volume.free);
    match volume.free {
        free if free < FULL => Finding::failed(
            CHECK,
            Exit::CannotCreate,
            format!("{}", BinaryBytes(free)),
            "make room: the app cannot commit",
        ),
        enough if enough >= len.max(SMALL) => Finding::ok(CHECK, free.to_string()),
        _ => Finding::warning(
            CHECK,
            format!("{free}, less than the database has"),
            format!(
                "make room: a WAL may grow to {} (`max-wal-size`) while no replica can be reached, and a restore needs \
                 as much as the database",
                BinaryBytes(max_wal)
            ),
        ),
    }
}

const FULL: u64 = 1 << 20;
const SMALL: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn database(dir: &Path, mode: &str) -> PathBuf {
        let path = dir.join("app.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(a);")).unwrap();
        path
    }

    fn verdict(seen: &Seen, check: &str) -> Option<(Verdict, String)> {
        let all = judge(seen, 1 << 30);
        all.into_iter().find(|f| f.check == check).map(|f| (f.verdict, f.detail))
    }

    fn volume(name: &str, kind: Kind, free: u64) -> Option<Volume> {
        Some(Volume { name: name.into(), kind, free, read_only: false })
    }

    #[test]
    fn a_database_in_wal_mode_is_fine_and_another_waits() {
        let dir = tempfile::tempdir().unwrap();
        let seen = look(&database(dir.path(), "wal"));
        let (fine, says) = verdict(&seen, "database").unwrap();
        assert_eq!((fine, says.as_str()), (Verdict::Ok, "8.00 KiB in pages of 4096 bytes, WAL mode"));
        assert_eq!(verdict(&seen, "sqlite").unwrap().0, Verdict::Ok, "ours is repaired");
        assert_eq!(verdict(&seen, "access"), None);

        let dir = tempfile::tempdir().unwrap();
        let (waits, says) = verdict(&look(&database(dir.path(), "delete")), "database").unwrap();
        assert_eq!(waits, Verdict::Warning);
        assert!(says.ends_with("not in WAL mode: nothing is replicated until it is"), "{says}");
    }

    #[test]
    fn what_is_no_database_and_what_another_one_left_fail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let here = || verdict(&look(&path), "database").unwrap();
        assert_eq!(here().0, Verdict::Ok, "not there yet");
        std::fs::write(beside(&path, "-wal"), "x").unwrap();
        assert_eq!(here().0, Verdict::Failed(Exit::LocalData));
        std::fs::write(&path, "").unwrap();
        assert_eq!(here().0, Verdict::Ok, "empty");
        std::fs::write(&path, "<html>").unwrap();
        assert_eq!(here(), (Verdict::Failed(Exit::LocalData), "6 bytes are too few for a database".into()));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(here(), (Verdict::Failed(Exit::LocalData), "it is not a file".into()));
    }

    #[test]
    fn an_old_sqlite_a_network_and_a_full_disk_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path(), "wal");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&3_046_001_u32.to_be_bytes(), 96).unwrap();
        let mut seen = look(&path);
        let (old, says) = verdict(&seen, "sqlite").unwrap();
        assert_eq!(old, Verdict::Warning);
        assert!(says.starts_with("last written by 3.46.1, which can lose commits"), "{says}");

        for (name, kind, expected) in [
            ("ext4", Kind::Local, Verdict::Ok),
            ("nfs", Kind::Network, Verdict::Failed(Exit::LocalData)),
            ("fuse", Kind::Foreign, Verdict::Warning),
            ("overlayfs", Kind::Layer, Verdict::Warning),
            ("tmpfs", Kind::Memory, Verdict::Warning),
        ] {
            seen.volume = volume(name, kind, 1 << 30);
            assert_eq!(verdict(&seen, "volume").unwrap().0, expected, "{name}");
        }
        for (free, expected) in
            [(1 << 30, Verdict::Ok), (1 << 21, Verdict::Warning), (0, Verdict::Failed(Exit::CannotCreate))]
        {
            seen.volume = volume("ext4", Kind::Local, free);
            assert_eq!(verdict(&seen, "free space").unwrap().0, expected, "{free}");
        }
    }
}
