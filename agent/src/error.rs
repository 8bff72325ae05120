//! What a command says when it fails: what to do about it, as an exit code, and in words. Values only.

use std::fmt;

use holdfast_config::exit::Exit;

use crate::store::{self, StoreError};

/// A failure at the edge of a command: `doing: cause`, a hint, an exit code.
///
/// ```text
/// restore /data/station.db: missing generations/…/wal/00000001_00000000.wal.lz4: …
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    /// `verb object`
    pub doing: String,
    pub cause: String,
    /// The next thing to do, where there is one.
    pub hint: Option<String>,
}

/// What the caller can do about it. One row of the table of exit codes each; a kind of its own only where somebody
/// would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The command line makes no sense.
    Usage,
    /// Something local stands in the way: a stale WAL, a directory where the database should be.
    LocalData,
    /// The replica is proven empty.
    Empty,
    /// The replica cannot be reached now.
    Unavailable,
    /// Our own fault.
    Bug,
    /// The system refused a thread, a socket, memory.
    System,
    /// The target cannot be created: it exists, or the volume is full or read-only.
    CannotCreate,
    /// The final sync did not get everything out.
    Incomplete,
    /// Another process uses the database or the replica.
    Busy,
    /// The replica holds data that does not restore.
    Unrestorable,
    /// The replica refuses these credentials, or what they ask for.
    Denied,
    /// This machine permits it not: the replica has nothing to do with it.
    Forbidden,
    /// The configuration is wrong, or names a bucket that does not exist.
    Config,
    /// The replica holds what the local database lacks.
    Behind,
    /// Stopped by this signal.
    Cancelled(i32),
}

impl Kind {
    /// The row of the table of exit codes; `None` for a signal, which has its own numbers.
    pub const fn exit(self) -> Option<Exit> {
        Some(match self {
            Self::Usage => Exit::Usage,
            Self::LocalData => Exit::LocalData,
            Self::Empty => Exit::Empty,
            Self::Unavailable => Exit::Unavailable,
            Self::Bug => Exit::Bug,
            Self::System => Exit::System,
            Self::CannotCreate => Exit::CannotCreate,
            Self::Incomplete => Exit::SyncIncomplete,
            Self::Busy => Exit::Busy,
            Self::Unrestorable => Exit::Unrestorable,
            Self::Denied | Self::Forbidden => Exit::Denied,
            Self::Config => Exit::Config,
            Self::Behind => Exit::Behind,
            Self::Cancelled(_) => return None,
        })
    }

    /// The word `-json` output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::LocalData => "local-data",
            Self::Empty => "empty",
            Self::Unavailable => "unavailable",
            Self::Bug => "bug",
            Self::System => "system",
            Self::CannotCreate => "cannot-create",
            Self::Incomplete => "incomplete",
            Self::Busy => "busy",
            Self::Unrestorable => "unrestorable",
            Self::Denied => "denied",
            Self::Forbidden => "forbidden",
            Self::Config => "config",
            Self::Behind => "behind",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

impl Error {
    pub fn new(kind: Kind, doing: impl Into<String>, cause: impl ToString) -> Self {
        Self { kind, doing: doing.into(), cause: cause.to_string(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The number the shell sees: the table's, or 128 plus the signal.
    pub fn code(&self) -> u8 {
        match (self.kind.exit(), self.kind) {
            (Some(exit), _) => exit.code(),
            (None, Kind::Cancelled(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            (None, _) => Exit::Bug.code(),
        }
    }
}

/// A store's failure while reading a replica.
impl From<StoreError> for Error {
    fn from(e: StoreError) -> Self {
        let kind = match e.kind {
            store::Kind::Unavailable => Kind::Unavailable,
            store::Kind::Denied => Kind::Denied,
            store::Kind::BucketMissing | store::Kind::Invalid => Kind::Config,
            store::Kind::Full => Kind::CannotCreate,
            store::Kind::Diverged => Kind::Busy,
            store::Kind::NotFound => Kind::Unrestorable,
        };
        let text = e.to_string();
        let doing = format!("{} {}", e.verb, e.object);
        let cause = text.strip_prefix(&doing).and_then(|t| t.strip_prefix(": ")).unwrap_or(&text).to_owned();
        let error = Self::new(kind, doing, cause);
        match kind {
            // The cause says what to do, where there is something.
            _ if e.object.starts_with("sftp://") => error,
            Kind::Denied => error.hint("check the keys and what they are allowed to do (list, get)"),
            Kind::Config => error.hint("check bucket, region and endpoint in the configuration"),
            _ => error,
        }
    }
}

/// An error of the local file system while working on `doing`.
pub fn local(doing: impl Into<String>, e: &std::io::Error) -> Error {
    use nix::errno::Errno;
    let kind = match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => Kind::Forbidden,
        Some(Errno::ENOTDIR | Errno::EISDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => Kind::LocalData,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN) => Kind::System,
        // Full, over quota, read-only, not there, broken: nothing can be created here.
        _ => Kind::CannotCreate,
    };
    let text = e.to_string();
    Error::new(kind, doing, text.split(" (os error").next().unwrap_or(&text))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_was_done_to_what_and_why_and_what_to_do() {
        let e = Error::new(Kind::LocalData, "restore /data/x.db", "a stale /data/x.db-wal is in the way")
            .hint("mv it");
        assert_eq!(e.to_string(), "restore /data/x.db: a stale /data/x.db-wal is in the way (mv it)");
        assert_eq!(e.code(), 65);
        assert_eq!(Error::new(Kind::Cancelled(15), "restore", "stopped").code(), 143);
    }

    #[test]
    fn a_full_disk_and_a_forbidden_one_are_different_things() {
        let code = |errno| local("write x", &std::io::Error::from_raw_os_error(errno)).code();
        assert_eq!(code(nix::errno::Errno::ENOSPC as i32), 73);
        assert_eq!(code(nix::errno::Errno::EROFS as i32), 73);
        assert_eq!(code(nix::errno::Errno::EACCES as i32), 77);
        assert_eq!(code(nix::errno::Errno::ENOTDIR as i32), 65);
    }
}
