//! How much the loop may hold and where an index ends: what the format and a small machine allow. Values, and the
//! process's own limit of descriptors.

/// Bounds of one database's loop. Nobody configures them; a test shrinks them to reach their far side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the WAL's tail that may be held in memory while the WAL restarts. More than this has to be
    /// replicated before a checkpoint.
    pub tail_bytes: u64,
    /// Where in the WAL a new index begins. A segment starts below it, and its name has eight hex digits for that
    /// (spec/litestream-v03.md §1.1).
    pub index_bytes: u64,
}

impl Default for Limits {
    /// 3 MiB of tail, and indexes that end 256 MiB below [`crate::format::layout::OFFSET_END`].
    fn default() -> Self {
        Self { tail_bytes: 3 << 20, index_bytes: crate::format::layout::OFFSET_END - (256 << 20) }
    }
}

/// Allows this process as many descriptors as it may have. A database takes up to eight of them (ours of the file,
/// its WAL and its index, and those of two connections, which share the index), and the usual limit of 1,024 is meant for
/// programs that use `select`.
pub fn allow_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "raise the limit of open files: it may be too low for many databases");
    }
}
