//! Restoring LTX chains of our own making: what a chain may be made of, and what is refused, by the file at fault.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use holdfast::error::{Error, Kind};
use holdfast::format::ltx::{self, Header, Layout, Level, Name, PageEncoding, Rolling, Txid, WalPos};
use holdfast::format::wal::{PageSize, Salt};
use holdfast::plan::restore::{Target, Until};
use holdfast::run::restore::{Options, Outcome, Ownership, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};
use rusqlite::Connection;

const PAGE: usize = 512;

/// A database after each of some transactions, and a replica of it.
struct Scene {
    dir: tempfile::TempDir,
    /// `states[n]` is the database after transaction `n`; before the first one it is empty.
    states: Vec<Vec<u8>>,
}

impl Scene {
    /// Inserts, then deletes and shrinks, then grows again.
    fn new(transactions: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let path = dir.path().join("source.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("PRAGMA page_size={PAGE}; PRAGMA auto_vacuum=FULL; CREATE TABLE t(a, b);"))
            .unwrap();
        let mut states = vec![Vec::new()];
        for n in 0..transactions {
            match n % 5 {
                3 => db.execute("DELETE FROM t WHERE a % 3 > 0", []).unwrap(),
                _ => db
                    .execute(
                        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 20)
                         INSERT INTO t SELECT i, printf('%d %d ', ?1, i) || hex(randomblob(i)) FROM c",
                        [n as i64],
                    )
                    .unwrap(),
            };
            states.push(fs::read(&path).unwrap());
        }
        Self { dir, states }
    }

    fn replica(&self) -> PathBuf {
        self.dir.path().join("replica")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The pages that transactions `min` to `max` changed.
    fn pages(&self, min: u64, max: u64) -> Vec<(u32, &[u8])> {
        let (before, after) = (&self.states[min as usize - 1], &self.states[max as usize]);
        let changed =
            |(n, page): (usize, &[u8])| before.get(n * PAGE..(n + 1) * PAGE) != Some(page) || min == 1;
        let pages = after.chunks(PAGE).enumerate().filter(|(n, page)| changed((*n, page)));
        pages.map(|(n, page)| (n as u32 + 1, page)).collect()
    }

    fn header(&self, min: u64, max: u64) -> Header {
        Header {
            page_size: PageSize::new(PAGE as u32).unwrap(),
            commit: (self.states[max as usize].len() / PAGE) as u32,
            min: Txid::new(min).unwrap(),
            max: Txid::new(max).unwrap(),
            timestamp: 1_700_000_000_000 + max as i64 * 1000,
            wal: WalPos { offset: 32, size: 0, salt: Salt([0; 8]) },
            node: 0,
            rolling: None,
        }
    }

    fn stored(&self, min: u64, max: u64, encoding: PageEncoding) -> Vec<u8> {
        ltx::encode(self.header(min, max), encoding, self.pages(min, max)).unwrap()
    }

    fn key(level: u8, min: u64, max: u64) -> String {
        let (min, max) = (Txid::new(min).unwrap(), Txid::new(max).unwrap());
        Name { level: Level::new(level).unwrap(), min, max }.key(Layout::Folders)
    }

    fn put(&self, key: &str, stored: &[u8]) {
        let path = self.replica().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, stored).unwrap();
    }

    fn put_file(&self, level: u8, min: u64, max: u64, encoding: PageEncoding) {
        self.put(&Self::key(level, min, max), &self.stored(min, max, encoding));
    }

    /// One file per transaction, each in another encoding than the one before.
    fn put_each(&self) {
        for n in 1..self.states.len() as u64 {
            self.put_file(0, n, n, if n % 2 == 0 { PageEncoding::Frame } else { PageEncoding::Block });
        }
    }

    async fn restore(&self, target: Target) -> Result<Vec<u8>, Error> {
        let db = self.data().join("app.db");
        let store = Store::in_directory(self.replica(), &OpenOptions::default());
        let options = Options {
            db: db.clone(),
            target,
            parallelism: 3,
            if_db_not_exists: false,
            force: false,
            seen: None,
            dry_run: false,
            ownership: Ownership::default(),
            show: Show::Nothing,
        };
        let done = restore(&[Source { name: "file".into(), store }], &options).await;
        match done {
            Ok(Outcome::Restored(_)) => {
                let bytes = fs::read(&db).unwrap();
                fs::remove_file(&db).unwrap();
                Ok(bytes)
            }
            Ok(other) => panic!("{other:?}"),
            Err(e) => {
                assert_eq!(fs::read_dir(self.data()).unwrap().count(), 0, "nothing is left behind");
                Err(e)
            }
        }
    }

