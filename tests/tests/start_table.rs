//! What a start does in each row of spec/supervisor.md §3.4, with the real supervisor and agent. Before each start
//! `check` says what it will be, and changes nothing (T92).
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use holdfast_tests::oracle;
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, Ended, Scene};

/// A volume with a database, and a replica that outlives it.
struct Place {
    dir: tempfile::TempDir,
    flags: Vec<&'static str>,
    vars: Vec<(&'static str, String)>,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), flags: Vec::new(), vars: Vec::new() };
        fs::create_dir(place.volume()).unwrap();
        place
    }

    /// After a run that committed 30 rows and was stopped well.
    fn used() -> Self {
        let place = Self::new();
        place.write(30).expect(0);
        place
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn replica(&self) -> PathBuf {
        self.dir.path().join("replica")
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.volume().join(format!("app.db{suffix}"))
    }

    fn record(&self) -> PathBuf {
        self.volume().join(".app.db.holdfast")
    }

    fn with(mut self, flags: &[&'static str]) -> Self {
        self.flags.extend(flags);
        self
    }

    fn scene(&self) -> Scene {
        let mut scene = Scene::new(As::Subreaper)
            .real_agent()
            .var("LITESTREAM_FILE_PATH", self.replica().display())
            .var("DATABASE_PATH", self.file("").display());
        for flag in &self.flags {
            scene = scene.flags([*flag]);
        }
        for (name, value) in &self.vars {
            scene = scene.var(name, value);
        }
        scene
    }

    /// A run whose app commits so many rows.
    fn write(&self, commits: u32) -> Ended {
        let writer = ours("writer").display().to_string();
        self.scene().app([&writer, "--commits", &commits.to_string()]).run()
    }

    /// Asks, compares, starts an app that does nothing, and compares the codes.
    #[track_caller]
    fn start(&self, code: i32, says: &str) -> Ended {
        let before = traces(self.dir.path());
        let asked = self.scene().checking().run();
        assert_eq!(asked.code, code, "{}{}", asked.stdout, asked.stderr);
        assert!(
            asked.stdout.contains(says) && asked.stdout.contains(&format!("exit {code}")),
            "{}",
            asked.stdout
        );
        assert_eq!(traces(self.dir.path()), before, "a check changes nothing");
        let started = self.scene().var("FA_RUN_MS", 20).run();
        let what = format!("{}\n{:?}", started.stderr, started.happened);
        assert_eq!(started.code, code, "{what}");
        assert_eq!(started.count("app start"), usize::from(code == 0), "{what}");
        started
    }

    /// A start that must not happen, and leaves everything as it was.
    #[track_caller]
    fn refused(&self, code: i32, says: &str) -> Ended {
        let before = traces(self.dir.path());
        let started = self.start(code, says);
        assert_eq!(traces(self.dir.path()), before, "a refusal changes nothing");
        started
    }

    /// The folders of what was set aside, by the word in their names.
    fn aside(&self, word: &str) -> Vec<PathBuf> {
        let begins = format!("app.db.{word}-");
        let all = fs::read_dir(self.volume()).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with(&begins)).collect()
    }

    fn newest(&self) -> Option<i64> {
        oracle::newest(&self.file(""))
    }

    /// Takes the database away, and leaves its record.
    fn lose(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.file(suffix));
        }
    }

    fn copy_to(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for path in [self.file(""), self.file("-wal"), self.record()] {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }

    fn copy_from(&self, from: &Path) {
        self.lose();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, self.volume().join(path.file_name().unwrap())).unwrap();
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let found = traces(&self.replica());
        let mut all: Vec<_> =
            found.into_keys().filter(|p| p.to_string_lossy().ends_with(".wal.lz4")).collect();
        all.sort();
        all
    }

    fn generations(&self) -> usize {
        fs::read_dir(self.replica().join("generations")).unwrap().count()
    }
}

type Trace = (u64, i64, i64, Vec<u8>);

/// Inode, date and bytes of every file below a directory.
fn traces(dir: &Path) -> BTreeMap<PathBuf, Trace> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                dirs.push(path);
            } else {
                let bytes = fs::read(&path).unwrap_or_default();
                all.insert(path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), bytes));
            }
        }
    }
    all
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

#[test]
fn t40_a_missing_database_is_restored() {
    let place = Place::used();
    place.lose();
    fs::remove_file(place.record()).unwrap();
    place.start(0, "missing here, restorable there: restore");
    assert_eq!(place.newest(), Some(30));
}

