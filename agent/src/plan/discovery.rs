//! Which of the databases found in directories to replicate. Decisions only: what a scan found in, orders out.
//!
//! ```text
//!            a database at a path               its path leads nowhere, or elsewhere
//!  (unknown) ────────────────────▶ Followed ────────────────────────────────────────▶ Leaving ──▶ (unknown)
//!                                                                                    its loop ended
//! ```
//! A loop that is leaving replicates what is left of its database. Until it has ended nobody else begins with that
//! path, whose replica it still writes to, nor with that file under another name: closing one descriptor of a file
//! drops all locks this process has on it.
//!
//! *Time* is a [`Duration`] since the agent started.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which file it is, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
}

/// What stands at a path that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It has SQLite's header, or is being replicated.
    Database,
    /// Shorter than a header: a database that is about to be.
    Empty,
    /// Something else, or encrypted.
    Foreign,
    /// Its name is not UTF-8 and cannot be that of a replica.
    Unnameable,
}

/// What a scan found.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    pub found: BTreeMap<PathBuf, (FileId, What)>,
    /// Folders that could not be read: nothing is known about what is below them.
    pub unread: BTreeSet<PathBuf>,
    /// Not every folder is listened to, so something may change without a sound.
    pub deaf: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Replicate this one.
    Follow(PathBuf),
    /// Its file has left its path: replicate what there still is of it, then end.
    Leave(PathBuf),
    /// Somebody waits for the one that is leaving: end within the time a stop has.
    Hurry(PathBuf),
    /// Tell the user, once.
    Tell(PathBuf, Notice),
}

/// What a user should know about a file that is not replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    NotADatabase,
    Unnameable,
    /// It is another name of this database.
    SameFile(PathBuf),
}

/// The machine of all directories that are watched.
#[derive(Debug, Default)]
pub struct Discovery {
    held: BTreeMap<PathBuf, Held>,
    empty: HashSet<PathBuf>,
    told: HashMap<PathBuf, Notice>,
    /// When the next scan is due; `None` while one runs.
    due: Option<Duration>,
    /// Something changed while a scan ran.
    heard: bool,
    pause: Duration,
    ended: Duration,
}

/// A database somebody replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Followed(FileId),
    Leaving { file: FileId, hurried: bool },
}

impl Held {
    const fn file(self) -> FileId {
        match self {
            Self::Followed(file) | Self::Leaving { file, .. } => file,
        }
    }
}

impl Discovery {
    /// A machine whose first scan is due now.
    pub fn new() -> Self {
        Self { due: Some(Duration::ZERO), ..Self::default() }
    }

    /// When the next scan is due; `None` while one runs.
    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Something changed that a scan may show.
    pub fn hear(&mut self, now: Duration) {
        match &mut self.due {
            None => self.heard = true,
            Some(due) => *due = (*due).min((now + SETTLE).max(self.ended + self.pause)),
        }
    }

    /// A scan begins.
    pub fn begin(&mut self) {
        (self.due, self.heard) = (None, false);
    }

    /// A scan ended; it took `took`.
    pub fn scanned(&mut self, now: Duration, took: Duration, listing: &Listing) -> Vec<Order> {
        self.ended = now;
        self.pause = (took * COST).max(PAUSE);
        self.due = Some(now + if listing.deaf { DEAF.max(self.pause) } else { SAFETY });
        if self.heard {
            self.hear(now);
        }
        let mut orders = self.departures(listing);
        self.told.retain(|path, _| listing.found.contains_key(path));
        self.empty.clear();
        let mut files: HashMap<FileId, PathBuf> =
            self.held.iter().map(|(path, held)| (held.file(), path.clone())).collect();
        for (path, (file, what)) in &listing.found {
            if self.held.contains_key(path) {
                continue;
            }
            match what {
                What::Empty => drop(self.empty.insert(path.clone())),
                What::Foreign => self.tell(path, Notice::NotADatabase, &mut orders),
                What::Unnameable => self.tell(path, Notice::Unnameable, &mut orders),
                What::Database => match files.get(file) {
                    Some(other) => {
                        let other = other.clone();
                        // A database that got another name is worth no word: it goes on once the old one is let go.
                        if !self.hurry(&other, &mut orders) {
                            self.tell(path, Notice::SameFile(other), &mut orders);
                        }
                    }
                    None => {
                        files.insert(*file, path.clone());
                        self.held.insert(path.clone(), Held::Followed(*file));
                        orders.push(Order::Follow(path.clone()));
                    }
                },
            }
        }
        orders
    }

