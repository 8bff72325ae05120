//! What really happened, for the checks: every committed state, and which frames of which WAL hold it.

use std::collections::HashMap;

use holdfast::format::wal::Salt;

use super::sqlite::Image;

/// Number of a committed state.
pub(crate) type Seq = u32;

#[derive(Debug)]
pub(crate) struct History {
    states: Vec<Image>,
    /// The newest state; after a loss of power not the last one.
    head: Seq,
    known: HashMap<Image, Seq>,
    /// For each incarnation the state it began with, and after how many frames which state was reached.
    wals: HashMap<Salt, (Seq, Vec<(u32, Seq)>)>,
    versions: u32,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { states: Vec::new(), head: 0, known: HashMap::new(), wals: HashMap::new(), versions: 0 }
    }

    /// A version no page has had yet.
    pub(crate) fn version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    /// Pages of the largest state there ever was.
    pub(crate) fn largest(&self) -> u64 {
        self.states.iter().map(|image| image.len() as u64).max().unwrap_or(0)
    }

    /// The newest state.
    pub(crate) fn now(&self) -> &Image {
        self.state(self.head)
    }

    pub(crate) fn seq(&self) -> Seq {
        self.head
    }

    /// A state that no WAL leads to: a new database.
    pub(crate) fn begin(&mut self, image: Image) {
        self.states.push(image.clone());
        self.head = self.states.len() as Seq;
        self.known.insert(image, self.head);
    }

    /// A commit that ends with frame number `frames` of the WAL `salt`.
    pub(crate) fn commit(&mut self, salt: Salt, frames: u32, image: Image) {
        let before = self.seq();
        self.begin(image);
        let seq = self.seq();
        self.wals.entry(salt).or_insert((before, Vec::new())).1.push((frames, seq));
    }

    /// Everything after frame number `frames` of the live WAL is undone. Says which state is the newest now.
    pub(crate) fn undo(&mut self, salt: Salt, frames: u32) -> Seq {
        let seq = self.at(salt, frames);
        if let Some((_, commits)) = self.wals.get_mut(&salt) {
            commits.retain(|(n, _)| *n <= frames);
        }
        self.head = seq;
        seq
    }

    /// Ends of transactions in the WAL `salt`.
    pub(crate) fn commits(&self, salt: Salt) -> Vec<u32> {
        self.wals.get(&salt).map_or(Vec::new(), |(_, c)| c.iter().map(|(n, _)| *n).collect())
    }

    /// The state after `frames` frames of the WAL `salt`.
    pub(crate) fn at(&self, salt: Salt, frames: u32) -> Seq {
        match self.wals.get(&salt) {
            None => self.seq(),
            Some((start, commits)) => {
                commits.iter().rev().find(|(n, _)| *n <= frames).map_or(*start, |(_, seq)| *seq)
            }
        }
    }

    /// The state with which the WAL `salt` began, beside this database file. As long as nothing is committed to a WAL,
    /// the file is that state; it need not be the newest, for another file may be in its place.
    pub(crate) fn began(&self, salt: Salt, file: &Image) -> Seq {
        match self.wals.get(&salt) {
            Some((start, _)) => *start,
            None => self.find(file).expect("a WAL begins with a committed state"),
        }
    }

    /// Which committed state this is.
    pub(crate) fn find(&self, image: &Image) -> Option<Seq> {
        self.known.get(image).copied()
    }

    pub(crate) fn state(&self, seq: Seq) -> &Image {
        &self.states[seq as usize - 1]
    }
}
