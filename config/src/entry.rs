//! One item of `dbs`: a database with `path`, or a directory of them with `dir`. Values only.

use std::path::PathBuf;

use crate::directory::Directory;
use crate::error::ConfigError;
use crate::glob::Pattern;
use crate::keys::Level;
use crate::model::Database;
use crate::reader::Section;
use crate::replica_url::looks_like_url;

/// What an item describes, still without its replicas.
pub(crate) enum Entry {
    Database(Database),
    Directory(Box<Directory>),
}

/// Reads an item, and where its replicas stand in the file.
pub(crate) fn read<'a>(at: &Section<'a>) -> Result<(Entry, Vec<Section<'a>>), ConfigError> {
    at.check_keys(Level::Database)?;
    let entry = match at.text("dir")? {
        Some(_) if at.has("path") => {
            return Err(at
                .fail("dir", "`path` and `dir` are both given")
                .fix("keep one: `path` names one database, `dir` a directory of them"));
        }
        Some(dir) => Entry::Directory(Box::new(directory(at, &dir)?)),
        // A key whose variable is empty is a mistake of its own, not a database.
        None if at.has("dir") => return Err(at.missing("dir", "name the directory of the databases")),
        None => {
            for key in ["pattern", "recursive", "watch", "meta-dir"] {
                if at.has(key) {
                    at.warn(key, "has no effect without `dir`; ignored");
                }
            }
            let path = at.required("path", "name the database file, or with `dir` a directory of them")?;
            let mut database = Database::at(local(at, "path", &path)?);
            at.trace(|trace, at| trace.database(&database.path, at.name()));
            database.meta_path = state(at, "meta-path")?;
            settings(at, &mut database)?;
            Entry::Database(database)
        }
    };
    let mut replicas = at.sections("replicas")?;
    if let Some(one) = at.section("replica")? {
        if at.has("replicas") {
            return Err(at
                .fail("replica", "`replica` and `replicas` are both given")
                .fix("keep one of them"));
        }
        replicas.push(one);
    }
    if replicas.is_empty() {
        match &entry {
            Entry::Database(d) => {
                at.warn("path", format!("{} has no replica: it will not be replicated", d.path.display()));
            }
            Entry::Directory(d) => at.warn(
                "dir",
                format!("{} has no replica: nothing in it will be replicated", d.path.display()),
            ),
        }
    }
    Ok((entry, replicas))
}

fn directory(at: &Section<'_>, dir: &str) -> Result<Directory, ConfigError> {
    let path = local(at, "dir", dir)?;
    let text = at.required("pattern", "say which files are databases, like \"*.db\"")?;
    if text.contains('/') {
        return Err(at
            .fail("pattern", format!("{text:?} has a slash, and is compared with the names of files alone"))
            .fix("name the folder in `dir`, or set `recursive: true`"));
    }
    let pattern = Pattern::new(&text).map_err(|e| {
        at.fail("pattern", format!("{text:?} is not a pattern: {e}")).fix("write something like \"*.db\"")
    })?;
    at.trace(|trace, at| trace.directory(&path, &pattern, at.name()));
    let mut each = Database::at(path.clone());
    each.meta_path = state(at, "meta-path")?;
    settings(at, &mut each)?;
    Ok(Directory {
        path,
        pattern,
        recursive: at.switch("recursive")?.unwrap_or(false),
        watch: at.switch("watch")?.unwrap_or(false),
        meta_dir: state(at, "meta-dir")?,
        each,
    })
}

/// The pace, which an item of either kind may set.
fn settings(at: &Section<'_>, database: &mut Database) -> Result<(), ConfigError> {
    let default = Database::at(PathBuf::new());
    database.monitor_interval =
        at.positive("monitor-interval", "nothing would be replicated")?.unwrap_or(default.monitor_interval);
    database.checkpoint_interval = at.duration("checkpoint-interval")?.unwrap_or(default.checkpoint_interval);
    database.min_checkpoint_pages =
        at.count("min-checkpoint-page-count")?.unwrap_or(default.min_checkpoint_pages);
    if database.min_checkpoint_pages == 0 {
        return Err(at
            .fail("min-checkpoint-page-count", "it must be more than 0")
            .fix("the default is 1000"));
    }
    database.max_checkpoint_pages =
        at.count("max-checkpoint-page-count")?.unwrap_or(default.max_checkpoint_pages);
    database.max_wal_bytes = at.size("max-wal-size")?.unwrap_or(default.max_wal_bytes);
    if database.max_wal_bytes == 0 {
        return Err(at.fail("max-wal-size", "it must be more than 0").fix("the default is 1GiB"));
    }
    Ok(())
}

/// Where state is to go, if it is said.
fn state(at: &Section<'_>, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    at.text(key)?.map(|path| absolute(at, key, &path)).transpose()
}

/// The path of a file or directory here. Litestream 0.5 takes the two schemes off.
fn local(at: &Section<'_>, key: &str, path: &str) -> Result<PathBuf, ConfigError> {
    let local = path.strip_prefix("sqlite://").or_else(|| path.strip_prefix("sqlite3://")).unwrap_or(path);
    if looks_like_url(local) {
        let (what, like) = match key {
            "dir" => ("directory", "/data"),
            _ => ("file", "/data/station.db"),
        };
        return Err(at
            .fail(key, format!("it is a URL, and a {what}'s path is expected"))
            .fix(format!("write something like {like}")));
    }
    absolute(at, key, local)
}

fn absolute(at: &Section<'_>, key: &str, path: &str) -> Result<PathBuf, ConfigError> {
    at.env().absolute(path.as_ref()).map_err(|e| at.fail(key, e.to_string()).fix("write an absolute path"))
}
