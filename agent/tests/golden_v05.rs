//! Replicas written by the real Litestream 0.5.x restore to the bytes it restored itself. Touches a temporary directory.
//!
//! Each archive of `tests/golden/v05` holds a `manifest.json` with every restore Litestream 0.5.17 made of it: the
//! SHA-256 of its file, or its error.
//!
//! Where ours differ on purpose, the table in `agent/src/run/restore.rs` says so, and why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use golden::sha256;
use holdfast::error::{Error, Kind};
use holdfast::format::ltx::{self, Name};
use holdfast::plan::restore::{Chain, Target, Until};
use holdfast::run::restore::{Options, Outcome, Ownership, Restored, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};
use jiff::Timestamp;
use serde_json::Value;

/// The case's directory and its manifest.
fn unpack(case: &str, into: &Path) -> (PathBuf, Value) {
    let dir = golden::unpack("v05", case, into);
    let manifest = golden::json(&dir.join("manifest.json"));
    (dir, manifest)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn options(db: &Path, args: &[Value]) -> Options {
    let mut target = Target::LATEST;
    let mut dry_run = false;
    let mut args = args.iter().map(text);
    while let Some(arg) = args.next() {
        match arg {
            "-txid" => target.until = Until::Txid(args.next().unwrap().parse().unwrap()),
            "-timestamp" => target.until = Until::Time(args.next().unwrap().parse().unwrap()),
            "-dry-run" => dry_run = true,
            other => panic!("{other}"),
        }
    }
    Options {
        db: db.to_owned(),
        target,
        parallelism: 8,
        if_db_not_exists: false,
        force: false,
        seen: None,
        dry_run,
        ownership: Ownership::default(),
        show: Show::Nothing,
    }
}

/// Restores into an empty directory and proves that nothing but the database is left there.
async fn restored(replica: &Path, args: &[Value]) -> Result<(Restored, String), Error> {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let store = Store::in_directory(replica, &OpenOptions::default());
    let done = restore(&[Source { name: "file".into(), store }], &options(&db, args)).await;
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    match done {
        Ok(Outcome::Restored(restored)) => {
            assert_eq!(left, ["app.db"], "nothing else is left behind");
            assert_eq!(restored.applied.size, db.metadata().unwrap().len());
            Ok((restored, sha256(&db)))
        }
        Ok(other) => panic!("{args:?}: {other:?}"),
        Err(e) => {
            assert!(left.is_empty(), "nothing is left behind: {left:?}");
            Err(e)
        }
    }
}

/// Restores as each of `restores` did and compares; says how many there were.
async fn check(case: &str, replica: &Path, restores: &[Value]) -> usize {
    let latest = restores.iter().find(|r| array(&r["args"]).is_empty()).unwrap_or(&Value::Null);
    for expected in restores {
        let args = array(&expected["args"]);
        if args == ["-dry-run"] {
            let store = Store::in_directory(replica, &OpenOptions::default());
            let sources = [Source { name: "file".into(), store }];
            let planned = restore(&sources, &options(Path::new("/nowhere/app.db"), args)).await.unwrap();
            assert!(matches!(planned, Outcome::Planned { .. }), "{case}: {planned:?}");
            continue;
        }
        let ours = restored(replica, args).await;
        match (&ours, expected["error"].as_str()) {
            (Ok((restored, sum)), Some(error)) => {
                assert!(error.ends_with("timestamp does not exist"), "{case} {args:?}: {error}");
                let said =
                    restored.plan.notices.iter().any(|n| n.to_string().contains("nothing is as young as"));
                assert!(said, "{case} {args:?}: {:?}", restored.plan.notices);
                assert_eq!(*sum, text(&latest["db_sha256"]), "{case} {args:?}");
            }
            (Ok((_, sum)), None) => {
                assert_eq!(*sum, text(&expected["db_sha256"]), "{case} {args:?}");
                assert_eq!(expected["rc"], 0, "{case} {args:?}");
            }
            (Err(e), Some(_)) => assert_eq!(e.kind, Kind::Unrestorable, "{case} {args:?}: {e}"),
            (Err(e), None) => panic!("{case} {args:?}: {e}"),
        }
    }
    restores.len()
}

/// Replicas of one layout, and what the other tests are about.
const CASES: [&str; 5] =
    ["g1-tiny-512", "g2-levels-4096", "g3-restarts-full-L0", "g4-page-65536", "g8a-legacy-frame-v0512"];
const BOTH: &str = "g6-v03-then-v05-same-path";
const BUCKET: &str = "g7-s3-layout";
const READERS: &str = "reader-cases";

#[test]
fn no_case_and_nothing_in_a_manifest_is_left_out() {
    let mut known: Vec<_> = CASES.into_iter().chain([BOTH, BUCKET, READERS]).collect();
    known.sort_unstable();
    assert_eq!(golden::cases("v05"), known);
    let mut states = 0;
    for case in known {
        let dir = tempfile::tempdir().unwrap();
        let (_, manifest) = unpack(case, dir.path());
        for key in manifest.as_object().unwrap().keys() {
            let about = ["name", "how", "generator", "written_by"];
            let compared = ["files", "states", "restores", "restores_v3_times", "v3only", "objects", "cases"];
            assert!(about.contains(&key.as_str()) || compared.contains(&key.as_str()), "{case}: {key}");
        }
        // What is restored, here as there, is what the source held after that very transaction.
        let restores = manifest["restores"].as_array().into_iter().flatten();
        for restore in restores.filter(|r| r["args"][0] == "-txid" && r["rc"] == 0) {
            let txid = u64::from_str_radix(text(&restore["args"][1]), 16).unwrap();
            for state in array(&manifest["states"]).iter().filter(|s| s["txid"] == txid) {
                assert_eq!(state["user_dump_sha256"], restore["user_dump_sha256"], "{case} {txid}");
                states += 1;
            }
        }
    }
    assert_eq!(states, 51);
}

/// Rust sources, below `folder`.
fn sources(folder: &Path, into: &mut String) {
    for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match path.extension() {
            _ if path.is_dir() => sources(&path, into),
            Some(rs) if rs == "rs" => into.push_str(&std::fs::read_to_string(&path).unwrap()),
            _ => {}
        }
    }
}

