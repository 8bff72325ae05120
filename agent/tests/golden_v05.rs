//! Replicas written by the real Litestream 0.5.x restore to the bytes it restored itself. Touches a temporary directory.
//!
//! Each archive of `tests/golden/v05` holds a `manifest.json` with every restore Litestream 0.5.17 made of it: the
//! SHA-256 of its file, or its error.
//!
//! Deviations, each on purpose:
//! - a `-timestamp` after the last file restores the latest state and says so (0.5.17 with a URL: `timestamp does not
//!   exist`; with a configuration: the latest state);
//! - a `-dry-run` over a v0.3 replica says what would be restored (0.5.17 does not look at it);
//! - a file that is cut off at the end of its pages is an error like any other (0.5.17 panics);
//! - a name that promises other transactions than its file holds is refused at that file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use holdfast::error::{Error, Kind};
use holdfast::format::ltx::{self, Name};
use holdfast::plan::restore::{Chain, Target, Until};
use holdfast::run::restore::{Options, Outcome, Ownership, Restored, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};
use jiff::Timestamp;
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/v05")
}

/// The case's directory and its manifest.
fn unpack(case: &str, into: &Path) -> (PathBuf, Value) {
    let archive = golden().join(format!("{case}.tar.gz"));
    let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into).status().unwrap();
    assert!(done.success(), "tar -xzf {}", archive.display());
    let dir = into.join(case);
    let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
    (dir, serde_json::from_slice(&manifest).unwrap())
}

fn sha256(file: &Path) -> String {
    let out = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()[..64].to_owned()
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

#[tokio::test]
async fn every_golden_replica_restores_to_the_bytes_litestream_restored() {
    let mut restores = 0;
    for case in
        ["g1-tiny-512", "g2-levels-4096", "g3-restarts-full-L0", "g4-page-65536", "g8a-legacy-frame-v0512"]
    {
        let dir = tempfile::tempdir().unwrap();
        let (dir, manifest) = unpack(case, dir.path());
        restores += check(case, &dir.join("replica"), array(&manifest["restores"])).await;
    }
    assert_eq!(restores, 201);
}

#[tokio::test]
async fn a_path_with_both_layouts_restores_the_younger_state_or_the_one_asked_for() {
    let case = "g6-v03-then-v05-same-path";
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
    let (dir, manifest) = unpack("g7-s3-layout", dir.path());
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
    let (dir, manifest) = unpack("reader-cases", dir.path());
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
    for case in [
        "g1-tiny-512",
        "g2-levels-4096",
        "g3-restarts-full-L0",
        "g4-page-65536",
        "g6-v03-then-v05-same-path",
        "g8a-legacy-frame-v0512",
    ] {
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
