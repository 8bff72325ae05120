//! The record of where a database comes from, as a hidden file beside it: `.app.db.holdfast`. Reads and writes that file.
//!
//! It is also the sentinel: where it lies, a database lived (spec/supervisor.md SUP-306). It is written when a replica is
//! first gone on with, when a generation begins, after a restore and after a proven final sync; never for a commit. What is
//! lost of it proves nothing, and nothing is waited for: no fsync.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::durable;
use crate::format::layout::Generation;
use crate::format::lineage::{Descent, Lineage, Mark};
use crate::format::ltx::Txid;

/// Where the record of `db` lies.
pub(super) fn path(db: &Path) -> PathBuf {
    let name = db.file_name().unwrap_or_default().to_string_lossy();
    durable::parent(db).join(format!(".{name}.holdfast"))
}

/// The record, and whether there is a file at all.
pub(super) fn load(db: &Path) -> (Lineage, bool) {
    match fs::read_to_string(path(db)) {
        Ok(text) => (Lineage::parse(&text).unwrap_or_default(), true),
        Err(e) => (Lineage::default(), e.kind() != ErrorKind::NotFound),
    }
}

/// What the record of `db` says of the replica at `url`; `None` if it says nothing.
pub fn descent(db: &Path, url: &str) -> Option<Descent> {
    load(db).0.0.remove(url)
}

fn save(db: &Path, lineage: &Lineage) -> io::Result<()> {
    let (path, text) = (path(db), lineage.encode());
    let temp = path.with_extension(format!("holdfast-{:08x}", durable::random() as u32));
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o640).open(&temp)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temp, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temp)))
}

/// The record of one database that is being replicated.
///
/// Of one that was found in a directory none is kept, and whatever its replica holds counts as its past: nobody decides
/// what to start on there, and a file that an application has not made would keep it from removing a directory.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None` where none is kept.
    db: Option<PathBuf>,
    lineage: Lineage,
    told: bool,
}

impl Keeper {
    pub(super) fn of(db: &Path) -> Self {
        Self { db: Some(db.into()), lineage: load(db).0, told: false }
    }

    /// Keeps nothing.
    pub(super) fn none() -> Self {
        Self { db: None, lineage: Lineage::default(), told: false }
    }

    /// What is known of the replica at `url`, if anything is.
    pub(super) fn known(&self, url: &str) -> Option<Descent> {
        match self.db {
            Some(_) => self.lineage.0.get(url).cloned(),
            None => Some(Descent { adopts: Some(Timestamp::MAX), ..Descent::default() }),
        }
    }

    /// The same; of one that is not known, nothing is this database's past.
    pub(super) fn descent(&self, url: &str) -> Descent {
        self.known(url).unwrap_or_default()
    }

    /// The replica is gone on with, in `generation` if it has some: the WAL proves that it is this database's, and so
    /// is whatever it held before.
    pub(super) fn resumed(&mut self, url: &str, generation: Option<Generation>, now: Timestamp) {
        if self.known(url).is_some_and(|d| generation.is_none_or(|g| d.own.contains(&g))) {
            return;
        }
        self.change(url, |descent| {
            descent.own.extend(generation);
            descent.adopts = Some(now);
        });
    }

    /// A generation begins. What else the replica holds is this database's past only as far as is known already.
    pub(super) fn began(&mut self, url: &str, generation: Generation) {
        self.change(url, |descent| {
            descent.own.push(generation);
            let surplus = descent.own.len().saturating_sub(REMEMBERED);
            descent.own.drain(..surplus);
            descent.mark = None;
        });
    }

    /// A full copy goes on after what the replica holds, up to `last`; whether that is on hold from now on.
    pub(super) fn copied(&mut self, url: &str, last: Option<Txid>) -> bool {
        let known = self.known(url).is_some();
        self.change(url, |descent| {
            if !known {
                descent.hold = last;
            }
            descent.mark = None;
        });
        !known && last.is_some()
    }

    /// Database and replica are the same.
    pub(super) fn marked(&mut self, marks: BTreeMap<String, Option<Mark>>) {
        let before = self.lineage.clone();
        for (url, mark) in marks {
            self.lineage.0.entry(url).or_default().mark = mark;
        }
        if self.lineage != before {
            self.save();
        }
    }

    fn change(&mut self, url: &str, change: impl FnOnce(&mut Descent)) {
        if self.db.is_none() {
            return;
        }
        let mut descent = self.descent(url);
        change(&mut descent);
        self.lineage.0.insert(url.to_owned(), descent);
        self.save();
    }

    fn save(&mut self) {
        let Some(db) = &self.db else { return };
        let Err(e) = save(db, &self.lineage) else { return };
        // Nothing is lost by it but what a later start could prove. What an older record proves may not be so any more:
        // an empty one proves nothing, and needs no room.
        let path = path(db);
        let _ = fs::OpenOptions::new().write(true).truncate(true).open(&path);
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(path = %path.display(), error = %e, "write the record of where the database comes from");
        }
    }
}

/// Notes that `db` has just been restored from the replica at `url`, up to `until`.
pub(super) fn restored(db: &Path, url: &str, generation: Option<Generation>, until: Timestamp) {
    let mut keeper = Keeper::of(db);
    keeper.change(url, |descent| {
        *descent =
            Descent { own: generation.into_iter().collect(), adopts: Some(until), hold: None, mark: None };
    });
}

/// Notes that `db` goes on by itself: all that the replica at `url` holds, up to `last`, is somebody else's.
pub(super) fn parted(db: &Path, url: &str, last: Option<Txid>) {
    let mut keeper = Keeper::of(db);
    keeper.change(url, |descent| *descent = Descent { hold: last, ..Descent::default() });
}

/// Generations of its own that a record names. Older ones are adopted, or long gone.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "file:///replica";

    #[test]
    fn a_record_is_written_when_something_changes_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        assert_eq!(load(&db), (Lineage::default(), false));
        let mut keeper = Keeper::of(&db);
        keeper.began(URL, Generation::new(7));
        let (lineage, lived) = load(&db);
        assert!(lived && lineage.0[URL].own == [Generation::new(7)] && lineage.0[URL].adopts.is_none());
        let written = fs::metadata(path(&db)).unwrap().modified().unwrap();
        keeper.resumed(URL, Some(Generation::new(7)), Timestamp::now());
        assert_eq!(fs::metadata(path(&db)).unwrap().modified().unwrap(), written, "nothing new");
        let now = Timestamp::now();
        keeper.resumed("s3://other", Some(Generation::new(8)), now);
        assert_eq!(Keeper::of(&db).descent("s3://other").adopts, Some(now));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn what_cannot_be_read_still_says_that_a_database_lived_here() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        fs::write(path(&db), "").unwrap();
        assert_eq!(load(&db), (Lineage::default(), true));
    }

    #[test]
    fn what_a_replica_held_before_a_first_copy_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::of(&dir.path().join("app.db"));
        assert!(keeper.copied(URL, Txid::new(9)));
        assert_eq!(keeper.descent(URL).hold, Txid::new(9));
        assert!(!keeper.copied(URL, Txid::new(12)));
        assert_eq!(keeper.descent(URL).hold, Txid::new(9), "the rest is its own");
    }
}
