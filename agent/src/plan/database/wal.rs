//! The WAL as the machine of a database knows it. Values only.

use std::time::Duration;

use super::{Pin, View};
use crate::plan::follower::Follower;

/// The live incarnation.
#[derive(Debug, Clone, Copy)]
pub(in crate::plan) struct Wal {
    pub(in crate::plan) incarnation: u64,
    pub(in crate::plan) view: View,
    /// Its end when the database file was last seen to have got more of it: no checkpoint so far knew of a frame past
    /// this.
    pub(super) sifted: u64,
    /// Set while the pin lets the WAL restart.
    pub(super) handed: Option<Handed>,
    /// When its first frame was seen.
    pub(super) since: Duration,
    /// When its last frame was first seen.
    pub(super) moved: Duration,
}

/// What the last hand-over left behind. All frames are in the database file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    pub(super) frames: u32,
    /// Where the held bytes begin; `None` when nobody needed any.
    pub(super) from: Option<u64>,
}

impl Handed {
    /// Can this replica go on when the WAL restarts now?
    pub(super) fn serves(&self, replica: &Follower, wal: &Wal) -> bool {
        match replica.cursor() {
            None => true,
            Some(c) if c.incarnation != wal.incarnation => self.from == Some(0),
            Some(c) => c.offset >= wal.end() || self.from.is_some_and(|from| c.offset >= from),
        }
    }
}

impl Wal {
    pub(in crate::plan) fn end(&self) -> u64 {
        match self.view.marks.frames {
            0 => 0,
            n => self.view.page_size.offset_of(n.into()),
        }
    }

    /// The database file holds all of it, and the next writer may restart it.
    pub(in crate::plan) fn handed(&self) -> bool {
        self.handed.is_some()
    }

    pub(in crate::plan) fn sifted(&self) -> u64 {
        self.sifted
    }

    /// How much of the WAL the database file holds for certain.
    pub(in crate::plan) fn backfilled(&self) -> u64 {
        self.view.page_size.offset_of(self.view.marks.backfilled.into())
    }

    /// How much of the WAL the database file may hold while the pin stays.
    pub(in crate::plan) fn floor(&self) -> u64 {
        let frames = match self.view.pin {
            Pin::Zero => self.view.marks.backfilled,
            Pin::Mark(m) => m.max(self.view.marks.backfilled),
        };
        if frames == 0 { 0 } else { self.view.page_size.offset_of(frames.into()) }
    }
}
