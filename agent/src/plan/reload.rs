//! What a new configuration changes for what is running. Decisions only: two configurations in, what to do out.
//!
//! A database whose settings are the same letter by letter is not touched. One whose settings changed gets a new loop,
//! which takes over the pin of the old one; one that is not configured any more gets its final sync. Databases of
//! watched directories that are not running yet are left to the next scan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_config::{Config, Database};

/// A database as it is being replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub database: Database,
    /// It was found in a watched directory and ends when its file leaves its path.
    pub found: bool,
}

/// What becomes of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Add(Running),
    /// End the loop, and begin another with the same pin.
    Replace(Running),
    Remove(PathBuf),
}

/// What there is to do, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reload {
    pub changes: Vec<Change>,
    /// Keys that changed and take effect at the next start only.
    pub fixed: Vec<&'static str>,
}

/// What leads from `old` to `new`. `running` is what runs now; `present` are the databases found in directories that
/// are not watched.
pub fn reload(
    running: &BTreeMap<PathBuf, Running>,
    old: &Config,
    new: &Config,
    present: &[PathBuf],
) -> Reload {
    let mut changes = Vec::new();
    for (path, now) in running {
        match wanted(new, path) {
            None => changes.push(Change::Remove(path.clone())),
            Some(wanted) if wanted != *now => changes.push(Change::Replace(wanted)),
            Some(_) => {}
        }
    }
    let listed = new.databases.iter().map(|d| &d.path).chain(present);
    let added = listed.filter(|path| !running.contains_key(*path)).filter_map(|path| wanted(new, path));
    changes.extend(added.map(Change::Add));
    let differences = [("exec", old.exec != new.exec), ("logging", old.logging != new.logging)];
    let fixed = differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
    Reload { changes, fixed }
}

/// The database at `path` as `config` has it.
pub fn wanted(config: &Config, path: &Path) -> Option<Running> {
    let database = config.database(path).filter(|d| !d.replicas.is_empty())?;
    let listed = config.databases.iter().any(|d| d.path == path);
    let watched = config.directories.iter().find(|d| d.covers(path)).is_some_and(|d| d.watch);
    Some(Running { database, found: !listed && watched })
}

#[cfg(test)]
mod tests {
    use holdfast_config::Env;

    use super::*;

    fn config(yaml: &str) -> Config {
        holdfast_config::parse(yaml, Path::new("l.yml"), &Env::from_pairs([("AWS_REGION", "eu")]), true)
            .unwrap()
    }

    /// `add /a`, `replace /a`, `remove /a`, `fixed exec` of a reload from one file to another, with `running` running.
    fn said(running: &[&str], old: &str, new: &str, present: &[&str]) -> Vec<String> {
        let (old, new) = (config(old), config(new));
        let running = running.iter().map(|path| (PathBuf::from(path), wanted(&old, path.as_ref()).unwrap()));
        let present: Vec<_> = present.iter().map(PathBuf::from).collect();
        let Reload { changes, fixed } = reload(&running.collect(), &old, &new, &present);
        let changes = changes.into_iter().map(|change| match change {
            Change::Add(one) => format!("add {}", one.database.path.display()),
            Change::Replace(one) => format!("replace {}", one.database.path.display()),
            Change::Remove(path) => format!("remove {}", path.display()),
        });
        changes.chain(fixed.into_iter().map(|key| format!("fixed {key}"))).collect()
    }

    const A: &str = "dbs: [{path: /a, replica: {path: /r/a}}]";

    #[test]
    fn what_stays_the_same_is_not_touched() {
        assert_eq!(said(&["/a"], A, A, &[]), [""; 0]);
        let other = "# moved\ndbs:\n  - path: /./a\n    replicas: [{path: /r//a, name: file}]\n";
        assert_eq!(said(&["/a"], A, other, &[]), [""; 0], "the same in other words");
    }

    #[test]
    fn databases_are_added_removed_and_changed() {
        let both = "dbs: [{path: /a, replica: {path: /r/a}}, {path: /b, replica: {path: /r/b}}]";
        assert_eq!(said(&["/a"], A, both, &[]), ["add /b"]);
        assert_eq!(said(&["/a", "/b"], both, A, &[]), ["remove /b"]);
        for changed in [
            "dbs: [{path: /a, replica: {path: /r/other}}]",
            "dbs: [{path: /a, checkpoint-interval: 5m, replica: {path: /r/a}}]",
            "dbs: [{path: /a, replica: {path: /r/a, sync-interval: 5s}}]",
            "dbs: [{path: /a, replicas: [{path: /r/a}, {path: /r/b, name: b}]}]",
            "dbs: [{path: /a, replica: {url: 's3://b/a'}}]",
        ] {
            assert_eq!(said(&["/a"], A, changed, &[]), ["replace /a"], "{changed}");
        }
        let without = "dbs: [{path: /a}]";
        assert_eq!(said(&["/a"], A, without, &[]), ["remove /a"], "nothing is left to replicate to");
    }

    #[test]
    fn other_credentials_are_a_change() {
        let with = |key: &str| {
            format!(
                "dbs: [{{path: /a, replica: {{type: s3, bucket: b, access-key-id: i, secret-access-key: {key}}}}}]"
            )
        };
        assert_eq!(said(&["/a"], &with("one"), &with("one"), &[]), [""; 0]);
        assert_eq!(said(&["/a"], &with("one"), &with("two"), &[]), ["replace /a"]);
    }

    #[test]
    fn databases_of_a_directory_follow_its_settings() {
        let watched = "dbs: [{dir: /d, pattern: '*.db', watch: true, replica: {path: /r}}]";
        let narrow = "dbs: [{dir: /d, pattern: 'a*.db', watch: true, replica: {path: /r}}]";
        let still = "dbs: [{dir: /d, pattern: '*.db', replica: {path: /r}}]";
        let moved = "dbs: [{dir: /d, pattern: '*.db', watch: true, replica: {path: /s}}]";
        let running = ["/d/a.db", "/d/b.db"];
        assert_eq!(said(&running, watched, watched, &[]), [""; 0]);
        assert_eq!(said(&running, watched, narrow, &[]), ["remove /d/b.db"]);
        assert_eq!(said(&running, watched, moved, &[]), ["replace /d/a.db", "replace /d/b.db"]);
        let seen = ["/d/a.db", "/d/b.db", "/d/c.db"];
        assert_eq!(
            said(&running, watched, still, &seen),
            ["replace /d/a.db", "replace /d/b.db", "add /d/c.db"]
        );
        assert_eq!(said(&running, still, still, &seen), ["add /d/c.db"], "found by the reload");
        let listed = "dbs: [{path: /d/a.db, replica: {path: /r/a.db}}]";
        assert_eq!(said(&running, watched, listed, &[]), ["replace /d/a.db", "remove /d/b.db"]);
    }

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let new = format!("addr: ':9090'\nlogging: {{level: debug}}\nshutdown-sync-timeout: 5s\n{A}");
        assert_eq!(said(&["/a"], A, &new, &[]), ["fixed logging"]);
    }
}
