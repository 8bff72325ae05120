//! Files that appear whole or not at all, and never over another. Touches the local file system only.
//!
//! ```text
//! create ─▶ write ─▶ publish: fsync file ─▶ link without replacing ─▶ fsync directory ─▶ only now tell anyone
//!              └─▶ dropped: nothing is left behind
//! ```
//! Where the file system has `O_TMPFILE`, the file has no name until it is published, so that not even SIGKILL
//! leaves one. Elsewhere (NFS, some FUSE) it carries a `.tmp` name that is removed on drop.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, renameat2};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, unlinkat};

/// Who owns what is created, and who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits of files, before the process's umask.
    pub file_mode: u32,
    /// Permission bits of directories, before the process's umask.
    pub dir_mode: u32,
    /// User and group, where the process may give files away; `None` leaves them with the process.
    pub owner: Option<(u32, u32)>,
}

/// Only for the process's own user.
impl Default for Access {
    fn default() -> Self {
        Self { file_mode: 0o600, dir_mode: 0o700, owner: None }
    }
}

/// A file that does not exist yet under its final name.
pub struct NewFile {
    file: File,
    dir: File,
    target: PathBuf,
    /// The temporary name, where the file system cannot do without.
    temp: Option<OsString>,
}

impl NewFile {
    /// Opens a file that [`NewFile::publish`] will call `target`. The directory must exist. `temp` is its name until
    /// then, beside the target, where the file system cannot do without one.
    pub fn create(target: &Path, temp: OsString, access: &Access) -> io::Result<Self> {
        let parent = parent(target);
        let dir = File::open(parent)?;
        let mut options = File::options();
        options.read(true).write(true).mode(access.file_mode);
        let (file, temp) = match unnamed(options.clone(), parent)? {
            Some(file) => (file, None),
            None => (options.create_new(true).open(parent.join(&temp))?, Some(temp)),
        };
        give(&file, access);
        Ok(Self { file, dir, target: target.to_owned(), temp })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the file durable and visible. `AlreadyExists` if the name is taken: nothing is ever replaced.
    pub fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.link()?;
        self.temp = None;
        self.dir.sync_all()
    }

    fn link(&self) -> io::Result<()> {
        let Some(temp) = &self.temp else {
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(AT_FDCWD, open.as_str(), AT_FDCWD, &self.target, AtFlags::AT_SYMLINK_FOLLOW)?;
            return Ok(());
        };
        let dir = self.dir.as_fd();
        match renameat2(dir, temp.as_os_str(), AT_FDCWD, &self.target, RenameFlags::RENAME_NOREPLACE) {
            // The file system cannot refuse to replace (NFS): a hard link can.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                linkat(dir, temp.as_os_str(), AT_FDCWD, &self.target, AtFlags::empty())?;
                unlinkat(dir, temp.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            // Nothing to be done about a failure: the directory itself may be gone.
            let _ = unlinkat(self.dir.as_fd(), temp.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Creates `dir` and what is missing above it, each one durable in its parent before the next.
pub fn create_dir_all(dir: &Path, access: &Access) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    create_dir_all(parent(dir), access)?;
    match std::fs::DirBuilder::new().mode(access.dir_mode).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => {
            give(&File::open(dir)?, access);
            File::open(parent(dir))?.sync_all()
        }
    }
}

/// Asks the kernel to start writing these bytes of the page cache to the disk, without waiting. Only a hint: what is
/// durable is what `fsync` says.
pub fn start_writing(file: &File, at: u64, len: u64) {
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else { return };
    // SAFETY: the call takes no pointers, and the descriptor is open as long as `file` is borrowed.
    unsafe { nix::libc::sync_file_range(file.as_raw_fd(), at, len, nix::libc::SYNC_FILE_RANGE_WRITE) };
}

/// A file in `dir` that nobody else sees and that is gone when it is closed, however the process ends.
pub fn scratch(dir: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    match unnamed(options.clone(), dir)? {
        Some(file) => Ok(file),
        None => {
            let path = dir.join(format!(".holdfast-scratch-{:016x}", random()));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

/// The directory `path` lies in: `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// 64 bits nobody can guess, for names; from the system's randomness that seeds every hash map.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// A file without a name, or `None` where there is no such thing. It gets its name through `/proc`.
fn unnamed(mut options: std::fs::OpenOptions, dir: &Path) -> io::Result<Option<File>> {
    if !Path::new("/proc/self/fd").is_dir() {
        return Ok(None);
    }
    match options.custom_flags(OFlag::O_TMPFILE.bits()).open(dir) {
        Ok(file) => Ok(Some(file)),
        Err(e) => match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => Ok(None),
            _ => Err(e),
        },
    }
}

/// As far as the process may: a user without the right to give files away keeps them, like Litestream does.
fn give(file: &File, access: &Access) {
    if let Some((uid, gid)) = access.owner {
        let _ = fchown(file.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Both ways of creating, whatever the file system of the test can do.
    fn create(target: &Path, named: bool) -> NewFile {
        if !named {
            return NewFile::create(target, "f.tmp".into(), &Access::default()).unwrap();
        }
        let temp = OsString::from("f.tmp");
        let file = File::options().write(true).create_new(true).open(parent(target).join(&temp)).unwrap();
        NewFile {
            file,
            dir: File::open(parent(target)).unwrap(),
            target: target.to_owned(),
            temp: Some(temp),
        }
    }

    #[test]
    fn a_published_file_is_whole_and_alone() {
        for named in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("f");
            let new = create(&target, named);
            new.file().write_all(b"content").unwrap();
            assert!(!target.exists());
            new.publish().unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"content");
            assert_eq!(names(dir.path()), ["f"]);
        }
    }

    #[test]
    fn an_existing_file_is_not_replaced_and_nothing_is_left_behind() {
        for named in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("f");
            std::fs::write(&target, b"old").unwrap();
            let new = create(&target, named);
            new.file().write_all(b"new").unwrap();
            assert_eq!(new.publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
            assert_eq!(names(dir.path()), ["f"]);
        }
    }

    #[test]
    fn a_dropped_file_leaves_nothing_behind() {
        for named in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            drop(create(&dir.path().join("f"), named));
            assert!(names(dir.path()).is_empty());
        }
    }

    #[test]
    fn missing_directories_are_created_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&deep, &Access { dir_mode: 0o700, ..Access::default() }).unwrap();
        create_dir_all(&deep, &Access::default()).unwrap();
        assert_eq!(deep.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(parent(Path::new("bare")), Path::new("."));
    }
}
