//! What directories hold: names, and whether a file is a database. Reads 16 bytes of files nobody replicates.
//!
//! A file this process replicates is never opened here: closing it would drop the locks of its connections.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_config::Directory;

use super::entries::Entries;
use crate::plan::discovery::{FileId, Listing, What};

/// Looks at the same directories again and again.
#[derive(Debug)]
pub struct Scanner {
    directories: Vec<Directory>,
    /// Replicas of type file, which may lie inside a directory and hold no databases.
    apart: HashSet<PathBuf>,
    entries: Option<Arc<Entries>>,
    /// Files that were none, as they were then.
    foreign: HashMap<PathBuf, (FileId, i128)>,
    /// What could not be done, said once.
    deaf: bool,
}

impl Scanner {
    /// Of `directories`; what is in a folder of `apart` is passed over. Without `entries` nothing is listened to.
    pub fn new(directories: Vec<Directory>, apart: HashSet<PathBuf>, entries: Option<Arc<Entries>>) -> Self {
        Self { directories, apart, entries, foreign: HashMap::new(), deaf: false }
    }

    /// What there is now. `held` are the files somebody replicates: databases, and not opened.
    pub fn scan(&mut self, held: &HashSet<FileId>) -> Listing {
        let mut listing = Listing { deaf: self.entries.is_none(), ..Listing::default() };
        for directory in std::mem::take(&mut self.directories) {
            self.folder(&directory, &directory.path, held, &mut listing);
            self.directories.push(directory);
        }
        self.foreign.retain(|path, _| listing.found.contains_key(path));
        listing
    }

    fn folder(
        &mut self,
        directory: &Directory,
        folder: &Path,
        held: &HashSet<FileId>,
        listing: &mut Listing,
    ) {
        // First listen, then look: what comes in between is heard.
        if let Some(entries) = &self.entries
            && let Err(error) = entries.listen(folder)
            && error != nix::errno::Errno::ENOENT
        {
            listing.deaf = true;
            if !std::mem::replace(&mut self.deaf, true) {
                let folder = folder.display();
                tracing::warn!(%error, %folder, "listen to a directory: looking at it every second instead");
            }
        }
        let read = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = match read {
            Ok(entries) => entries,
            // Gone, and with it everything in it.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return,
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "read a directory; trying again");
                listing.unread.insert(folder.into());
                return;
            }
        };
        for entry in entries {
            let path = entry.path();
            // Of the entry itself: no folder is entered by way of a link.
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if directory.enters(&path) && !self.apart.contains(&path) {
                    self.folder(directory, &path, held, listing);
                }
                continue;
            }
            let covered = directory.covers(&path);
            if covered && !listing.found.contains_key(&path) {
                if let Some(found) = self.file(&path, held) {
                    listing.found.insert(path, found);
                }
            } else if !covered
                && path.to_str().is_none()
                && directory.covers(path.to_string_lossy().as_ref().as_ref())
            {
                listing.found.insert(path, (FileId { dev: 0, ino: 0 }, What::Unnameable));
            }
        }
    }

    /// What the file at `path` is; `None` if it is none, or has gone meanwhile.
    fn file(&mut self, path: &Path, held: &HashSet<FileId>) -> Option<(FileId, What)> {
        let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
        let (id, changed) = (id(&meta), changed(&meta));
        if held.contains(&id) {
            return Some((id, What::Database));
        }
        if meta.len() < MAGIC.len() as u64 {
            return Some((id, What::Empty));
        }
        if self.foreign.get(path) == Some(&(id, changed)) {
            return Some((id, What::Foreign));
        }
        let mut header = [0; MAGIC.len()];
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "look at a file");
                return Some((id, What::Foreign));
            }
        };
        if file.metadata().map(|m| self::id(&m)).ok() != Some(id) {
            // Another file was put there meanwhile, perhaps one that is replicated: it must not be closed.
            std::mem::forget(file);
            return None;
        }
        let read = file.read_exact_at(&mut header, 0);
        if read.is_ok() && header == *MAGIC {
            return Some((id, What::Database));
        }
        self.foreign.insert(path.into(), (id, changed));
        Some((id, What::Foreign))
    }
}