#[test]
fn each_difference_that_is_documented_names_a_test() {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    sources(&agent.join("src"), &mut tests);
    sources(&agent.join("tests"), &mut tests);
    let docs = std::fs::read_to_string(agent.join("src/run/restore.rs")).unwrap();
    let (_, docs) = docs.split_once("differs from Litestream 0.5.17").unwrap();
    let table = docs.lines().skip(1).take_while(|l| !l.is_empty());
    let rows: Vec<_> = table.filter(|l| l.starts_with("//! | ")).collect();
    assert!(rows.len() > 15 && rows[0].ends_with("shown by |"), "{rows:?}");
    for row in &rows[2..] {
        let name = row.strip_suffix("` |").and_then(|row| row.rsplit_once("| `")).map(|(_, name)| name);
        let found = name.is_some_and(|name| tests.contains(&format!("fn {name}(")));
        assert!(found, "{row}");
    }
}

#[tokio::test]
async fn every_golden_replica_restores_to_the_bytes_litestream_restored() {
    let mut restores = 0;
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        let (dir, manifest) = unpack(case, dir.path());
        restores += check(case, &dir.join("replica"), array(&manifest["restores"])).await;
    }
    assert_eq!(restores, 201);
}

#[tokio::test]
async fn a_path_with_both_layouts_restores_the_younger_state_or_the_one_asked_for() {
    let case = BOTH;
    let dir = tempfile::tempdir().unwrap();
    let (dir, manifest) = unpack(case, dir.path());
    let replica = dir.join("replica");
    check(case, &replica, array(&manifest["restores"])).await;
    check(case, &replica, array(&manifest["restores_v3_times"])).await;
    check(case, &dir.join("replica-v3only"), array(&manifest["v3only"])).await;
    let (latest, _) = restored(&replica, &[]).await.unwrap();
    assert!(matches!(latest.plan.chain, Chain::Ltx(_)));
}

#[tokio::test]
async fn the_keys_of_s3_restore_too_and_by_the_dates_their_writer_gave_them() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, manifest) = unpack(BUCKET, dir.path());
    let bucket = dir.join("bucket");
    for object in array(&manifest["objects"]) {
        // What a bucket keeps as metadata is a file's date in a directory.
        let date: Timestamp = text(&object["metadata"]["x-amz-meta-litestream-timestamp"]).parse().unwrap();
        let file = File::options().write(true).open(bucket.join(text(&object["key"]))).unwrap();
        file.set_modified(date.into()).unwrap();
    }
    let restores = check("g7", &bucket.join("some/prefix"), array(&manifest["restores"])).await;
    assert_eq!(restores, 2);
}

