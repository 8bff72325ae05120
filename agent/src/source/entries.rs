//! Changes of directories as events: which names appear and vanish. Listens; reads no file.
//!
//! An inotify instance of its own, because the one of [`super::watch`] would report every write to every file of a
//! directory, and with it wake us at each commit of each database there.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// The folders that are listened to.
#[derive(Debug)]
pub struct Entries {
    inotify: Inotify,
    folders: Mutex<HashMap<WatchDescriptor, PathBuf>>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file came to, or left, this path.
    File(PathBuf),
    /// A folder did, or was itself removed.
    Folder(PathBuf),
    /// More than the kernel could remember.
    Much,
}

impl Entries {
    /// Listens to nothing yet.
    pub fn new() -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify, folders: Mutex::default() })
    }

    /// Listens to `folder` from now on. Listening to one twice is once.
    pub fn listen(&self, folder: &Path) -> nix::Result<()> {
        // Under the lock: an event of the new watch must find its folder.
        let mut folders = self.folders();
        let watch = self.inotify.add_watch(folder, mask())?;
        folders.insert(watch, folder.into());
        Ok(())
    }

    /// What happened since the last call; never waits.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                // Nothing more, or nothing to be had.
                Err(_) => return changes,
            };
            let mut folders = self.folders();
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    changes.push(Change::Much);
                    continue;
                }
                let gone =
                    AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
                let folder = if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    folders.remove(&event.wd)
                } else {
                    folders.get(&event.wd).cloned()
                };
                let Some(folder) = folder else { continue };
                changes.push(match event.name {
                    Some(name) if event.mask.contains(AddWatchFlags::IN_ISDIR) => {
                        Change::Folder(folder.join(name))
                    }
                    Some(name) => Change::File(folder.join(name)),
                    None if event.mask.intersects(gone) => Change::Folder(folder),
                    None => Change::Much,
                });
            }
        }
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Entries {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

/// Names only: what is written to the files makes no event.
fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_come_and_go_are_heard_and_writes_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let entries = Entries::new().unwrap();
        entries.listen(dir.path()).unwrap();
        entries.listen(dir.path()).unwrap();
        let (a, b, sub) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("sub"));
        assert_eq!(entries.changes(), []);
        std::fs::write(&a, "x").unwrap();
        assert_eq!(entries.changes(), [Change::File(a.clone())]);
        std::fs::write(&a, "more").unwrap();
        assert_eq!(entries.changes(), []);
        std::fs::rename(&a, &b).unwrap();
        std::fs::create_dir(&sub).unwrap();
        assert_eq!(entries.changes(), [Change::File(a), Change::File(b), Change::Folder(sub.clone())]);
        entries.listen(&sub).unwrap();
        std::fs::write(sub.join("c"), "x").unwrap();
        assert_eq!(entries.changes(), [Change::File(sub.join("c"))]);
        std::fs::remove_dir_all(&sub).unwrap();
        assert!(entries.changes().contains(&Change::Folder(sub.clone())));
        assert!(entries.listen(&sub).is_err());
    }
}