#[test]
fn t41_a_replica_proven_empty_is_a_fresh_start_and_no_file_of_ours() {
    let place = Place::new();
    place.start(0, "missing here, proven empty there: start fresh");
    assert!(traces(place.dir.path()).is_empty(), "only the app makes the database");
}

#[test]
fn t42_where_a_database_lived_or_has_to_be_an_empty_replica_is_66() {
    let place = Place::used();
    place.lose();
    fs::remove_dir_all(place.replica()).unwrap();
    let refused = place.refused(66, "missing here, proven empty there: refuse");
    assert!(refused.stderr.contains("says that it lived here"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains(&format!("SUPERVISOR_ALLOW_EMPTY_START={}", today())),
        "{}",
        refused.stderr
    );

    let yesterday = Place { vars: vec![("SUPERVISOR_ALLOW_EMPTY_START", "2000-01-01".into())], ..place };
    let refused = yesterday.refused(66, "refuse");
    assert!(refused.stderr.contains("is not today's date"), "{}", refused.stderr);
    let allowed = Place { vars: vec![("SUPERVISOR_ALLOW_EMPTY_START", today())], ..yesterday };
    allowed.start(0, "start fresh");

    Place::new().with(&["-require-replica"]).refused(66, "missing here, proven empty there: refuse");
}

#[test]
fn t48_a_replica_that_does_not_restore_is_76_and_leaves_nothing() {
    let headless = Place::used();
    headless.lose();
    let all = traces(&headless.replica()).into_keys();
    all.filter(|p| p.to_string_lossy().ends_with(".snapshot.lz4")).for_each(|p| fs::remove_file(p).unwrap());
    headless.refused(76, "missing here, not restorable there: refuse");

    // What a listing does not show.
    let missing = |segments: &[PathBuf]| fs::remove_file(&segments[segments.len() / 2]).unwrap();
    let flipped = |segments: &[PathBuf]| {
        let last = segments.last().unwrap();
        let mut bytes = fs::read(last).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        fs::write(last, bytes).unwrap();
    };
    for damage in [&missing as &dyn Fn(&[PathBuf]), &flipped] {
        let place = Place::used();
        place.write(30).expect(0);
        place.lose();
        damage(&place.segments());
        let before = traces(place.dir.path());
        let run = place.write(1).expect(76);
        assert!(run.stderr.contains("the app was not started"), "{}", run.stderr);
        assert_eq!(traces(place.dir.path()), before);
    }
}

#[test]
fn t50_e15_a_wal_without_its_database_is_set_aside_and_never_replayed() {
    let place = Place::used();
    let old = fs::read(place.file("-wal")).unwrap();
    place.write(200).expect(0);
    place.lose();
    fs::write(place.file("-wal"), &old).unwrap();
    place.start(0, "only a WAL here, restorable there: restore");
    assert_eq!(place.newest(), Some(230));
    let aside = place.aside("orphan-wal");
    assert_eq!(fs::read(aside[0].join("app.db-wal")).unwrap(), old);

    fs::remove_dir_all(place.replica()).unwrap();
    place.lose();
    fs::write(place.file("-wal"), &old).unwrap();
    place.refused(66, "only a WAL here, proven empty there: refuse");
}

#[test]
fn t51_e04_a_touched_file_is_set_aside_for_the_backup() {
    for (bytes, says) in [(&b""[..], "empty here"), (&empty_database(), "empty here")] {
        let place = Place::used();
        place.lose();
        fs::remove_file(place.record()).unwrap();
        fs::write(place.file(""), bytes).unwrap();
        place.start(0, &format!("{says}, restorable there: restore"));
        assert_eq!(place.newest(), Some(30));
        assert_eq!(fs::read(place.aside("empty")[0].join("app.db")).unwrap(), bytes);
    }
    let place = Place::new();
    fs::write(place.file(""), b"").unwrap();
    place.start(0, "empty here, proven empty there: start");
    assert_eq!(fs::read(place.file("")).unwrap(), b"", "kept");
}

/// A service that restarts again and again before it has made a table: nothing piles up beside its database.
#[test]
fn t51_a_database_without_tables_is_not_set_aside_for_another_without_tables() {
    let place = Place::new();
    fs::write(place.file(""), empty_database()).unwrap();
    // Into the replica with it.
    place.start(0, "empty here, proven empty there: start");
    let found = fs::read(place.file("")).unwrap();
    let inode = fs::metadata(place.file("")).unwrap().ino();
    for _ in 0..3 {
        assert!(!traces(&place.replica()).is_empty(), "there is something to restore");
        let started = place.scene().var("FA_RUN_MS", 20).run();
        assert_eq!((started.code, started.count("app start")), (0, 1), "{}", started.stderr);
        assert!(place.aside("empty").is_empty(), "{}", started.stderr);
        assert_eq!(fs::read(place.file("")).unwrap(), found);
        assert_eq!(fs::metadata(place.file("")).unwrap().ino(), inode, "the very file");
    }
    // Where nothing is here, it is restored all the same.
    place.lose();
    place.start(0, "missing here, restorable there: restore");
    assert_eq!(oracle::digest_of(&place.file("")).unwrap(), {
        let copy = place.dir.path().join("copy.db");
        fs::write(&copy, &found).unwrap();
        oracle::digest_of(&copy).unwrap()
    });
}

/// A database without tables, as some libraries make it.
fn empty_database() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA user_version=1; PRAGMA user_version=0;").unwrap();
    drop(db);
    fs::read(path).unwrap()
}

