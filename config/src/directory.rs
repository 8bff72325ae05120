//! Databases that are found, not listed: an item of `dbs` with `dir`. Values only; who looks at the disk is the agent.
//!
//! As Litestream 0.5.17 has it: the pattern is for the file's name, without its folder; the replica of a database lies
//! at its path relative to the directory, below the place the item names; hidden files count, and so do links to
//! files, but no folder is entered by way of a link.

use std::path::{Component, Path, PathBuf};

use crate::glob::Pattern;
use crate::model::Database;

/// A directory whose databases are replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Absolute and cleaned.
    pub path: PathBuf,
    pub pattern: Pattern,
    /// Databases in folders below it count, too.
    pub recursive: bool,
    /// Databases that appear and vanish later are followed; else only those found at the start.
    pub watch: bool,
    /// Where local state goes instead of beside each database. Absolute.
    pub meta_dir: Option<PathBuf>,
    /// What holds for each of its databases. Its path is the directory's, and below the destinations of its replicas
    /// each database has its own.
    pub each: Database,
}

impl Directory {
    /// Would a database at `path`, absolute and cleaned, be one of this directory's?
    pub fn covers(&self, path: &Path) -> bool {
        self.relative(path).is_some()
    }

    /// The database at `path` as this directory configures it, if it is one of its own.
    pub fn database(&self, path: &Path) -> Option<Database> {
        let relative = self.relative(path)?;
        let mut database = self.each.clone();
        database.path = path.into();
        if let Some(dir) = &self.meta_dir {
            database.meta_path = Some(dir.join(format!("{relative}-litestream")));
        } else if let Some(dir) = &self.each.meta_path {
            let (folder, name) = relative.rsplit_once('/').unwrap_or(("", relative));
            database.meta_path = Some(dir.join(folder).join(format!(".{name}-litestream")));
        }
        for replica in &mut database.replicas {
            replica.destination = replica.destination.below(relative);
        }
        Some(database)
    }

    /// May a folder below the directory, or itself, hold databases of it? Litestream's local state does not.
    pub fn enters(&self, folder: &Path) -> bool {
        let Ok(relative) = folder.strip_prefix(&self.path) else { return false };
        relative.as_os_str().is_empty() || self.recursive && relative.components().all(|c| !is_state(c))
    }

    /// Where `path` lies in the directory, if it matches. What is not UTF-8 could not be named in a bucket.
    fn relative<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let name = path.file_name()?.to_str()?;
        let fits = self.enters(path.parent()?) && self.pattern.matches(name) && !is_companion(name);
        if fits { path.strip_prefix(&self.path).ok()?.to_str() } else { None }
    }
}

/// The name is that of a WAL, its index or a journal: never a database of its own.
fn is_companion(name: &str) -> bool {
    ["-wal", "-shm", "-journal"].iter().any(|suffix| name.ends_with(suffix))
}

/// `.NAME-litestream`: what Litestream keeps beside a database.
fn is_state(folder: Component<'_>) -> bool {
    let name = folder.as_os_str().as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b"-litestream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Destination;
    use crate::model::Replica;

    fn directory(recursive: bool) -> Directory {
        let mut each = Database::at("/data".into());
        each.replicas = vec![Replica::to(Destination::File { path: "/backup".into() })];
        Directory {
            path: "/data".into(),
            pattern: Pattern::new("*.db*").unwrap(),
            recursive,
            watch: false,
            meta_dir: None,
            each,
        }
    }

    #[test]
    fn a_database_is_covered_by_its_name_and_its_folder() {
        for (path, flat, deep) in [
            ("/data/a.db", true, true),
            ("/data/.a.db", true, true),
            ("/data/t/a.db", false, true),
            ("/data/.t/u/a.db", false, true),
            ("/data/a.txt", false, false),
            ("/data/a.db-wal", false, false),
            ("/data/a.db-shm", false, false),
            ("/data/a.db-journal", false, false),
            ("/data/.a.db-litestream/ltx/a.db", false, false),
            ("/dat/a.db", false, false),
            ("/database/a.db", false, false),
            ("/data", false, false),
            ("/data/..", false, false),
        ] {
            let covers = |recursive| directory(recursive).covers(path.as_ref());
            assert_eq!((covers(false), covers(true)), (flat, deep), "{path}");
        }
    }

    #[test]
    fn each_database_has_its_own_place_below_the_replicas() {
        let database = directory(true).database("/data/t/a.db".as_ref()).unwrap();
        assert_eq!(database.path, Path::new("/data/t/a.db"));
        assert_eq!(database.replicas[0].destination, Destination::File { path: "/backup/t/a.db".into() });
        assert_eq!(database.meta_path, None);
    }

    #[test]
    fn local_state_lies_where_litestream_puts_it() {
        let mut directory = directory(true);
        let meta = |d: &Directory| d.database("/data/t/a.db".as_ref()).unwrap().meta_path.unwrap();
        directory.each.meta_path = Some("/state".into());
        assert_eq!(meta(&directory), Path::new("/state/t/.a.db-litestream"));
        directory.meta_dir = Some("/meta".into());
        assert_eq!(meta(&directory), Path::new("/meta/t/a.db-litestream"));
    }
}
