//! A replica in a directory. Blocking; touches that directory only.
//!
//! Objects are the files below the root; an object's time is its file's modification time. A file appears under
//! its name only when it is whole and durable (see [`crate::durable`]), and is never replaced.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::pulse::Pulse;
use super::requests::Counter;
use super::{Kind, Object, Put, StoreError};
use crate::durable::{self, Access, NewFile};

#[derive(Debug)]
pub(super) struct Dir {
    root: PathBuf,
    access: Access,
    pub(super) requests: Counter,
    pub(super) pulse: Arc<Pulse>,
    /// The root's inode, once there was one.
    home: Mutex<Option<u64>>,
}

impl Dir {
    pub(super) fn new(root: PathBuf, access: Access) -> Self {
        Self { root, access, requests: Counter::default(), pulse: Arc::default(), home: Mutex::default() }
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The root is the directory it was. One that has gone, or another in its place, is a volume that is not mounted
    /// any more: what was written there would be missing in the replica when it comes back.
    fn at_home(&self, verb: &'static str) -> Result<(), StoreError> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = |cause| {
            let cause = format!("{cause}; is its volume mounted? A restart begins anew in what is there");
            Err(StoreError::new(Kind::Unavailable, verb, self.root.display().to_string(), cause))
        };
        match (fs::metadata(&self.root), *home) {
            (Ok(found), None) if found.is_dir() => {
                *home = Some(found.ino());
                Ok(())
            }
            (Ok(found), Some(known)) if found.ino() != known => wrong("it is not the directory it was"),
            (Err(e), Some(_)) if e.kind() == ErrorKind::NotFound => wrong("the directory has gone"),
            // Not there yet; or whatever comes next says what is wrong.
            (Ok(_) | Err(_), _) => Ok(()),
        }
    }

    /// Every file below `prefix`; none where the root does not exist yet.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        self.at_home("list")?;
        let mut objects = Vec::new();
        let mut folders = vec![(self.root.join(prefix), prefix.trim_end_matches('/').to_owned(), 0)];
        while let Some((path, key, depth)) = folders.pop() {
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                // Not there yet, or pruned since its parent was read.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(StoreError::io("list", &path, &e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| StoreError::io("list", &path, &e))?;
                // A name that is not text is none of ours and of no other reader's.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let key = if key.is_empty() { name } else { format!("{key}/{name}") };
                let meta = match fs::metadata(entry.path()) {
                    Ok(meta) => meta,
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(StoreError::io("list", &entry.path(), &e)),
                };
                if meta.is_dir() {
                    if depth < DEPTH {
                        folders.push((entry.path(), key, depth + 1));
                    }
                } else if meta.is_file() {
                    let created = meta.modified().ok().and_then(|t| Timestamp::try_from(t).ok());
                    objects.push(Object { key, size: meta.len(), created: created.unwrap_or_default() });
                }
            }
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// The whole object.
    pub(super) fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = self.root.join(key);
        let failed = |e: io::Error| StoreError::io("get", &path, &e);
        let mut file = File::open(&path).map_err(failed)?;
        let mut bytes =
            Vec::with_capacity(usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes.into())
    }

    /// Fills `buf` with the object's bytes from `at` on.
    pub(super) fn read(&self, key: &str, buf: &mut [u8], at: u64) -> Result<(), StoreError> {
        let path = self.root.join(key);
        let mut read = || File::open(&path)?.read_exact_at(buf, at);
        read().map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => StoreError::new(
                Kind::Invalid,
                "get",
                path.display().to_string(),
                "shorter than it was listed",
            ),
            _ => StoreError::io("get", &path, &e),
        })
    }

    pub(super) fn put(&self, key: &str, body: &[u8]) -> Result<Put, StoreError> {
        self.put_dated(key, body, None)
    }

    pub(super) fn put_dated(
        &self,
        key: &str,
        body: &[u8],
        date: Option<Timestamp>,
    ) -> Result<Put, StoreError> {
        let mut writer = self.create(key)?;
        writer.date = date;
        writer.write(body)?;
        match writer.publish() {
            Err(e) if e.kind == Kind::Diverged && self.holds(key, body)? => Ok(Put::AlreadyThere),
            other => other,
        }
    }

    /// Starts a file that appears under `key` when it is published.
    pub(super) fn create(&self, key: &str) -> Result<Writer, StoreError> {
        self.at_home("put")?;
        let path = self.root.join(key);
        let failed = |e: io::Error| StoreError::io("put", &path, &e);
        durable::create_dir_all(durable::parent(&path), &self.access).map_err(failed)?;
        let mut temp = path.file_name().unwrap_or_default().to_owned();
        temp.push(format!(".{:08x}.tmp", durable::random() as u32));
        let file = NewFile::create(&path, temp, &self.access).map_err(failed)?;
        Ok(Writer { file, path, date: None, len: 0 })
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.root.join(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(StoreError::io("delete", &path, &e)),
        }
        // A generation that is gone should not stay as empty folders; the first folder in use ends it.
        let mut folder = durable::parent(&path);
        while folder.starts_with(&self.root) && folder != self.root && fs::remove_dir(folder).is_ok() {
            folder = durable::parent(folder);
        }
        Ok(())
    }

    /// The object exists with exactly this content, and is durable: the put being retried may have died before it
    /// could know.
    fn holds(&self, key: &str, body: &[u8]) -> Result<bool, StoreError> {
        if self.get(key)? != body {
            return Ok(false);
        }
        let path = self.root.join(key);
        let sync =
            || File::open(&path)?.sync_all().and_then(|()| File::open(durable::parent(&path))?.sync_all());
        sync().map_err(|e| StoreError::io("put", &path, &e))?;
        Ok(true)
    }
}

