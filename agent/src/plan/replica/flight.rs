//! An upload on its way, and where in the WAL it ends. Values only.

use super::SEGMENT_BYTES;
use crate::format::wal::HEADER_LEN;

/// An upload on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flight {
    Idle,
    /// Bytes are being read: the pin must stay.
    Reading(Bounds),
    /// The WAL is no longer needed up to the end.
    Sending(Bounds),
    /// Its generation is given up; whatever it answers is void. The pin must stay all the same while a snapshot is
    /// being read: it may be published, and the old generation is what restores until the new one has a base.
    Orphan {
        reading: bool,
    },
}

impl Flight {
    pub(super) fn orphaned(self) -> Self {
        match self {
            Self::Idle => Self::Idle,
            Self::Reading(_) => Self::Orphan { reading: true },
            Self::Sending(_) => Self::Orphan { reading: false },
            Self::Orphan { reading } => Self::Orphan { reading },
        }
    }

    /// The bytes are read.
    pub(super) fn read(self) -> Self {
        match self {
            Self::Idle => Self::Idle,
            Self::Reading(bounds) | Self::Sending(bounds) => Self::Sending(bounds),
            Self::Orphan { .. } => Self::Orphan { reading: false },
        }
    }

    pub(super) fn is_reading(self) -> bool {
        matches!(self, Self::Reading(_) | Self::Orphan { reading: true })
    }
}

/// Where an upload ends in the WAL, and whether a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) whole: bool,
    /// Bytes in a frame.
    pub(super) frame: u64,
}

impl Bounds {
    /// Nothing of the WAL.
    pub(super) const NONE: Self = Self { from: 0, to: 0, whole: true, frame: 0 };

    /// It was cut at `to`: inside a transaction, if at all, only when no further frame fitted.
    pub(super) fn cut(self, to: u64) -> Self {
        let frames = to.saturating_sub(self.from.max(HEADER_LEN as u64));
        let whole = if to == self.to { self.whole } else { frames + self.frame <= SEGMENT_BYTES };
        Self { to, whole, ..self }
    }
}
