//! What the replica holds. The only room that touches destinations and credentials. No database, no clock.
//!
//! A [`Store`] is one replica: a directory or a prefix of a bucket. Keys are relative to its root, objects are
//! immutable: a put creates and never replaces, whatever the destination. Every request has a time limit; a request
//! that failed is reported, and whoever asked decides when to try again.

mod abs;
mod answer;
mod create;
mod error;
mod file;
mod gcs;
mod http;
mod known;
mod listing;
mod persist;
mod probe;
mod profile;
mod pulse;
mod remote;
mod requests;
mod resumable;
mod s3;
mod sftp;
mod upload;
mod whole;
mod words;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_config::{Destination, Replica};
use jiff::Timestamp;

pub use create::ConditionalCreate;
pub use error::{Kind, StoreError, Throttled};
pub use probe::{Deleted, Listed, Probe, RangedReads, Remark};
pub use pulse::Unanswered;
pub use requests::{Ledger, Requests, Tally, Verb};
pub use upload::Upload;

use crate::durable::Access;
use crate::format::ltx::Layout;

/// One replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    File(Arc<file::Dir>),
    Remote(Arc<remote::Remote>),
    Sftp(Arc<sftp::Sftp>),
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Relative to the replica's root.
    pub key: String,
    /// Stored bytes.
    pub size: u64,
    /// The destination's own date of it: nanoseconds in a directory, milliseconds or seconds in a bucket, seconds by SFTP.
    pub created: Timestamp,
}

/// How a create-only put succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    /// An earlier attempt whose answer was lost had created it, with the same content.
    AlreadyThere,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Modes and owner of what a directory replica creates.
    pub access: Access,
    /// To establish a connection.
    pub connect_timeout: Duration,
    /// To wait for the next bytes of an answer. What is large has more time to be sent, at 64 KiB a second.
    pub read_timeout: Duration,
    /// For one request from start to end.
    pub request_timeout: Duration,
    /// How long an upload in parts goes on while none of them gets through. Past it the upload begins anew: the snapshot
    /// it carries grows old, and holds the WAL.
    pub patience: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            access: Access::default(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(300),
            patience: Duration::from_secs(60),
        }
    }
}

impl OpenOptions {
    /// As Litestream creates a directory replica: files with the mode and owner of the database, directories with
    /// those of the directory it is in (spec/litestream-v03.md §1.5). Without a database: only for ourselves.
    pub fn for_database(db: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let mut options = Self::default();
        if let (Ok(file), Ok(dir)) = (db.metadata(), crate::durable::parent(db).metadata()) {
            options.access = Access {
                file_mode: file.mode() & 0o777,
                dir_mode: dir.mode() & 0o777,
                owner: Some((file.uid(), file.gid())),
            };
        }
        options
    }

    /// These, with the patience `replica` is configured for.
    #[must_use]
    pub fn of(&self, replica: &Replica) -> Self {
        Self { read_timeout: replica.timeout, ..self.clone() }
    }
}

impl Store {
    /// Opens a replica. Asks nothing of it yet: whether it is there shows with the first request.
    pub fn open(destination: &Destination, options: &OpenOptions) -> Result<Self, StoreError> {
        match destination {
            Destination::File { path } => Ok(Self::in_directory(path, options)),
            Destination::S3(s3) => s3::open(s3, options).map(Self::in_bucket),
            Destination::Gcs(gcs) => gcs::open(gcs, options).map(Self::in_bucket),
            Destination::Abs(abs) => abs::open(abs, options).map(Self::in_bucket),
            Destination::Sftp(sftp) => {
                Ok(Self { backend: Backend::Sftp(Arc::new(sftp::Sftp::new(sftp, options))) })
            }
        }
    }

