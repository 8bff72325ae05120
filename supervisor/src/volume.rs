//! The database's directory before anything uses it: made, given to the user we are about to become, and tried.
//!
//! Touches that directory and our own names in it, never what a link leads to and never the database's bytes: an app that
//! ran here before may have put anything in their place. [`give`] runs as root, [`check`] as whoever runs the app.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use holdfast_config::exit::Exit;
use holdfast_config::volume::{Kind, Volume};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::identity::User;

/// Where our files are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Databases with a replica, the app's own first.
    pub(crate) databases: Vec<PathBuf>,
    /// Replicas that are directories.
    pub(crate) replicas: Vec<PathBuf>,
}

/// Gives `user` what it has to own: the directories, as far as it could not write to them, and the files of the databases
/// (SUP-404). What could not be given, and why; [`check`] says whether that matters.
pub(crate) fn give(places: &Places, user: &User) -> Vec<String> {
    let mut failed = Vec::new();
    for db in &places.databases {
        let (Some(dir), Some(name)) = (db.parent(), db.file_name()) else { continue };
        let give = || -> Result<(), Errno> {
            let dir = give_directory(dir, user)?;
            for (before, after) in FILES {
                let mut file = std::ffi::OsString::from(before);
                file.push(name);
                file.push(after);
                give_file(&dir, Path::new(&file), user)?;
            }
            Ok(())
        };
        if let Err(e) = give() {
            failed.push(format!("give {} to user {}: {}", dir.display(), user.uid, said(e)));
        }
    }
    for dir in &places.replicas {
        if let Err(e) = give_directory(dir, user) {
            failed.push(format!("give {} to user {}: {}", dir.display(), user.uid, said(e)));
        }
    }
    failed
}

/// What is ours beside a database called NAME: before and after NAME.
const FILES: [(&str, &str); 7] = [
    ("", ""),
    ("", "-wal"),
    ("", "-shm"),
    ("", "-journal"),
    (".", "-litestream"),
    (".", "-holdfast.lock"),
    (".", "-holdfast.probe"),
];

/// Opens `dir`, made where it was missing, and gives it away if it has to be.
fn give_directory(dir: &Path, user: &User) -> Result<OwnedFd, Errno> {
    let fd = make(dir, user)?;
    let stat = fstat(&fd)?;
    if stat.st_uid != user.uid && !may(user, &stat, 0o7) && !is_systems(dir) {
        chown(&fd, user)?;
    }
    Ok(fd)
}

/// Opens `dir`; what is missing of it is made, for `user`. Never through a link.
fn make(dir: &Path, user: &User) -> Result<OwnedFd, Errno> {
    let open = |at: &OwnedFd, name: &Path, more: ResolveFlag| {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        openat2(at, name, how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | more))
    };
    let root = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open("/");
    let mut fd = OwnedFd::from(root.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?);
    for part in dir.components() {
        let Component::Normal(name) = part else { continue };
        let name = Path::new(name);
        fd = match open(&fd, name, ResolveFlag::RESOLVE_BENEATH) {
            Err(Errno::ENOENT) => {
                match mkdirat(&fd, name, Mode::from_bits_truncate(0o750)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e),
                }
                let made = open(&fd, name, ResolveFlag::RESOLVE_BENEATH)?;
                chown(&made, user)?;
                made
            }
            opened => opened?,
        };
    }
    Ok(fd)
}

/// Gives away one file in `dir`, if it is there, a plain file or directory with no other name, and has to be given.
fn give_file(dir: &OwnedFd, name: &Path, user: &User) -> Result<(), Errno> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
    let fd = match openat2(dir, name, how) {
        Ok(fd) => fd,
        // A link, another file system: not ours.
        Err(Errno::ENOENT | Errno::ELOOP | Errno::EXDEV) => return Ok(()),
        Err(e) => return Err(e),
    };
    let stat = fstat(&fd)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    // A second name of a file may be the password file's own.
    let ours = kind == SFlag::S_IFDIR || kind == SFlag::S_IFREG && stat.st_nlink == 1;
    if ours && stat.st_uid != user.uid {
        chown(&fd, user)?;
    }
    Ok(())
}

fn chown(fd: &OwnedFd, user: &User) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    fchownat(fd.as_fd(), "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
}

/// Whether `user` has all of `rwx` by the mode of what belongs to somebody else.
fn may(user: &User, stat: &FileStat, rwx: u32) -> bool {
    let shift = if user.groups.contains(&stat.st_gid) { 3 } else { 0 };
    stat.st_mode >> shift & rwx == rwx
}

/// A directory of the system's that a database does not make ours.
fn is_systems(dir: &Path) -> bool {
    const TREES: [&str; 8] = ["/bin", "/boot", "/dev", "/etc", "/proc", "/sbin", "/sys", "/usr"];
    const DIRS: [&str; 14] = [
        "/", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var",
        "/var/lib", "/var/tmp",
    ];
    TREES.iter().any(|tree| dir.starts_with(tree)) || DIRS.iter().any(|d| dir == Path::new(d))
}

/// Whether the databases can live where they are; what is doubtful, or the exit code and why not (SUP-405, SUP-409).
pub(crate) fn check(places: &Places, allow_network: bool) -> Result<Vec<String>, (Exit, String)> {
    let mut doubts = Vec::new();
    for db in &places.databases {
        let dir = db.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("/"));
        if let Ok(volume) = Volume::of(db) {
            doubts.extend(judge(db, &volume, allow_network)?);
        }
        if db.is_dir() {
            return Err((
                Exit::Config,
                format!("open {}: it is a directory; name the database's file", db.display()),
            ));
        }
        try_to_write(dir, db).map_err(|e| refusal(dir, &e))?;
    }
    Ok(doubts)
}

