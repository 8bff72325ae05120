//! `restore-points` lists what restores, and nothing else: each point of every golden replica is restored with the
//! flags the list gives for it. Runs the binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use golden::sha256;
use serde_json::Value;

fn holdfast(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The list of one replica, by its URL.
fn points(replica: &Path) -> (Vec<Value>, String) {
    let url = format!("file://{}", replica.display());
    let listed = holdfast(&["restore-points", "-json", &url]);
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    (serde_json::from_slice(&listed.stdout).unwrap(), text(&listed.stderr))
}

/// Restores a point as the list says and returns what came out.
fn restored(replica: &Path, point: &Value) -> (PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let url = format!("file://{}", replica.display());
    let flags: Vec<&str> =
        point["restore_with"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let out = holdfast(&[&["restore", "-o", db.to_str().unwrap()], &flags[..], &[&url]].concat());
    assert_eq!(out.status.code(), Some(0), "{point}: {out:?}");
    (db, dir)
}

#[test]
fn of_ltx_files_every_point_restores_to_what_litestream_restores_and_no_other_transaction_does() {
    let mut listed = 0;
    for case in golden::cases("v05") {
        let dir = tempfile::tempdir().unwrap();
        let dir = golden::unpack("v05", &case, dir.path());
        let manifest = golden::json(&dir.join("manifest.json"));
        // Of the bucket there are two restores only, none of them of a transaction.
        let (true, Some(restores)) = (dir.join("replica").exists(), manifest["restores"].as_array()) else {
            continue;
        };
        let mut expected = BTreeMap::new();
        for restore in restores.iter().filter(|r| r["args"][0] == "-txid" && r["rc"] == 0) {
            expected.insert(restore["args"][1].as_str().unwrap(), restore["db_sha256"].as_str().unwrap());
        }
        let replica = dir.join("replica");
        let (points, _) = points(&replica);
        let of_ltx = points.iter().filter(|p| p["restore_with"][0] == "-txid");
        let sums = of_ltx.map(|p| (p["position"].as_str().unwrap(), sha256(&restored(&replica, p).0)));
        let sums: Vec<(&str, String)> = sums.collect();
        let sums: BTreeMap<&str, &str> = sums.iter().map(|(txid, sum)| (*txid, sum.as_str())).collect();
        assert_eq!(sums, expected, "{case}");
        listed += sums.len();
    }
    assert_eq!(listed, 51);
}

#[test]
fn of_generations_every_point_restores_and_the_last_is_the_latest() {
    let mut listed = 0;
    let others = ["age", "resume-state"];
    for case in golden::cases("v03").iter().filter(|c| !others.contains(&c.as_str())) {
        let dir = tempfile::tempdir().unwrap();
        let replica = golden::unpack("v03", case, dir.path()).join("replica");
        let (points, _) = points(&replica);
        let mut sum = String::new();
        for point in &points {
            sum = sha256(&restored(&replica, point).0);
        }
        let latest = golden::json(&golden::folder("v03").join("MANIFEST.json"));
        let latest = &latest["cases"][case]["restores"].as_array().unwrap()[0];
        assert!(latest["args"].as_array().unwrap().is_empty());
        assert_eq!(sum, latest["file_sha256"].as_str().unwrap(), "{case}");
        listed += points.len();
    }
    assert!(listed > 60, "{listed}");
}

#[test]
fn a_place_with_both_layouts_lists_both_by_date() {
    let dir = tempfile::tempdir().unwrap();
    let replica = golden::unpack("v05", "g6-v03-then-v05-same-path", dir.path()).join("replica");
    let (points, _) = points(&replica);
    let dates: Vec<jiff::Timestamp> =
        points.iter().map(|p| p["created"].as_str().unwrap().parse().unwrap()).collect();
    assert!(dates.is_sorted());
    let flags: Vec<&str> = points.iter().map(|p| p["restore_with"][0].as_str().unwrap()).collect();
    let generations = flags.iter().filter(|f| **f == "-generation").count();
    assert!(generations >= 3 && generations < flags.len(), "{flags:?}");
    points.iter().for_each(|p| drop(restored(&replica, p)));
}

#[test]
fn the_columns_say_how_much_is_merged_and_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let replica = golden::unpack("v05", "g1-tiny-512", dir.path()).join("replica");
    let (db, config) = (dir.path().join("app.db"), dir.path().join("litestream.yml"));
    let yaml = |replicas: &str| format!("dbs:\n  - path: {}\n    replicas:\n{replicas}", db.display());
    fs::write(&config, yaml(&format!("      - path: {}\n", replica.display()))).unwrap();
    let list = |args: &[&str]| {
        let (config, db) = (config.to_str().unwrap(), db.to_str().unwrap());
        holdfast(&[&["restore-points", "-config", config], args, &[db]].concat())
    };
    let listed = text(&list(&[]).stdout);
    let lines: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["replica", "created", "since", "uploads", "position", "restore", "with"]);
    assert_eq!(lines[1][..1], ["file"]);
    assert_eq!(lines[1][2..], ["-", "1", "0000000000000001", "-txid", "0000000000000001"]);
    // 2 and 3 were merged and deleted, and 4 is a file of its own.
    assert!(lines.len() > 2 && lines[2..].iter().all(|l| l.len() == 7 && l[2] != "-"), "{listed}");

    let help = text(&holdfast(&["restore-points", "--help"]).stdout);
    for said in ["--config", "--replica", "--json", "DB|URL", "created", "since", "uploads", "restore with"] {
        assert!(help.contains(said), "{said}: {help}");
    }

    let help = text(&holdfast(&["restore", "--help"]).stdout);
    assert!(help.contains("Exit codes: 0 restored"), "{help}");

    // With two replicas the flags say which.
    let two = format!(
        "      - name: a\n        path: {}\n      - name: b\n        path: {}/none\n",
        replica.display(),
        replica.display()
    );
    fs::write(&config, yaml(&two)).unwrap();
    let json: Value = serde_json::from_slice(&list(&["-json"]).stdout).unwrap();
    assert_eq!(json[0]["restore_with"], serde_json::json!(["-replica", "a", "-txid", "0000000000000001"]));
    assert_eq!((&json[0]["uploads"], &json[0]["since_ms"]), (&1.into(), &Value::Null));
    assert_eq!(text(&list(&["-replica", "b"]).stdout).lines().count(), 1, "nothing is there");
    assert_eq!(list(&["-replica", "c"]).status.code(), Some(78));
    let both = holdfast(&["restore-points", "-config", "x.yml", "file:///nowhere"]);
    assert_eq!(both.status.code(), Some(64), "{both:?}");
}

#[test]
fn what_stands_in_the_way_of_the_latest_state_is_said_first() {
    let dir = tempfile::tempdir().unwrap();
    let replica = golden::unpack("v05", "g8a-legacy-frame-v0512", dir.path()).join("replica");
    let (before, said) = points(&replica);
    assert_eq!(said, "");
    let last = before.last().unwrap()["position"].as_str().unwrap().to_owned();
    let beyond = format!("{:016x}", u64::from_str_radix(&last, 16).unwrap() + 2);
    fs::write(replica.join(format!("ltx/0/{beyond}-{beyond}.ltx")), "not looked at").unwrap();
    let (points, said) = points(&replica);
    assert_eq!(points, before, "nothing is restored across the gap");
    assert!(
        said.contains("the latest state does not restore") && said.contains("is in no LTX file"),
        "{said}"
    );
}