    /// The latest state does not restore; `key` is at fault, and the message says `what`.
    async fn refuses(&self, key: &str, what: &str) {
        let Err(e) = self.restore(Target::LATEST).await else { panic!("{key}, {what}: restored") };
        let said = e.to_string();
        assert_eq!(e.kind, Kind::Unrestorable, "{said}");
        assert!(said.contains(key) && said.contains(what), "{key}, {what}: {said}");
    }
}

fn until(txid: u64) -> Target {
    Target { until: Until::Txid(Txid::new(txid).unwrap()), ..Target::LATEST }
}

#[tokio::test]
async fn every_transaction_of_a_chain_in_both_encodings_restores() {
    let scene = Scene::new(12);
    scene.put_each();
    for n in 1..=12 {
        assert!(scene.restore(until(n)).await.unwrap() == scene.states[n as usize], "transaction {n}");
    }
    assert!(scene.restore(Target::LATEST).await.unwrap() == scene.states[12]);
}

#[tokio::test]
async fn levels_and_full_copies_lead_to_the_same_states() {
    let scene = Scene::new(12);
    scene.put_file(9, 1, 3, PageEncoding::Frame);
    scene.put_file(3, 1, 6, PageEncoding::Block);
    scene.put_file(1, 5, 8, PageEncoding::Block);
    scene.put_file(1, 9, 10, PageEncoding::Frame);
    scene.put_file(0, 10, 10, PageEncoding::Block);
    scene.put_file(0, 11, 11, PageEncoding::Block);
    for n in [3, 6, 8, 10, 11] {
        assert!(scene.restore(until(n)).await.unwrap() == scene.states[n as usize], "transaction {n}");
    }
    let level = |level| Target { level: Level::new(level), ..Target::LATEST };
    assert!(scene.restore(level(9)).await.unwrap() == scene.states[3]);
    assert!(scene.restore(level(1)).await.unwrap() == scene.states[10]);
    let e = scene.restore(until(5)).await.unwrap_err();
    assert!(e.to_string().contains("the nearest are 0000000000000003 and 0000000000000006"), "{e}");
}

#[tokio::test]
async fn a_truncated_file_is_named_wherever_it_ends() {
    let scene = Scene::new(3);
    for key in [Scene::key(0, 1, 1), Scene::key(0, 2, 2), Scene::key(0, 3, 3)] {
        scene.put_each();
        let whole = fs::read(scene.replica().join(&key)).unwrap();
        for end in [0, 99, 100, 105, whole.len() / 2, whole.len() - 30, whole.len() - 8, whole.len() - 1] {
            scene.put(&key, &whole[..end]);
            scene.refuses(&key, if end == 0 { "empty file" } else { "truncated" }).await;
        }
    }
}

#[tokio::test]
async fn every_kind_of_damage_is_named_with_its_file_and_its_place() {
    let scene = Scene::new(3);
    let key = Scene::key(0, 2, 2);
    let whole = scene.stored(2, 2, PageEncoding::Block);
    let index = {
        let bytes = whole[whole.len() - 24..].first_chunk().unwrap();
        whole.len() - 24 - u64::from_be_bytes(*bytes) as usize
    };
    let mut damages: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut damage = |what, at: usize, bytes: &[u8]| {
        let mut broken = whole.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        damages.push((what, broken));
    };
    damage("header, byte 0: magic", 0, b"LTX2");
    damage("header, byte 4: flags", 4, &[0, 0, 0, 9]);
    damage("header, byte 8: page size", 8, &[0, 0, 1, 0]);
    damage("page size 1024, but the newer files have 512", 8, &[0, 0, 4, 0]);
    damage("page 0 at byte 100: no page has this number", 100, &[0, 0, 0, 0]);
    damage("page 1 at byte 100: flags 0x0008", 105, &[8]);
    damage("is the lock page", 100, &(0x4000_0000 / PAGE as u32 + 1).to_be_bytes());
    damage("at byte 100: the database has", 100, &[0x7f, 0, 0, 0]);
    damage("stored bytes, expected at most", 106, &[0x7f, 0, 0, 0]);
    damage("page index, byte ", index + 1, &[0x7f]);
    damage("size field", whole.len() - 17, &[0xff]);
    damage("file checksum at byte", whole.len() - 1, &[whole[whole.len() - 1] ^ 1]);
    damage("file checksum at byte", 39, &[whole[39] ^ 1]);
    let mut long = whole.clone();
    long.push(0);
    damages.push(("bytes after the end of the file at byte", long));
    damages.push(("header, byte 16: first transaction", scene.stored(3, 3, PageEncoding::Block)));
    damages.push(("header, byte 24: last transaction", scene.stored(2, 3, PageEncoding::Block)));
    for (what, broken) in damages {
        scene.put_each();
        scene.put(&key, &broken);
        scene.refuses(&key, what).await;
    }
    // What no other file has, the newest is missing.
    scene.put_each();
    let mut header = scene.header(3, 3);
    header.commit += 4;
    scene.put(&Scene::key(0, 3, 3), &ltx::encode(header, PageEncoding::Block, scene.pages(3, 3)).unwrap());
    scene.refuses(&Scene::key(0, 3, 3), "is in none of the files up to this one").await;
    fs::remove_file(scene.replica().join(&key)).unwrap();
    scene.refuses(&Scene::key(0, 3, 3), "transaction 0000000000000002 is in no LTX file").await;
}