/// What went wrong, by the word that names it and the file at fault; `None` where Litestream restores.
const READER_CASES: [(&str, Option<(&str, &str)>); 22] = [
    ("01", None),
    ("03", None),
    ("05", None),
    ("07", None),
    ("09", Some(("file checksum at byte", "ltx/0/0000000000000001-0000000000000001.ltx"))),
    ("11", None),
    ("13", Some(("bytes after the end of the file at byte", "ltx/0/0000000000000001-0000000000000001.ltx"))),
    (
        "15",
        Some(("cannot be told from its neighbours any more", "ltx/9/0000000000000001-0000000000000003.ltx")),
    ),
    ("17", None),
    ("19", None),
    // 0.5.17 notices at the next file only, and not at all where the name is the wider one.
    ("21", Some(("header, byte 24: last transaction", "ltx/9/0000000000000001-0000000000000003.ltx"))),
    ("23", Some(("expected page 3", "ltx/0/0000000000000001-0000000000000001.ltx"))),
    ("25", Some(("no LTX file starts at transaction 1", "ltx/0/0000000000000002-0000000000000002.ltx"))),
    ("27", Some(("empty file", "ltx/0/0000000000000001-0000000000000001.ltx"))),
    // 0.5.17 panics.
    ("29", Some(("truncated", "ltx/0/0000000000000001-0000000000000001.ltx"))),
    ("31", Some(("page 10 of", "ltx/0/0000000000000002-0000000000000002.ltx"))),
    ("33", Some(("none of a replica", "ltx/10/0000000000000001-0000000000000001.ltx"))),
    ("35", None),
    ("37", None),
    ("39", Some(("nothing is as old as", ""))),
    ("41", None),
    ("43", None),
];

#[tokio::test]
async fn every_reader_case_restores_or_fails_as_it_should_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, manifest) = unpack(READERS, dir.path());
    let cases = array(&manifest["cases"]);
    assert_eq!(cases.len(), READER_CASES.len());
    for (case, (number, expected)) in cases.iter().zip(READER_CASES) {
        let (name, title) = (text(&case["case"]), text(&case["title"]));
        assert_eq!(name, number);
        let ours = restored(&dir.join(name).join("replica"), array(&case["args"])).await;
        match (ours, expected) {
            (Ok((_, sum)), None) => assert_eq!(sum, text(&case["db_sha256"]), "{name} {title}"),
            (Err(e), Some((word, file))) => {
                assert_eq!(e.kind, Kind::Unrestorable, "{name} {title}: {e}");
                let said = e.to_string();
                assert!(said.contains(word) && said.contains(file), "{name} {title}: {said}");
                assert_ne!(case["rc"], 0, "{name} {title}");
            }
            (ours, _) => panic!("{name} {title}: {ours:?}"),
        }
    }
}

#[test]
fn every_file_litestream_wrote_decodes_as_its_manifest_says() {
    let mut files = 0;
    for case in CASES.into_iter().chain([BOTH]) {
        let dir = tempfile::tempdir().unwrap();
        let (dir, manifest) = unpack(case, dir.path());
        for file in array(&manifest["files"]) {
            let key = text(&file["path"]);
            let Some((name, _)) = Name::parse(key) else { continue };
            let stored = Bytes::from(std::fs::read(dir.join("replica").join(key)).unwrap());
            let summary = ltx::decode(stored, |_, _| {}).unwrap_or_else(|e| panic!("{case} {key}: {e}"));
            let header = summary.header;
            header.check_name(&name).unwrap();
            let timestamp = Timestamp::from_millisecond(header.timestamp).unwrap();
            assert_eq!(timestamp, text(&file["timestamp"]).parse().unwrap(), "{case} {key}");
            let found = [
                summary.size,
                header.commit.into(),
                summary.pages,
                header.page_size.get().into(),
                header.wal.offset,
                header.wal.size,
            ];
            let said = ["size", "commit", "pages", "page_size", "wal_offset", "wal_size"];
            assert_eq!(found, said.map(|k| file[k].as_u64().unwrap()), "{case} {key}");
            assert_eq!(format!("{:016x}", summary.checksum), text(&file["file_checksum"]), "{case} {key}");
            let salt = format!("{}{}", text(&file["wal_salt1"]), text(&file["wal_salt2"]));
            assert_eq!(header.wal.salt.to_string(), salt, "{case} {key}");
            files += 1;
        }
    }
    assert_eq!(files, 75);
}
