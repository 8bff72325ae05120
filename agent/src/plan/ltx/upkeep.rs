//! What keeps a replica in shape beside new uploads: merges, deletions, snapshots. Decisions only.
//!
//! It knows the files from one listing and from what its own actions did since. What it hands out once it hands out
//! again until it hears that it is done, so that whoever performs it may fail and pause.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Policy;
use super::compact::{self, Compaction, division_ends};
use super::files::{File, Files};
use super::retain;
use crate::format::ltx::{Level, Name, Txid};

/// Something to do that needs nothing but the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// Merge, verify the output against the inputs, report [`Upkeep::put`].
    Compact(Compaction),
    /// Delete in this order, report [`Upkeep::deleted`].
    Delete(Vec<Name>),
}

/// The upkeep of one replica.
#[derive(Debug, Clone)]
pub struct Upkeep {
    policy: Policy,
    files: Files,
    /// Before this nothing is deleted again.
    pause_until: Timestamp,
    /// No snapshot there is goes with what comes now.
    outdated: bool,
}

impl Upkeep {
    /// Of a replica that was listed.
    pub fn new(policy: Policy, files: Files) -> Self {
        let mut this = Self { policy, files, pause_until: Timestamp::MIN, outdated: false };
        this.forget();
        this
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// A file is on the replica.
    pub fn put(&mut self, file: File) {
        let upload = file.name.level == Level::ZERO;
        self.outdated &= file.name.level != Level::SNAPSHOT;
        self.files.insert(file);
        if !upload {
            self.forget();
        }
    }

    /// What there is up to `last` is somebody else's.
    pub fn hold(&mut self, last: Option<Txid>) {
        self.policy.hold = last;
    }

    /// The database has another page size now: Litestream restores nothing across that, so the next full copy is due.
    pub fn outdate_snapshots(&mut self) {
        self.outdated = true;
    }

    /// These are not any more.
    pub fn deleted(&mut self, names: &[Name]) {
        names.iter().for_each(|n| self.files.remove(n));
    }

    /// What is due; merges first, since what they hold may go then.
    pub fn next(&mut self, now: Timestamp) -> Option<Chore> {
        if let Some(compaction) = compact::next(&self.files, &self.policy, now) {
            return Some(Chore::Compact(compaction));
        }
        // Asked at every commit: what looks at every file waits until there is something to find.
        if now < self.pause_until || retain::due_at(&self.files, &self.policy).is_none_or(|due| due > now) {
            return None;
        }
        let names = retain::expired(&self.files, &self.policy, now);
        if names.is_empty() {
            return None;
        }
        self.pause_until = now.checked_add(self.policy.check_interval).unwrap_or(Timestamp::MAX);
        Some(Chore::Delete(names))
    }

    /// Is it time for a full copy of the state `head`?
    pub fn wants_snapshot(&self, now: Timestamp, head: Txid) -> bool {
        self.snapshot_due_at(head).is_some_and(|at| at <= now)
    }

    /// When something is due if nothing changes; a time that has passed means now. `None`: never.
    pub fn due_at(&self, head: Txid) -> Option<Timestamp> {
        self.due(head).into_iter().flatten().min()
    }

    /// As [`Upkeep::due_at`], of each by itself: the next merge, the next deletion, the next full copy.
    pub fn due(&self, head: Txid) -> [Option<Timestamp>; 3] {
        let delete = retain::due_at(&self.files, &self.policy).map(|at| at.max(self.pause_until));
        [compact::due_at(&self.files, &self.policy), delete, self.snapshot_due_at(head)]
    }

    fn snapshot_due_at(&self, head: Txid) -> Option<Timestamp> {
        match self.files.newest(Level::SNAPSHOT) {
            None => Some(Timestamp::MIN),
            Some(_) if self.outdated => Some(Timestamp::MIN),
            Some(newest) if newest.name.max >= head || self.policy.snapshot_interval.is_zero() => None,
            Some(newest) => Some(division_ends(newest.created, self.policy.snapshot_interval)),
        }
    }

    /// Where nothing is ever deleted, what is merged is of no interest any more, and would only fill the memory.
    fn forget(&mut self) {
        if self.policy.deletes {
            return;
        }
        let levels = || Level::all().filter(|l| usize::from(l.get()) <= self.policy.levels.len());
        let mut over = BTreeSet::new();
        for (level, above) in levels().zip(levels().skip(1)) {
            let Some(reached) = self.files.newest(above).map(|f| f.name.max) else { continue };
            let newest = self.files.newest(level).map(|f| f.name);
            let merged = self.files.level(level).map(|f| f.name).filter(|n| n.max <= reached);
            over.extend(merged.filter(|n| Some(*n) != newest));
        }
        let snapshot = self.files.newest(Level::SNAPSHOT).map(|f| f.name);
        over.extend(self.files.level(Level::SNAPSHOT).map(|f| f.name).filter(|n| Some(*n) != snapshot));
        over.iter().for_each(|n| self.files.remove(n));
    }
}