#[tokio::test]
async fn a_result_that_is_no_database_is_refused() {
    let scene = Scene::new(1);
    let key = Scene::key(0, 1, 1);
    let put = |at: usize, bytes: &[u8]| {
        let mut state = scene.states[1].clone();
        state[at..at + bytes.len()].copy_from_slice(bytes);
        let pages = (1..).zip(state.chunks(PAGE));
        scene.put(&key, &ltx::encode(scene.header(1, 1), PageEncoding::Block, pages).unwrap());
    };
    put(0, b"x");
    scene.refuses(&key, "not a SQLite database").await;
    put(16, &[4, 0]);
    scene.refuses(&key, "the database's header says page size 1024, this file 512").await;
    // As large as its own header says it is, or larger.
    put(28, &[0, 0, 1, 0]);
    scene.refuses(&key, "256").await;
    put(28, &[0, 0, 0, 1]);
    assert_eq!(scene.restore(Target::LATEST).await.unwrap().len(), scene.states[1].len());
}

/// The checksum of a whole database, as LiteFS keeps it.
fn rolling(state: &[u8]) -> Rolling {
    state.chunks(PAGE).zip(1..).fold(Rolling::EMPTY, |sum, (page, n)| sum.toggle(n, page))
}

#[tokio::test]
async fn checksums_of_the_database_are_verified_from_file_to_file_and_at_the_end() {
    let scene = Scene::new(6);
    let put = |n: u64, before: Rolling, after: Rolling| {
        let header = Header { rolling: Some(before), ..scene.header(n, n) };
        let mut out = Vec::new();
        let mut encoder = ltx::Encoder::new(header, PageEncoding::Block, &mut out).unwrap();
        for (number, page) in scene.pages(n, n) {
            encoder.push(number, page, &mut out).unwrap();
        }
        encoder.finish(Some(after), &mut out).unwrap();
        scene.put(&Scene::key(0, n, n), &out);
    };
    let sum = |n: u64| rolling(&scene.states[n as usize]);
    let put_all = || (1..=6).for_each(|n| put(n, sum(n - 1), sum(n)));
    put_all();
    assert!(scene.restore(Target::LATEST).await.unwrap() == scene.states[6]);
    let other = Rolling::from_stored(1 << 63 | 5).unwrap();
    put(6, sum(5), other);
    scene.refuses(&Scene::key(0, 6, 6), "the database has checksum").await;
    put_all();
    put(4, sum(3), other);
    scene.refuses(&Scene::key(0, 4, 4), "leaves a database with checksum").await;
    // A file without them between others says nothing.
    put_all();
    scene.put_file(0, 4, 4, PageEncoding::Frame);
    assert!(scene.restore(Target::LATEST).await.unwrap() == scene.states[6]);
}

fn holdfast(args: &[&str]) -> Output {
    shell(&format!("exec \"$HOLDFAST\" {}", args.join(" ")))
}

fn shell(line: &str) -> Output {
    Command::new("bash")
        .args(["-c", line])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOLDFAST", env!("CARGO_BIN_EXE_holdfast"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn two_thousand_files_restore_with_few_descriptors_and_little_memory() {
    let scene = Scene::new(40);
    // Every transaction once, and then the last state again and again.
    scene.put_each();
    let last = scene.states.len() as u64 - 1;
    for n in last + 1..=2000 {
        let txid = Txid::new(n).unwrap();
        let header = Header { min: txid, max: txid, ..scene.header(last, last) };
        let pages = scene.pages(last, last);
        scene.put(&Scene::key(0, n, n), &ltx::encode(header, PageEncoding::Block, pages).unwrap());
    }
    let out = scene.data().join("app.db");
    let line = format!(
        "ulimit -n 40; ulimit -d 200000; exec \"$HOLDFAST\" restore -o {} {}",
        out.display(),
        url(&scene.replica())
    );
    let done = shell(&line);
    assert_eq!(code(&done), 0, "{done:?}");
    assert!(fs::read(out).unwrap() == scene.states[last as usize]);
}

