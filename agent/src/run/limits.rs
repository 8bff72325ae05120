//! How much the loop may hold and where an index ends: what the format and a small machine allow. Values only.

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