fn judge(db: &Path, volume: &Volume, allow_network: bool) -> Result<Option<String>, (Exit, String)> {
    let (db, name) = (db.display(), &volume.name);
    match volume.kind {
        Kind::Network if !allow_network => Err((
            Exit::Config,
            format!(
                "use {db}: it is on {name}, a network file system, where SQLite's WAL does not work and databases get \
                 damaged; keep it on a disk of this machine, or say -allow-network-fs"
            ),
        )),
        Kind::Network => {
            Ok(Some(format!("{db} is on {name}, a network file system; databases get damaged there")))
        }
        Kind::Foreign => Ok(Some(format!(
            "{db} is on {name}: whether locks and shared memory work there is up to the program or host behind it"
        ))),
        Kind::Local | Kind::Layer | Kind::Memory => Ok(None),
    }
}

/// Makes the directory if there is none, and in it a file that is written, synced, renamed and removed.
fn try_to_write(dir: &Path, db: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    let named = |suffix: &str| {
        let mut name = std::ffi::OsString::from(".");
        name.push(db.file_name().unwrap_or_default());
        name.push(suffix);
        dir.join(name)
    };
    let (first, second) = (named("-holdfast.probe"), named("-holdfast.probed"));
    let tried = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&first)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        std::fs::rename(&first, &second)
    };
    let tried = tried();
    // At most one of them is there.
    let _ = std::fs::remove_file(&first);
    let _ = std::fs::remove_file(&second);
    tried
}

fn refusal(dir: &Path, e: &io::Error) -> (Exit, String) {
    let at = dir.display();
    let errno = Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    match errno {
        Errno::EACCES | Errno::EPERM => {
            let me = nix::unistd::geteuid();
            let owner = std::fs::metadata(dir).map_or_else(
                |_| String::new(),
                |m| format!(", which belongs to {}:{} with mode {:04o}", m.uid(), m.gid(), m.mode() & 0o7777),
            );
            let why = format!(
                "write to {at} as user {me}: permission denied{owner}; chown {me} {at}, or start the container as root, \
                 which does that and then becomes user {me}"
            );
            (Exit::Denied, why)
        }
        Errno::EROFS => (
            Exit::CannotCreate,
            format!("write to {at}: it is mounted read-only; mount it so that it can be written to"),
        ),
        Errno::ENOSPC | Errno::EDQUOT => (
            Exit::CannotCreate,
            format!("write to {at}: the volume is full; make room, the app cannot commit"),
        ),
        Errno::ENOTDIR | Errno::EEXIST => {
            (Exit::Config, format!("write to {at}: it is not a directory; correct the database's path"))
        }
        other => (Exit::CannotCreate, format!("write to {at}: {}", said(other))),
    }
}

fn said(e: Errno) -> String {
    match e {
        Errno::ELOOP => "a part of the path is a symbolic link, and root follows none".to_owned(),
        Errno::ENOSYS => "this kernel cannot open a path without following links".to_owned(),
        other => other.desc().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, kind: Kind) -> Volume {
        Volume { name: name.into(), kind, free: 1 << 30, read_only: false }
    }

    #[test]
    fn t60_a_network_is_refused_unless_allowed_and_a_doubtful_one_named() {
        let judge = |name, kind, allow| judge(Path::new("/data/x.db"), &volume(name, kind), allow);
        let (exit, why) = judge("nfs", Kind::Network, false).unwrap_err();
        assert_eq!(exit, Exit::Config);
        assert!(why.starts_with("use /data/x.db: it is on nfs, a network file system"), "{why}");
        assert!(judge("nfs", Kind::Network, true).unwrap().is_some());
        assert!(judge("fuse", Kind::Foreign, false).unwrap().is_some());
        for (name, kind) in [("ext4", Kind::Local), ("overlayfs", Kind::Layer), ("tmpfs", Kind::Memory)] {
            assert_eq!(judge(name, kind, false), Ok(None), "{name}");
        }
    }

    #[test]
    fn the_try_leaves_nothing_and_touches_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("sub/x.db");
        let places = Places { databases: vec![db.clone()], replicas: vec![] };
        check(&places, false).unwrap();
        assert!(!db.exists(), "only its directory is made");
        std::fs::write(&db, "bytes").unwrap();
        // What a probe that was killed left.
        std::fs::write(dir.path().join("sub/.x.db-holdfast.probe"), "").unwrap();
        check(&places, false).unwrap();
        assert_eq!(std::fs::read(&db).unwrap(), b"bytes");
        assert_eq!(std::fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);
    }

    #[test]
    fn t60_what_is_no_place_for_a_database_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let code =
            |db: PathBuf| check(&Places { databases: vec![db], replicas: vec![] }, false).map_err(|e| e.0);
        assert_eq!(code(dir.path().into()), Err(Exit::Config), "a directory");
        assert_eq!(code(dir.path().join("file/x.db")), Err(Exit::Config), "below a file");
        let refused = |errno| refusal(Path::new("/data"), &io::Error::from_raw_os_error(errno)).0;
        assert_eq!(refused(libc::EACCES), Exit::Denied);
        assert_eq!(refused(libc::EROFS), Exit::CannotCreate);
        assert_eq!(refused(libc::ENOSPC), Exit::CannotCreate);
    }

    #[test]
    fn a_directory_of_the_systems_is_never_ours() {
        for dir in ["/", "/etc/app", "/usr/share/x", "/tmp", "/var/lib", "/home"] {
            assert!(is_systems(Path::new(dir)), "{dir}");
        }
        for dir in ["/data", "/var/lib/app", "/home/app", "/srv/app", "/etcetera"] {
            assert!(!is_systems(Path::new(dir)), "{dir}");
        }
    }
}