#[test]
fn the_command_takes_a_transaction_and_a_level_and_prints_its_plan() {
    let scene = Scene::new(4);
    scene.put_file(9, 1, 2, PageEncoding::Block);
    scene.put_file(0, 2, 2, PageEncoding::Block);
    scene.put_file(0, 3, 3, PageEncoding::Block);
    let (url, out) = (url(&scene.replica()), scene.data().join("app.db").display().to_string());
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let planned = holdfast(&["restore", "-dry-run", "-o", &out, &url]);
    assert_eq!(code(&planned), 0, "{planned:?}");
    let said = text(&planned);
    let rest = said.strip_prefix(
        "file: LTX: transactions 0000000000000001 to 0000000000000003 in 2 files of levels 9, 0, ",
    );
    assert_eq!(rest.unwrap().lines().nth(1).unwrap().split_whitespace().next(), Some("level"), "{said}");
    let json = holdfast(&["restore", "-dry-run", "-json", "-txid", "2", "-o", &out, &url]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["max_txid"], &json["files"][0]["level"]), (&"0000000000000002".into(), &9.into()));
    assert_eq!(json["files"][0]["name"], "0000000000000001-0000000000000002.ltx");
    assert_eq!(fs::read_dir(scene.data()).unwrap().count(), 0);

    let restored = holdfast(&["restore", "-json", "-level", "9", "-o", &out, &url]);
    assert_eq!(code(&restored), 0, "{restored:?}");
    let json: serde_json::Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!((&json["outcome"], &json["position"]), (&"restored".into(), &"0000000000000002".into()));
    assert!(fs::read(&out).unwrap() == scene.states[2]);
    fs::remove_file(&out).unwrap();

    for (args, expected) in [
        (&["-txid", "9"][..], 76),
        (&["-generation", "000000000000000a"], 76),
        (&["-index", "0"], 76),
        (&["-txid", "0"], 64),
        (&["-txid", "xyz"], 64),
        (&["-level", "10"], 64),
        (&["-txid", "1", "-timestamp", "2026-01-01T00:00:00Z"], 64),
        (&["-level", "1", "-index", "0"], 64),
        // Litestream 0.5's, and not ours.
        (&["-f"], 64),
        (&["-integrity-check", "quick"], 64),
    ] {
        let refused = holdfast(&[&["restore", "-o", &out][..], args, &[&url]].concat());
        assert_eq!(code(&refused), expected, "{args:?}: {refused:?}");
    }
}

#[test]
fn the_files_are_listed_with_litestreams_columns() {
    let scene = Scene::new(3);
    scene.put_file(9, 1, 2, PageEncoding::Block);
    scene.put_file(0, 3, 3, PageEncoding::Block);
    let url = url(&scene.replica());
    let lines = |args: &[&str]| -> Vec<Vec<String>> {
        let out = holdfast(&[args, &[&url]].concat());
        assert_eq!(code(&out), 0, "{out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let all = lines(&["ltx"]);
    assert_eq!(all[0], ["level", "min_txid", "max_txid", "size", "created"]);
    assert_eq!(all.len(), 3);
    assert_eq!(all[1][..3], ["0", "0000000000000003", "0000000000000003"]);
    assert_eq!(lines(&["ltx", "-level", "9"])[1][..3], ["9", "0000000000000001", "0000000000000002"]);
    assert_eq!(lines(&["ltx", "-level", "4"]).len(), 1);
    let json = holdfast(&["ltx", "-json", "-level", "all", &url]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let size = scene.stored(3, 3, PageEncoding::Block).len();
    assert_eq!((json[0]["size"].as_u64(), &json[1]["level"]), (Some(size as u64), &9.into()));
    assert_eq!(code(&holdfast(&["ltx", "-level", "10", &url])), 64);
    // The commands for the other layout say where to look.
    for command in ["generations", "snapshots", "wal"] {
        let out = holdfast(&[command, &url]);
        assert_eq!((code(&out), out.stdout.iter().filter(|b| **b == b'\n').count()), (0, 1), "{out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("`ltx` lists them"), "{out:?}");
    }
}
