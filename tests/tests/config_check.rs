//! `holdfast config check`: exit codes, what goes to which stream, and the JSON a pipeline reads.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::process::{Command, Output};

use holdfast_tests::programs;
use serde_json::Value;

/// Runs `holdfast config check` with these flags on a file with this text.
fn check(text: &str, flags: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("l.yml");
    std::fs::write(&file, text).unwrap();
    Command::new(programs::ours("holdfast"))
        .args(["config", "check", "-config"])
        .arg(&file)
        .args(flags)
        .env_clear()
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const GOOD: &str = "dbs:\n  - path: /d.db\n    replicas: [{path: /r}]\n";
const ODD: &str = "dbs:\n  - path: /d.db\n    replicas:\n      - path: /r\n        retension: 1h\n";
const BAD: &str = "dbs:\n  - path: /d.db\n    replicas:\n      - {path: /r, retention: 7d}\n";

#[test]
fn a_good_file_is_0_an_odd_one_0_or_strictly_78_and_a_bad_one_78() {
    let good = check(GOOD, &["-strict"]);
    assert_eq!(good.status.code(), Some(0));
    assert!(text(&good.stdout).ends_with("l.yml: 1 database, 1 replica, no warnings\n"));
    assert_eq!(text(&good.stderr), "");
    for (flags, code) in [(&[][..], 0), (&["--strict"], 78)] {
        let odd = check(ODD, flags);
        assert_eq!(odd.status.code(), Some(code));
        let said = text(&odd.stderr);
        assert!(
            said.starts_with("warning: ") && said.contains("l.yml:5:9: dbs[0].replicas[0].retension: "),
            "{said}"
        );
        assert!(text(&odd.stdout).ends_with("1 warning\n"));
    }
    let bad = check(BAD, &[]);
    assert_eq!((bad.status.code(), text(&bad.stdout).as_str()), (Some(78), ""));
    let said = text(&bad.stderr);
    assert!(
        said.starts_with("holdfast: read ") && said.contains("l.yml:4:20: dbs[0].replicas[0].retention: "),
        "{said}"
    );
}

#[test]
fn the_json_names_severity_file_line_column_and_key() {
    for (yaml, outcome, severity, place, exit) in [
        (GOOD, "ok", None, None, 0),
        (ODD, "warning", Some("warning"), Some((5, 9)), 0),
        (BAD, "error", Some("error"), Some((4, 20)), 78),
    ] {
        let out = check(yaml, &["-json"]);
        assert_eq!(out.status.code(), Some(exit));
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(
            (answer["outcome"].as_str(), answer["exit"].as_i64()),
            (Some(outcome), Some(i64::from(exit)))
        );
        let finding = &answer["findings"][0];
        assert_eq!(finding["severity"].as_str(), severity);
        let found = finding["line"].as_u64().zip(finding["column"].as_u64());
        assert_eq!(found, place);
        assert!(severity.is_none() || finding["key"].as_str().unwrap().starts_with("dbs[0].replicas[0].ret"));
    }
}

#[test]
fn the_resolved_file_is_one_and_its_json_tells_the_origins() {
    let out = check(ODD, &["--resolved"]);
    assert_eq!(out.status.code(), Some(0));
    let again = check(&text(&out.stdout), &["--strict"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    let out = check(ODD, &["-resolved", "-json"]);
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
    let replica = &answer["resolved"]["dbs"][0]["replicas"][0];
    assert_eq!(replica["path"]["value"], "/r");
    assert_eq!(replica["path"]["source"]["line"], 4);
    assert_eq!(replica["retention"]["source"]["kind"], "default");
}

#[test]
fn no_configuration_at_all_is_a_warning() {
    let run = |flags: &[&str]| {
        let mut command = Command::new(programs::ours("holdfast"));
        command.args(["config", "check"]).args(flags).env_clear().output().unwrap()
    };
    if ["/config/litestream.yml", "/etc/litestream.yml"].iter().any(|p| std::path::Path::new(p).exists()) {
        panic!("this machine has a configuration of its own where the test needs none");
    }
    let out = run(&[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stderr).starts_with("warning: there is no configuration"), "{}", text(&out.stderr));
    assert_eq!(run(&["-strict"]).status.code(), Some(78));
}
