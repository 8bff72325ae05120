//! What a replica holds, as far as anything is still to be decided about it. Values only.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::format::ltx::{Level, Name, Txid};

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    pub name: Name,
    /// The time of the newest state in it; where only a listing is known, when it was uploaded.
    pub created: Timestamp,
    /// Stored bytes.
    pub size: u64,
}

/// The files of one replica, by level and transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<Name, File>);

impl Files {
    pub fn insert(&mut self, file: File) {
        self.0.insert(file.name, file);
    }

    pub fn remove(&mut self, name: &Name) {
        self.0.remove(name);
    }

    pub fn contains(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Level by level, each in the order of transactions.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &File> {
        self.0.values()
    }

    /// One level in the order of transactions.
    pub fn level(&self, level: Level) -> impl DoubleEndedIterator<Item = &File> {
        let bound = |txid| Name { level, min: txid, max: txid };
        self.0.range(bound(Txid::ONE)..=bound(Txid::MAX)).map(|(_, file)| file)
    }

    /// The last file at or before `name` in the order of [`Files::iter`].
    pub(super) fn up_to(&self, name: Name) -> Option<&File> {
        self.0.range(..=name).next_back().map(|(_, file)| file)
    }

    /// What of one level goes past `reached`, in the order of transactions. As in [`Files::newest`], a file that begins
    /// earlier does not reach further: whoever writes a level continues it.
    pub(super) fn past(&self, level: Level, reached: Option<Txid>) -> impl Iterator<Item = &File> {
        let name = |min| Name { level, min, max: Txid::ONE };
        let first = reached.map_or(Some(Txid::ONE), Txid::next);
        let behind = first.and_then(|first| self.up_to(name(first))).map(|f| f.name);
        let from = behind.filter(|n| n.level == level && Some(n.max) > reached);
        let from = from.or(first.map(name)).unwrap_or(Name { level, min: Txid::MAX, max: Txid::MAX });
        self.0.range(from..=Name { level, min: Txid::MAX, max: Txid::MAX }).map(|(_, file)| file)
    }

    /// The file of `level` that reaches furthest: the last one.
    pub fn newest(&self, level: Level) -> Option<&File> {
        self.level(level).next_back()
    }

    /// The highest transaction over all levels: what comes next is one more. Also where level 0 is gone, since a
    /// number that is used twice would be shadowed by the older one (spec/litestream-v05.md §11.1 #17).
    pub fn highest(&self) -> Option<Txid> {
        self.iter().map(|f| f.name.max).max()
    }
}

impl FromIterator<File> for Files {
    fn from_iter<T: IntoIterator<Item = File>>(files: T) -> Self {
        Self(files.into_iter().map(|f| (f.name, f)).collect())
    }
}