    /// The loop of `path` has ended, for whatever reason.
    pub fn ended(&mut self, now: Duration, path: &Path) {
        if self.held.remove(path).is_some() {
            self.hear(now);
        }
    }

    /// Somebody else has begun to replicate the database at `path`, which is ours from now on.
    pub fn adopt(&mut self, path: &Path, file: FileId) {
        self.held.entry(path.into()).or_insert(Held::Followed(file));
    }

    /// The database at `path` is none of ours any more, and is being replicated all the same.
    pub fn disown(&mut self, path: &Path) {
        self.held.remove(path);
    }

    /// Somebody else decided that the database at `path` is let go; its loop is ending.
    pub fn release(&mut self, path: &Path) {
        if let Some(held) = self.held.get_mut(path) {
            *held = Held::Leaving { file: held.file(), hurried: true };
        }
    }

    /// The files somebody replicates, which nobody else may open.
    pub fn files(&self) -> HashSet<FileId> {
        self.held.values().map(|held| held.file()).collect()
    }

    /// Does the file at `path` wait to become a database?
    pub fn awaits(&self, path: &Path) -> bool {
        self.empty.contains(path)
    }

    /// Whose path leads nowhere now, or to another file.
    fn departures(&mut self, listing: &Listing) -> Vec<Order> {
        let mut orders = Vec::new();
        for (path, held) in &mut self.held {
            let now_there = listing.found.get(path);
            match held {
                Held::Followed(file) => {
                    let unknown = path.ancestors().skip(1).any(|folder| listing.unread.contains(folder));
                    let gone = now_there.map_or(!unknown, |(other, _)| other != file);
                    if gone {
                        *held = Held::Leaving { file: *file, hurried: false };
                        orders.push(Order::Leave(path.clone()));
                    }
                }
                Held::Leaving { .. } => {}
            }
            if let (Held::Leaving { hurried: hurried @ false, .. }, Some((_, What::Database))) =
                (held, now_there)
            {
                *hurried = true;
                orders.push(Order::Hurry(path.clone()));
            }
        }
        orders
    }

    /// `false` when the one at `path` is not leaving.
    fn hurry(&mut self, path: &Path, orders: &mut Vec<Order>) -> bool {
        match self.held.get_mut(path) {
            Some(Held::Leaving { hurried, .. }) => {
                if !std::mem::replace(hurried, true) {
                    orders.push(Order::Hurry(path.into()));
                }
                true
            }
            Some(Held::Followed(_)) | None => false,
        }
    }

    fn tell(&mut self, path: &Path, notice: Notice, orders: &mut Vec<Order>) {
        if self.told.get(path) != Some(&notice) {
            self.told.insert(path.into(), notice.clone());
            orders.push(Order::Tell(path.into(), notice));
        }
    }
}

/// `... is not a SQLite database`, as it goes on behind the path.
impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotADatabase => {
                f.write_str("matches the pattern and is not a SQLite database (encrypted?)")
            }
            Self::Unnameable => f.write_str("has a name that is not UTF-8, which a replica cannot have"),
            Self::SameFile(other) => write!(f, "is the same file as {}", other.display()),
        }
    }
}

/// From the first change to the scan: what belongs together happens together.
const SETTLE: Duration = Duration::from_millis(10);
/// The shortest time between two scans, and how many times what one costs lies between them: a directory that never
/// rests costs no more than a fiftieth of a core.
const PAUSE: Duration = Duration::from_millis(100);
const COST: u32 = 50;
/// Scans although nothing was heard.
const SAFETY: Duration = Duration::from_secs(60);
/// The same where changes make no sound.
const DEAF: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