/// The identity of the file at `path`, if there is one.
pub fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|meta| id(&meta))
}

fn id(meta: &Metadata) -> FileId {
    FileId { dev: meta.dev(), ino: meta.ino() }
}

fn changed(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// The first bytes of every database (sqlite.org/fileformat2.html §1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn directory(path: &Path, pattern: &str, recursive: bool) -> Directory {
        let text = format!(
            "dbs: [{{dir: {}, pattern: '{pattern}', recursive: {recursive}, replica: {{path: {}/r}}}}]",
            path.display(),
            path.display()
        );
        let env = holdfast_config::Env::default();
        let mut config = holdfast_config::parse(&text, "l.yml".as_ref(), &env, true).unwrap();
        config.directories.remove(0)
    }

    /// `NAME WHAT` of everything found.
    fn names(listing: &Listing, dir: &Path) -> Vec<String> {
        let name = |p: &Path| p.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
        listing.found.iter().map(|(path, (_, what))| format!("{} {what:?}", name(path))).collect()
    }

    fn database(path: &Path) {
        rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    }

    #[test]
    fn databases_are_told_from_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["t/u", "r/a.db", ".a.db-litestream", "folder.db"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for name in
            ["a.db", ".h.db", "t/b.db", "t/u/c.db", "other.txt", "r/a.db/x.db", ".a.db-litestream/x.db"]
        {
            database(&at(name));
        }
        fs::write(at("text.db"), "this is a text, and quite a long one").unwrap();
        fs::write(at("empty.db"), "").unwrap();
        fs::write(at("short.db"), "SQLite").unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff.db")), "x").unwrap();
        std::os::unix::fs::symlink(at("t"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("a.db"), at("link.db")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling.db")).unwrap();
        let scan = |recursive| {
            let apart = HashSet::from([at("r")]);
            let mut scanner = Scanner::new(vec![directory(dir.path(), "*.db", recursive)], apart, None);
            scanner.scan(&HashSet::new());
            names(&scanner.scan(&HashSet::new()), dir.path())
        };
        let flat = [
            ".h.db Database",
            "a.db Database",
            "empty.db Empty",
            "link.db Database",
            "short.db Empty",
            "text.db Foreign",
            "\u{fffd}.db Unnameable",
        ];
        assert_eq!(scan(false), flat);
        let mut deep = flat.to_vec();
        deep.splice(5..5, ["t/b.db Database", "t/u/c.db Database"]);
        assert_eq!(scan(true), deep);
    }

    #[test]
    fn a_file_that_is_replicated_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        // Not a database, which only reading it could show.
        fs::write(&path, "this is a text, and quite a long one").unwrap();
        let mut scanner = Scanner::new(vec![directory(dir.path(), "*", false)], HashSet::new(), None);
        let held = HashSet::from([file_id(&path).unwrap()]);
        assert_eq!(names(&scanner.scan(&held), dir.path()), ["a.db Database"]);
        assert_eq!(names(&scanner.scan(&HashSet::new()), dir.path()), ["a.db Foreign"]);
        database(&dir.path().join("b.db"));
        fs::rename(dir.path().join("b.db"), &path).unwrap();
        assert_eq!(names(&scanner.scan(&HashSet::new()), dir.path()), ["a.db Database"]);
    }

    #[test]
    fn a_folder_that_appears_is_listened_to_from_the_scan_on_that_shows_it() {
        let dir = tempfile::tempdir().unwrap();
        let entries = Arc::new(Entries::new().unwrap());
        let directories = vec![directory(dir.path(), "*.db", true)];
        let mut scanner = Scanner::new(directories, HashSet::new(), Some(entries.clone()));
        assert!(!scanner.scan(&HashSet::new()).deaf);
        fs::create_dir_all(dir.path().join("t/u")).unwrap();
        assert!(!entries.changes().is_empty());
        scanner.scan(&HashSet::new());
        database(&dir.path().join("t/u/a.db"));
        assert!(!entries.changes().is_empty());
        assert_eq!(names(&scanner.scan(&HashSet::new()), dir.path()), ["t/u/a.db Database"]);
    }
}