#[test]
fn t53_t54_a_database_whose_rows_are_all_in_its_wal_stays_where_it_is_and_goes_on() {
    let place = Place::used();
    assert_eq!(fs::metadata(place.file("")).unwrap().len(), 4096, "all of it is in the WAL");
    let inode = fs::metadata(place.file("")).unwrap().ino();
    place.start(0, "good here, restorable there: start");
    place.write(5).expect(0);
    assert_eq!((place.newest(), place.generations()), (Some(35), 1), "no snapshot, no new generation");
    assert_eq!(fs::metadata(place.file("")).unwrap().ino(), inode);
}

#[test]
fn t56_a_wiped_replica_begins_anew_and_somebody_hears_of_it() {
    let place = Place::used();
    fs::remove_dir_all(place.replica()).unwrap();
    let run = place.start(0, "good here, proven empty there: start");
    assert!(run.stderr.contains("backup wiped"), "{}", run.stderr);
    place.lose();
    place.start(0, "restore");
    assert_eq!(place.newest(), Some(30));
}

#[test]
fn t57_a_copy_that_others_have_gone_on_from_is_79_until_somebody_decides() {
    for elsewhere in ["on the volume", "restored"] {
        let place = Place::used();
        let copy = place.dir.path().join("copy");
        place.copy_to(&copy);
        if elsewhere == "restored" {
            place.lose();
        }
        place.write(40).expect(0);
        place.copy_from(&copy);
        let old = fs::read(place.file("-wal")).unwrap();
        let refused = place.refused(79, "behind here, restorable there: refuse");
        for said in
            ["the database ends at ", "the replica goes on to ", "SUPERVISOR_ON_BEHIND=restore", "=keep"]
        {
            assert!(refused.stderr.contains(said), "{elsewhere}: no {said}: {}", refused.stderr);
        }

        let kept = Place { flags: vec!["-on-behind", "keep"], ..place };
        let begun = kept.generations();
        let run = kept.start(0, "behind here, restorable there: start");
        assert!(run.stderr.contains("on hold"), "{}", run.stderr);
        assert_eq!((kept.newest(), kept.generations()), (Some(30), begun + 1), "{elsewhere}");

        let place = Place { flags: vec!["-on-behind", "restore"], ..kept };
        let youngest = fs::read_dir(place.replica().join("generations")).unwrap();
        let youngest = youngest.map(|e| e.unwrap()).max_by_key(|e| e.metadata().unwrap().modified().unwrap());
        fs::remove_dir_all(youngest.unwrap().path()).unwrap();
        place.copy_from(&copy);
        place.start(0, "behind here, restorable there: restore");
        assert_eq!(place.newest(), Some(70), "{elsewhere}");
        assert_eq!(fs::read(place.aside("behind")[0].join("app.db-wal")).unwrap(), old);
    }
}

#[test]
fn t57_a_replica_that_does_not_answer_hides_nothing_that_another_shows() {
    let mut place = Place::used();
    let copy = place.dir.path().join("copy");
    place.copy_to(&copy);
    place.write(40).expect(0);
    place.copy_from(&copy);
    let config = place.dir.path().join("litestream.yml");
    let text = format!(
        "dbs:\n- path: {}\n  replicas:\n  - {{type: file, path: {}}}\n  - {{name: away, type: s3, bucket: b, path: p, \
         endpoint: http://127.0.0.1:1, access-key-id: k, secret-access-key: s}}\n",
        place.file("").display(),
        place.replica().display()
    );
    fs::write(&config, text).unwrap();
    place.vars = vec![("SUPERVISOR_CONFIG", config.display().to_string())];
    place.refused(79, "behind here, restorable there: refuse");
}

