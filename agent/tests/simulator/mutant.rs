//! Shells that break a rule on purpose: the checks have to catch each of them.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Reports a segment as stored when its bytes are on the way.
    AckBeforeUpload,
    /// Takes the marks from before the checkpoint for those after it.
    StaleMarks,
    /// Lets the WAL restart without holding its end.
    NoCapture,
    /// Deletes every snapshot older than the retention once there is a younger one.
    ForgetsBase,
    /// Leaves the pages a database grew by and nobody wrote out of an LTX file.
    ForgetsGrowth,
    /// Merges LTX files with the oldest image of a page on top.
    OldestWins,
    /// Calls an LTX file merged whose merge is on the way.
    MergedBeforeUpload,
}
