//! A database and its replicas in one directory: configure, list, restore, compare. Opens databases that nobody else has open.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use holdfast::error::Error;
use holdfast::plan::restore::Target;
use holdfast::run::limits::Limits;
use holdfast::run::restore::{Options, Outcome, Ownership, Restored, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::agent::Agent;

/// One database, `app.db`, and the replicas `r0`, `r1`, … beside it.
#[derive(Debug)]
pub struct Scene {
    dir: tempfile::TempDir,
    pub db: PathBuf,
    restored: std::cell::Cell<u32>,
}

/// The pace most tests want: fast, and checkpoints after little.
pub const FAST: Pace = Pace {
    database: &["monitor-interval: 100ms", "min-checkpoint-page-count: 100"],
    replicas: &[&["sync-interval: 20ms"]],
};

/// Extra keys of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Pace<'a> {
    pub database: &'a [&'a str],
    /// One item per replica.
    pub replicas: &'a [&'a [&'a str]],
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        Self { dir, db, restored: 0.into() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn replica(&self, n: usize) -> PathBuf {
        self.path(&format!("r{n}"))
    }

    /// The agent on this scene's database.
    pub fn agent(&self, pace: Pace<'_>) -> Agent {
        self.agent_within(pace, Limits::default())
    }

    pub fn agent_within(&self, pace: Pace<'_>, limits: Limits) -> Agent {
        let database = self.configure(&self.db, "r", pace);
        self.agent_of(&format!("dbs:\n{database}"), limits)
    }

    /// An agent with this configuration.
    pub fn agent_of(&self, yaml: &str, limits: Limits) -> Agent {
        let config = self.path("litestream.yml");
        fs::write(&config, yaml).unwrap();
        Agent::start(&config, &self.path("agent.log"), limits)
    }

    /// An item of `dbs:` whose replicas lie in directories named `prefix` and a number.
    pub fn configure(&self, db: &Path, prefix: &str, pace: Pace<'_>) -> String {
        let mut text = format!("  - path: {}\n", db.display());
        pace.database.iter().for_each(|key| text += &format!("    {key}\n"));
        text += "    replicas:\n";
        for (n, keys) in pace.replicas.iter().enumerate() {
            let path = self.path(&format!("{prefix}{n}"));
            text +=
                &format!("      - name: {prefix}{n}\n        type: file\n        path: {}\n", path.display());
            keys.iter().for_each(|key| text += &format!("        {key}\n"));
        }
        text
    }

    /// Restores the latest state of a replica to a new file.
    #[track_caller]
    pub fn restore(&self, replica: &Path) -> PathBuf {
        self.try_restore(replica, Target::LATEST).unwrap().0
    }

    pub fn try_restore(&self, replica: &Path, target: Target) -> Result<(PathBuf, Restored), Error> {
        self.restored.set(self.restored.get() + 1);
        let db = self.path(&format!("restored-{}.db", self.restored.get()));
        let options = Options {
            db: db.clone(),
            target,
            parallelism: 4,
            if_db_not_exists: false,
            force: false,
            seen: None,
            dry_run: false,
            ownership: Ownership::default(),
            show: Show::Nothing,
        };
        let store = Store::in_directory(replica, &OpenOptions::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(restore(&[Source { name: "file".into(), store }], &options))? {
            Outcome::Restored(restored) => Ok((db, restored)),
            other => panic!("{other:?}"),
        }
    }

    /// The replica restores to the very bytes of the database. Nobody may have it open.
    #[track_caller]
    pub fn same_bytes(&self, replica: &Path) {
        let restored = self.same_content(replica);
        let (expected, found) = (fs::read(&self.db).unwrap(), fs::read(&restored).unwrap());
        assert_eq!(expected.len(), found.len(), "bytes of the restored database");
        let page = u64::from(u16::from_be_bytes([expected[16], expected[17]])) as usize;
        let page = if page == 1 { 65536 } else { page };
        let differ = |n: &usize| expected[n * page..][..page] != found[n * page..][..page];
        let pages: Vec<_> = (0..expected.len() / page).filter(differ).map(|n| n + 1).collect();
        assert!(pages.is_empty(), "pages that differ: {pages:?}");
    }

    /// The replica restores to a sound database with the same rows. Nobody may have ours open.
    #[track_caller]
    pub fn same_content(&self, replica: &Path) -> PathBuf {
        if self.db.exists() {
            settle(&self.db);
        }
        let restored = self.restore(replica);
        assert_eq!(integrity(&restored), "ok");
        assert_eq!(digest(&restored), digest(&self.db), "content of the restored database");
        restored
    }
}

/// Brings everything a database's WAL holds into its file, and ends the WAL.
pub fn settle(db: &Path) {
    let db = Connection::open(db).unwrap();
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0)).unwrap();
    assert_eq!(busy, 0, "nobody has the database open");
    db.close().unwrap();
}

pub fn integrity(db: &Path) -> String {
    Connection::open(db).unwrap().query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap()
}

/// Schema and every row of every table, in the order of their first columns.
pub fn digest(db: &Path) -> u64 {
    let db = Connection::open(db).unwrap();
    let mut hash = DefaultHasher::new();
    let mut list =
        db.prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY 1, 2").unwrap();
    let schema: Vec<(String, String, String)> =
        list.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap().map(Result::unwrap).collect();
    schema.hash(&mut hash);
    for (_, table, _) in schema.iter().filter(|(kind, ..)| kind == "table") {
        let mut select = db.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for n in 0..columns {
                match row.get_ref(n).unwrap() {
                    ValueRef::Null => 0u8.hash(&mut hash),
                    ValueRef::Integer(i) => (1u8, i).hash(&mut hash),
                    ValueRef::Real(r) => (2u8, r.to_bits()).hash(&mut hash),
                    ValueRef::Text(t) => (3u8, t).hash(&mut hash),
                    ValueRef::Blob(b) => (4u8, b).hash(&mut hash),
                }
            }
        }
    }
    hash.finish()
}

/// Names of the finished objects below `replica/generations`, as `GENERATION/wal/…` and `GENERATION/snapshots/…`.
pub fn objects(replica: &Path) -> BTreeSet<String> {
    let list = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).map(|d| d.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    };
    let root = replica.join("generations");
    let files = list(&root).into_iter().flat_map(|g| list(&g)).flat_map(|kind| list(&kind));
    let names = files.map(|f| f.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
    names.filter(|n| n.ends_with(".lz4")).collect()
}

pub fn generations(replica: &Path) -> usize {
    objects(replica).iter().map(|o| o[..16].to_owned()).collect::<BTreeSet<_>>().len()
}

/// The WAL indexes of a replica's segments, over all generations.
pub fn indexes(replica: &Path) -> BTreeSet<String> {
    objects(replica).iter().filter_map(|o| o.split_once("/wal/").map(|(_, n)| n[..8].to_owned())).collect()
}