#[test]
fn t58_a_database_of_unknown_origin_starts_unless_it_is_older_than_the_replica() {
    let place = Place::used();
    fs::remove_file(place.record()).unwrap();
    let date = |back: u64| {
        for suffix in ["", "-wal"] {
            let file = fs::File::options().write(true).open(place.file(suffix)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(back)).unwrap();
        }
    };
    date(2 * 3600);
    let refused = place.refused(79, "unknown and older here, restorable there: refuse");
    assert!(refused.stderr.contains("SUPERVISOR_ON_UNKNOWN=keep"), "{}", refused.stderr);
    date(60);
    place.start(0, "unknown here, restorable there: start");
    assert!(place.record().exists(), "known from now on");
    place.start(0, "good here, restorable there: start");
}

#[test]
fn t59_a_damaged_database_is_65_or_set_aside_for_the_backup() {
    let place = Place::used();
    // Into the file with it, so that the pages have to be read from there.
    let db = rusqlite::Connection::open(place.file("")).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(db);
    let good = fs::read(place.file("")).unwrap();
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[3] ^= 0xff, |bytes| bytes[4096..4196].fill(0xff), |bytes| bytes.truncate(6000)];
    for damage in damages {
        let mut bytes = good.clone();
        damage(&mut bytes);
        fs::write(place.file(""), &bytes).unwrap();
        let refused = place.refused(65, "corrupt here: refuse");
        assert!(refused.stderr.contains("SUPERVISOR_ON_CORRUPT=restore"), "{}", refused.stderr);
    }
    let damaged = fs::read(place.file("")).unwrap();
    let place = Place { flags: vec!["-on-corrupt", "restore"], ..place };
    place.start(0, "corrupt here, restorable there: restore");
    assert_eq!(place.newest(), Some(30));
    assert_eq!(fs::read(place.aside("corrupt")[0].join("app.db")).unwrap(), damaged);
}

#[test]
fn t60_a_directory_in_place_of_the_database_is_78() {
    let place = Place::new();
    fs::create_dir(place.file("")).unwrap();
    place.refused(78, "unusable here: refuse");
}

#[test]
fn e16_what_a_killed_restore_has_left_goes_at_the_next_start() {
    let place = Place::used();
    place.lose();
    let left = place.volume().join(".app.db.holdfast-restore-0123456789abcdef");
    fs::write(&left, b"half a database").unwrap();
    place.start(0, "restore");
    assert!(!left.exists() && place.newest() == Some(30));
}

#[test]
fn t61_e03_the_good_generation_outlives_every_retention_of_a_database_that_does_not_descend_from_it() {
    for format in ["v0.3", "ltx"] {
        let place = Place::new();
        let config = place.dir.path().join("litestream.yml");
        let text = format!(
            "l0-retention: 1s\nl0-retention-check-interval: 1s\nsnapshot: {{interval: 1s, retention: 1s}}\n\
             levels: [{{interval: 1s}}]\ndbs:\n  - path: {}\n    replicas:\n      - path: {}\n        format: {format}\n\
             \x20       retention: 1s\n        retention-check-interval: 1s\n        sync-interval: 50ms\n",
            place.file("").display(),
            place.replica().display(),
        );
        fs::write(&config, text).unwrap();
        let run = |seconds: &str| {
            let writer = ours("writer").display().to_string();
            let scene =
                place.scene().var("LITESTREAM_FILE_PATH", "").var("LITESTREAM_CONFIG", config.display());
            scene.app([&writer, "--seconds", seconds, "--rate", "20"]).run()
        };
        run("1").expect(0);
        let good = place.newest().unwrap();
        let held: Vec<_> = traces(&place.replica()).into_keys().collect();
        // What an empty start leaves: a database that has nothing to do with the replica.
        place.lose();
        fs::remove_file(place.record()).unwrap();
        let other = rusqlite::Connection::open(place.file("")).unwrap();
        other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE other(a);").unwrap();
        drop(other);
        let second = run("5").expect(0);
        assert!(second.stderr.contains("on hold"), "{format}: {}", second.stderr);
        let left = traces(&place.replica());
        let gone: Vec<_> = held.iter().filter(|path| !left.contains_key(*path)).collect();
        assert!(gone.is_empty(), "{format}: {gone:?}\n{}", second.stderr);
        assert!(good > 0);
    }
}
