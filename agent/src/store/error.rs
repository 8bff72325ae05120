//! What a destination answered when it did not do what it was asked. Values only.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::plan::retry::Class;

/// `get s3://backups/station/generations/…/00000000.snapshot.lz4: access denied: InvalidAccessKeyId (HTTP 403)`
///
/// No text of it holds a secret: the object is named without credentials, the cause comes from the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    pub kind: Kind,
    /// What was tried: `list`, `get`, `put`, `upload`, `delete`, `open`.
    pub verb: &'static str,
    /// The place or the object, with its scheme or as a path.
    pub object: String,
    pub cause: String,
    /// The service asked to slow down ([`Kind::Unavailable`] then).
    pub throttled: Option<Throttled>,
}

/// The service gets more requests than it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    /// How long to wait, if it said so.
    pub retry_after: Option<Duration>,
}

/// What the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no such object.
    NotFound,
    /// Credentials are missing, wrong or not allowed to.
    Denied,
    /// Timeout, DNS, TLS, connection, throttling, a server's own fault: try again later.
    Unavailable,
    /// There is no such bucket, or not in this region or at this endpoint.
    BucketMissing,
    /// The object exists with other content: somebody else writes here.
    Diverged,
    /// No space or quota left.
    Full,
    /// The destination does not understand, or answers what makes no sense.
    Invalid,
}

impl StoreError {
    pub(super) fn new(
        kind: Kind,
        verb: &'static str,
        object: impl Into<String>,
        cause: impl ToString,
    ) -> Self {
        Self { kind, verb, object: object.into(), cause: cause.to_string(), throttled: None }
    }

    /// How soon to try again.
    pub fn class(&self) -> Class {
        match (self.kind, self.throttled) {
            (_, Some(Throttled { retry_after })) => Class::Throttled(retry_after),
            (Kind::Unavailable, None) => Class::Passing,
            (
                Kind::NotFound
                | Kind::Denied
                | Kind::BucketMissing
                | Kind::Diverged
                | Kind::Full
                | Kind::Invalid,
                None,
            ) => Class::Refused,
        }
    }

    /// An error of the local file system.
    pub(super) fn io(verb: &'static str, path: &std::path::Path, e: &io::Error) -> Self {
        let kind = match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Kind::NotFound,
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => Kind::Denied,
            Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => Kind::Full,
            Some(Errno::ENOTDIR | Errno::EISDIR | Errno::EINVAL | Errno::ENAMETOOLONG | Errno::ELOOP) => {
                Kind::Invalid
            }
            _ => Kind::Unavailable,
        };
        // `No such file or directory (os error 2)`: the number helps nobody.
        let text = e.to_string();
        let cause = text.split(" (os error").next().unwrap_or(&text);
        Self::new(kind, verb, path.display().to_string(), cause)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, verb, object, cause, throttled: _ } = self;
        let so = match kind {
            Kind::NotFound => "not found",
            Kind::Denied => "access denied",
            Kind::Unavailable => "unavailable",
            Kind::BucketMissing => "no such bucket",
            Kind::Diverged => "exists with other content",
            Kind::Full => "no space left",
            Kind::Invalid => "invalid",
        };
        write!(f, "{verb} {object}: {so}")?;
        if cause.is_empty() { Ok(()) } else { write!(f, ": {cause}") }
    }
}

impl std::error::Error for StoreError {}
