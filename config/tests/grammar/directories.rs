//! Items of `dbs` with `dir`: what they give for the databases found in them, and what every mistake is told.

use std::path::Path;

use crate::{read, said};

const MISTAKES: &[(&str, &str)] = &[
    (
        "dbs:\n  - dir: /d\n    replica: {path: /r}\n",
        ":2: dbs[0].pattern: it is missing; say which files are databases, like \"*.db\"",
    ),
    (
        "dbs:\n  - dir: /d\n    path: /d/a.db\n    pattern: '*.db'\n",
        ":2: dbs[0].dir: `path` and `dir` are both given; keep one: `path` names one database, `dir` a directory of them",
    ),
    (
        "dbs:\n  - dir: ''\n    pattern: '*'\n",
        ":2: dbs[0].dir: it is empty; name the directory of the databases",
    ),
    (
        "dbs:\n  - replica: {path: /r}\n",
        ":2: dbs[0].path: it is missing; name the database file, or with `dir` a directory of them",
    ),
    (
        "dbs:\n  - dir: s3://b/d\n    pattern: '*'\n",
        ":2: dbs[0].dir: it is a URL, and a directory's path is expected; write something like /data",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '[a.db'\n",
        ":3: dbs[0].pattern: \"[a.db\" is not a pattern: a [ has no ] behind it; write something like \"*.db\"",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '**/*.db'\n",
        ":3: dbs[0].pattern: \"**/*.db\" has a slash, and is compared with the names of files alone; name the folder in `dir`, or set `recursive: true`",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*.db'\n    watch: maybe\n",
        ":4: dbs[0].watch: \"maybe\" is not true or false; write true or false",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*.db'\n  - path: /d/a.db\n",
        ":4: dbs[1].path: /d/a.db is listed with `path`, and /d with the pattern *.db covers it, too; remove the one with `path`, or narrow the pattern",
    ),
    (
        "dbs:\n  - path: /d/a.db\n  - dir: /d\n    pattern: '*.db'\n",
        ":3: dbs[1].dir: /d/a.db is listed with `path`, and /d with the pattern *.db covers it, too; remove the one with `path`, or narrow the pattern",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*.db'\n  - dir: /d/\n    pattern: '*.db'\n",
        ":4: dbs[1].dir: /d is listed already with the same pattern; keep one of them; it can have several `replicas`",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*.db'\n    replica: {path: /d}\n",
        ":4: dbs[0].replica.path: it is the directory itself; name another directory",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*.db'\n    replica: {path: /r}\n  - path: /a.db\n    replica: {path: /r/x.db}\n",
        ":6: dbs[1].replica: it writes to /r/x.db, as dbs[0].replica does; give each replica a `path` of its own: two writers at one place destroy each other's backups",
    ),
    (
        "dbs:\n  - path: /a.db\n    replica: {path: /r/x.db}\n  - dir: /d\n    pattern: '*.db'\n    replica: {path: /r}\n",
        ":6: dbs[1].replica: it writes to /r, as dbs[0].replica does; give each replica a `path` of its own: two writers at one place destroy each other's backups",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*'\n    replica: {path: /r}\n  - dir: /e\n    pattern: '*'\n    replica: {path: /r}\n",
        ":7: dbs[1].replica: it writes to /r, as dbs[0].replica does; give each replica a `path` of its own: two writers at one place destroy each other's backups",
    ),
    (
        "dbs:\n  - dir: /d\n    pattern: '*'\n    recursive: true\n    replica: {path: /r}\n  - dir: /e\n    pattern: '*'\n    replica: {path: /r/e}\n",
        ":8: dbs[1].replica: it writes to /r/e, as dbs[0].replica does; give each replica a `path` of its own: two writers at one place destroy each other's backups",
    ),
];

#[test]
fn every_mistake_in_a_directory_is_told_with_line_key_and_remedy() {
    for (yaml, want) in MISTAKES {
        let error = read(yaml, &[]).err().map(|e| said(&e)).unwrap_or_default();
        assert_eq!(error, format!("read l.yml{want}"), "{yaml}");
    }
}

#[test]
fn a_directory_configures_each_of_its_databases() {
    let config = read(
        "
dbs:
  - dir: data/./tenants
    pattern: '*.db'
    recursive: true
    watch: true
    meta-dir: /meta
    monitor-interval: 5s
    min-checkpoint-page-count: 50
    replicas:
      - {path: /backup, sync-interval: 3s}
      - {type: s3, bucket: b, path: pre, region: eu-1}
      - {name: all, url: 's3://c?region=eu-1'}
",
        &[],
    )
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.replicates() && config.databases.is_empty());
    let [directory] = &config.directories[..] else { panic!("one directory") };
    assert_eq!(directory.path, Path::new("/work/data/tenants"));
    assert!(directory.recursive && directory.watch);
    let database = config.database("/work/data/tenants/eu/a.db".as_ref()).unwrap();
    assert_eq!(database.meta_path.as_deref(), Some(Path::new("/meta/eu/a.db-litestream")));
    assert_eq!((database.monitor_interval.as_secs(), database.min_checkpoint_pages), (5, 50));
    assert_eq!(database.replicas[0].sync_interval.as_secs(), 3);
    let places: Vec<_> = database.replicas.iter().map(|r| format!("{} {}", r.name, r.destination)).collect();
    assert_eq!(places, ["file /backup/eu/a.db", "s3 s3://b/pre/eu/a.db", "all s3://c/eu/a.db"]);
    assert_eq!(config.database("/work/data/tenants/eu/a.sqlite".as_ref()), None);
    assert_eq!(config.database("/work/data/a.db".as_ref()), None);
}

#[test]
fn two_items_may_share_a_directory_and_its_replica() {
    let config = read(
        "
dbs:
  - {dir: /d, pattern: '*.db', replica: {path: /r}}
  - {dir: /d, pattern: '*.sqlite', replica: {path: /r}}
  - {dir: /e, pattern: '*.db', replica: {path: /r/e}}
  - {path: /r.db, replica: {path: /r/r.txt}}
",
        &[],
    )
    .unwrap();
    assert_eq!((config.directories.len(), config.databases.len()), (3, 1));
}

#[test]
fn what_is_only_for_directories_is_told_so() {
    let config = read(
        "dbs: [{path: /a.db, pattern: x, watch: yes, replica: {path: /r}}, {dir: /d, pattern: '*'}]",
        &[],
    );
    let heard: Vec<_> = config.unwrap().warnings.iter().map(said).collect();
    assert_eq!(
        heard,
        [
            "l.yml:1: dbs[0].pattern: has no effect without `dir`; ignored",
            "l.yml:1: dbs[0].watch: has no effect without `dir`; ignored",
            "l.yml:1: dbs[1].dir: /d has no replica: nothing in it will be replicated",
        ]
    );
}