/// How many bytes `range` has, if that many fit in memory.
pub(super) fn length(dir: &Dir, key: &str, range: &Range<u64>) -> Result<usize, StoreError> {
    let path = dir.root.join(key);
    usize::try_from(range.end.saturating_sub(range.start))
        .map_err(|e| StoreError::new(Kind::Invalid, "get", path.display().to_string(), e))
}

/// A file being written.
pub(super) struct Writer {
    file: NewFile,
    path: PathBuf,
    /// What [`Writer::publish`] dates it, if not now.
    pub(super) date: Option<Timestamp>,
    len: u64,
}

impl Writer {
    pub(super) fn write(&mut self, part: &[u8]) -> Result<(), StoreError> {
        let file = self.file.file();
        file.write_all_at(part, self.len).map_err(|e| StoreError::io("put", &self.path, &e))?;
        if part.len() >= LARGE {
            // The disk works while the next part is made, and `publish` waits for less.
            durable::start_writing(file, self.len, part.len() as u64);
        }
        self.len += part.len() as u64;
        Ok(())
    }

    /// Dates it, makes it durable and visible.
    ///
    /// Now by default, because a restore to a point in time compares dates: an object must not look older than one that was
    /// there before it (spec/litestream-v03.md §5.1), and the last write may be long ago.
    pub(super) fn publish(self) -> Result<Put, StoreError> {
        let Self { file, path, date, .. } = self;
        let date = date.map_or(TimeSpec::UTIME_NOW, |date| {
            TimeSpec::new(date.as_second(), date.subsec_nanosecond().into())
        });
        futimens(file.file(), &TimeSpec::UTIME_NOW, &date)
            .map_err(|e| StoreError::io("put", &path, &e.into()))?;
        match file.publish() {
            Ok(()) => Ok(Put::Created),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(StoreError::new(Kind::Diverged, "put", path.display().to_string(), ""))
            }
            Err(e) => Err(StoreError::io("put", &path, &e)),
        }
    }
}

/// A part of which the disk may as well begin at once. What is smaller is all there is of its file.
const LARGE: usize = 1 << 20;
/// Folders of the layout are three deep; the bound only keeps a cycle of links from being walked for ever.
const DEPTH: usize = 8;
