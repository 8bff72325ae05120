//! Replicas written by the real Litestream 0.3.13 restore to the bytes it restored itself. Touches a temporary directory.
//!
//! `tests/golden/v03/MANIFEST.json` lists every restore with the SHA-256 of its file, or the error Litestream gave.
//!
//! Deviations, each on purpose:
//! - a `-timestamp` after the last object restores the latest state (0.3.13: `no matching backups found`);
//! - the case `age` is encrypted, which Holdfast refuses by name;
//! - `resume-state` is not a restore but a working directory, for the replication tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;

use std::path::{Path, PathBuf};

use golden::sha256;
use holdfast::error::Kind;
use holdfast::plan::restore::{Target, Until};
use holdfast::run::restore::{Options, Outcome, Ownership, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};

fn unpack(case: &str, into: &Path) -> PathBuf {
    golden::unpack("v03", case, into).join("replica")
}

fn options(db: PathBuf, args: &[&str]) -> Options {
    let mut target = Target::LATEST;
    for pair in args.chunks(2) {
        match pair[0] {
            "-generation" => target.generation = Some(pair[1].parse().unwrap()),
            "-index" => target.until = Until::Index(pair[1].parse().unwrap()),
            "-timestamp" => target.until = Until::Time(pair[1].parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    Options {
        db,
        target,
        parallelism: 8,
        if_db_not_exists: false,
        force: false,
        seen: None,
        dry_run: false,
        ownership: Ownership::default(),
        show: Show::Nothing,
    }
}

/// Restores every case of `case` and compares; says how many there were.
async fn check(case: &str, restores: &[serde_json::Value]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::in_directory(unpack(case, dir.path()), &OpenOptions::default());
    let sources = [Source { name: "file".into(), store }];
    let target = dir.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let latest = restores.iter().find(|r| r["args"].as_array().unwrap().is_empty()).unwrap();
    for expected in restores {
        let args: Vec<_> = expected["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let db = target.join("app.db");
        let restored = restore(&sources, &options(db.clone(), &args)).await;
        if case == "age" {
            let e = restored.unwrap_err();
            assert_eq!(e.kind, Kind::Unrestorable, "{case} {args:?}: {e}");
            assert!(e.to_string().contains("encrypted with age"), "{case} {args:?}: {e}");
            assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "nothing is left behind");
            continue;
        }
        let Outcome::Restored(restored) = restored.unwrap_or_else(|e| panic!("{case} {args:?}: {e}")) else {
            panic!("{case} {args:?}: not restored")
        };
        // After the last object: Litestream refuses, we restore the latest and say so.
        let deviates = expected["rc"] == 1;
        if deviates {
            assert_eq!(
                (args[0], expected["error"].as_str()),
                ("-timestamp", Some("no matching backups found"))
            );
            assert!(restored.plan.notices.iter().any(|n| n.to_string().contains("nothing is as young as")));
        }
        let expected = if deviates { latest } else { expected };
        assert_eq!(sha256(&db), expected["file_sha256"].as_str().unwrap(), "{case} {args:?}");
        assert_eq!(restored.applied.size, expected["file_bytes"].as_u64().unwrap());
        let left: Vec<_> = std::fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["app.db"], "nothing is left behind");
        std::fs::remove_file(&db).unwrap();
    }
    restores.len()
}

#[tokio::test]
async fn every_golden_replica_restores_to_the_bytes_litestream_restored() {
    let manifest = golden::json(&golden::folder("v03").join("MANIFEST.json"));
    let (mut cases, mut restores) = (0, 0);
    for (case, expected) in manifest["cases"].as_object().unwrap() {
        // The larger cases are described in the manifest but not kept here.
        if !golden::cases("v03").contains(case) || expected["restores"].is_null() {
            continue;
        }
        cases += 1;
        restores += check(case, expected["restores"].as_array().unwrap()).await;
    }
    assert!(cases >= 13 && restores >= 120, "{cases} cases with {restores} restores");
}