    /// The folder of this name in it, as a replica of its own over the same connections. A directory keeps its modes.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        match &self.backend {
            Backend::File(dir) => {
                let dir = file::Dir::new(dir.root().join(name), dir.access());
                Self { backend: Backend::File(Arc::new(dir)) }
            }
            Backend::Remote(remote) => Self::in_bucket(remote.folder(name)),
            Backend::Sftp(sftp) => Self { backend: Backend::Sftp(Arc::new(sftp.folder(name))) },
        }
    }

    fn in_bucket(remote: remote::Remote) -> Self {
        Self { backend: Backend::Remote(Arc::new(remote)) }
    }

    /// A replica in a directory, which need not exist yet.
    pub fn in_directory(root: impl Into<PathBuf>, options: &OpenOptions) -> Self {
        Self { backend: Backend::File(Arc::new(file::Dir::new(root.into(), options.access))) }
    }

    /// A replica that lasts as long as the value and its clones. For tests.
    pub fn in_memory() -> Self {
        Self::in_bucket(remote::Remote::in_memory())
    }

    /// Every object whose key lies below `prefix` (a folder, `""` for all), all pages, in the order of keys.
    ///
    /// A directory that does not exist lists as empty; a bucket that does not is an error.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        match &self.backend {
            Backend::File(dir) => {
                let prefix = prefix.to_owned();
                blocking(dir, Verb::List, move |dir| dir.list(&prefix)).await
            }
            Backend::Remote(remote) => remote.list(prefix).await,
            Backend::Sftp(sftp) => sftp.list(prefix).await,
        }
    }

    /// Creates `key` with `body`. If it exists with the same content, an earlier attempt has done so; with other
    /// content it is [`Kind::Diverged`].
    pub async fn put(&self, key: &str, body: Bytes) -> Result<Put, StoreError> {
        match &self.backend {
            Backend::File(dir) => {
                let key = key.to_owned();
                blocking(dir, Verb::Put, move |dir| dir.put(&key, &body)).await
            }
            Backend::Remote(remote) => remote.put(key, body).await,
            Backend::Sftp(sftp) => sftp.put_dated(key, body, None).await,
        }
    }

    /// As [`Store::put`], of an object whose own date `date` is, where readers of LTX files look for it: the date of
    /// the file in a directory, metadata in a bucket (spec/litestream-v05.md §2.1).
    pub async fn put_dated(&self, key: &str, body: Bytes, date: Timestamp) -> Result<Put, StoreError> {
        match &self.backend {
            Backend::File(dir) => {
                let key = key.to_owned();
                blocking(dir, Verb::Put, move |dir| dir.put_dated(&key, &body, Some(date))).await
            }
            Backend::Remote(remote) => remote.put_dated(key, body, Some(date)).await,
            Backend::Sftp(sftp) => sftp.put_dated(key, body, Some(date)).await,
        }
    }

    /// Starts to create `key` from a stream. Nothing is visible before [`Upload::publish`].
    pub async fn upload(&self, key: &str) -> Result<Upload, StoreError> {
        self.upload_at_most(key, 0).await
    }

    /// As [`Store::upload_at_most`], dated as by [`Store::put_dated`].
    pub async fn upload_dated(&self, key: &str, bytes: u64, date: Timestamp) -> Result<Upload, StoreError> {
        Ok(self.upload_at_most(key, bytes).await?.dated(date))
    }

    /// As [`Store::upload`], for a stream that may be as long as `bytes`: S3 takes no more than 10,000 parts, so the
    /// size of a part (8 MiB below 80 GB) has to be chosen at the start.
    pub async fn upload_at_most(&self, key: &str, bytes: u64) -> Result<Upload, StoreError> {
        match &self.backend {
            Backend::File(dir) => {
                let key = key.to_owned();
                blocking(dir, Verb::Put, move |dir| dir.create(&key)).await.map(Upload::to_file)
            }
            Backend::Remote(remote) => Ok(Upload::to_remote(remote.clone(), key, bytes)),
            Backend::Sftp(sftp) => sftp.create("upload", key).await.map(Upload::to_server),
        }
    }

    /// The bytes of `key`, or of a range of it, which must lie inside the object.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        match (&self.backend, range) {
            (Backend::File(dir), None) => {
                let key = key.to_owned();
                blocking(dir, Verb::Get, move |dir| dir.get(&key)).await
            }
            (Backend::File(dir), Some(range)) => {
                // Allocated here, not where it is filled: an allocator keeps what it got back for the thread that
                // asked for it, and the reading threads are many.
                let mut buf = vec![0; file::length(dir, key, &range)?];
                let key = key.to_owned();
                blocking(dir, Verb::Get, move |dir| {
                    dir.read(&key, &mut buf, range.start).map(|()| buf.into())
                })
                .await
            }
            (Backend::Remote(remote), range) => remote.get(key, range).await,
            (Backend::Sftp(sftp), range) => sftp.get(key, range).await,
        }
    }

    /// The date the writer of an LTX object gave it: in a directory, also by SFTP, that of the file, which the listing
    /// shows; in a bucket its metadata, which takes a request (spec/litestream-v05.md §2.1). Without either, that of the
    /// listing.
    pub async fn date(&self, object: &Object) -> Result<Timestamp, StoreError> {
        match &self.backend {
            Backend::File(_) | Backend::Sftp(_) => Ok(object.created),
            Backend::Remote(remote) => Ok(remote.date(&object.key).await?.unwrap_or(object.created)),
        }
    }

    /// Deletes each of `keys`, in order as far as the service does: in bulk, or a few at a time. One that does not exist counts as deleted.
    pub async fn delete(&self, keys: &[String]) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        match &self.backend {
            Backend::File(dir) => {
                let keys = keys.to_vec();
                blocking(dir, Verb::Delete, move |dir| {
                    Ok(keys
                        .into_iter()
                        .map(|key| {
                            let done = dir.delete(&key);
                            (key, done)
                        })
                        .collect())
                })
                .await
            }
            Backend::Remote(remote) => remote.delete(keys).await,
            Backend::Sftp(sftp) => sftp.delete(keys).await,
        }
    }

    /// Finds out whether the destination creates only what is absent, and from then on does without it where it does not
    /// (see `create.rs`). Costs one small put, two at the first start; once answered, nothing. A directory always does;
    /// an SFTP server says so when it is connected to.
    pub async fn learn(&self) -> Result<ConditionalCreate, StoreError> {
        match &self.backend {
            Backend::File(_) => Ok(ConditionalCreate::Honoured),
            Backend::Remote(remote) => remote.learn().await,
            Backend::Sftp(sftp) => sftp.learn().await,
        }
    }

    /// The requests sent since it was opened, by this value and its clones.
    pub fn requests(&self) -> Requests {
        self.counter().read()
    }

    /// Counts its requests in `ledger`, too, from now on.
    pub fn enter(&self, ledger: &Ledger) {
        self.counter().enter(ledger);
    }

    fn counter(&self) -> &requests::Counter {
        match &self.backend {
            Backend::File(dir) => &dir.requests,
            Backend::Remote(remote) => &remote.known.requests,
            Backend::Sftp(sftp) => &sftp.requests,
        }
    }

    /// The request that has been out for longest, if one is.
    pub fn unanswered(&self) -> Option<Unanswered> {
        match &self.backend {
            Backend::File(_) | Backend::Remote(_) => self.pulse().unanswered(),
            Backend::Sftp(sftp) => sftp.unanswered(),
        }
    }

    /// Why the last request got no answer, if nothing was answered since.
    pub fn trouble(&self) -> Option<StoreError> {
        self.pulse().trouble()
    }

    fn pulse(&self) -> &Arc<pulse::Pulse> {
        match &self.backend {
            Backend::File(dir) => &dir.pulse,
            Backend::Remote(remote) => &remote.pulse,
            Backend::Sftp(sftp) => &sftp.pulse,
        }
    }

    /// How LTX files are named here (spec/litestream-v05.md §0 fact 4).
    pub fn ltx_layout(&self) -> Layout {
        match &self.backend {
            Backend::File(_) | Backend::Sftp(_) => Layout::Folders,
            Backend::Remote(remote) => remote.service.layout(),
        }
    }

    /// Requests cost next to nothing, as in a directory; to a bucket each one is a round trip.
    pub fn is_local(&self) -> bool {
        matches!(self.backend, Backend::File(_))
    }

    /// A service of many machines: what was just allowed or made is not known to each of them yet.
    pub fn is_cloud(&self) -> bool {
        matches!(self.backend, Backend::Remote(_))
    }
}

/// `/var/backups/station`, `s3://bucket/prefix`, `gs://bucket/prefix`, `abs://account@container/prefix` or
/// `sftp://user@host/path`; never with credentials.
impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.backend {
            Backend::File(dir) => dir.root().display().fmt(f),
            Backend::Remote(remote) => remote.fmt(f),
            Backend::Sftp(sftp) => sftp.fmt(f),
        }
    }
}

/// Runs a blocking call where it holds up nobody else.
async fn blocking<T: Send + 'static>(
    dir: &Arc<file::Dir>,
    verb: Verb,
    call: impl FnOnce(&file::Dir) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let counted = dir.clone();
    let dir = dir.clone();
    let place = dir.root().display().to_string();
    let asked = dir.pulse.begin(verb.name(), &place);
    match tokio::task::spawn_blocking(move || call(&dir)).await {
        Ok(result) => {
            counted.requests.count_done(verb, &result);
            asked.done(&result);
            result
        }
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::new(Kind::Unavailable, "open", place, "shutting down")),
        },
    }
}

#[cfg(test)]
mod tests;
