//! `holdfast init`: what it writes for each destination is taken by everybody who has to read it, and it writes over
//! nothing. That the files work is shown where their examples are: `deploy_compose`, `deploy_systemd`.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::process::{self, Finished, command};
use holdfast_tests::programs;
use holdfast_tests::tool::Tool;

const SOON: Duration = Duration::from_secs(60);
const URLS: [&str; 6] = [
    "s3://backups/production/station-db?region=eu-central-1",
    "s3://backups/station-db?endpoint=http://minio.storage.svc:9000",
    "gs://backups/station-db",
    "abs://account@container/station-db",
    "sftp://station@backup.example:2222/srv/station-db",
    "file:///backup/station-db",
];

const CUSTOMER_KEY: &str = "s3://b/p?region=r&sse-customer-key=c2VjcmV0QHNlY3JldEBzZWNyZXRAc2VjcmV0QHNlY3I=";

fn init(dir: &Path, arguments: &[&str]) -> Finished {
    let mut init = Tool::Holdfast.command("init");
    process::run(init.arg("-o").arg(dir).args(arguments), SOON)
}

/// Every file below `dir`, by its path.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => drop(all.insert(path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    all
}

#[test]
fn what_is_written_for_each_destination_is_taken_by_its_readers() {
    for url in URLS {
        let dir = tempfile::tempdir().unwrap();
        let done = init(dir.path(), &[url]).expect_success(url);
        for name in contents(dir.path()).keys() {
            let name = name.strip_prefix(dir.path()).unwrap().to_str().unwrap();
            assert!(done.stdout.lines().any(|line| line == name), "{name} is not named:\n{}", done.stdout);
        }
        let mut check = command(Tool::Holdfast.program());
        check.args(["config", "check", "-strict", "-config"]).arg(dir.path().join("litestream.yml"));
        process::run(&mut check, SOON).expect_success(url);

        let mut compose = command("docker-compose");
        fs::copy(dir.path().join(".env.example"), dir.path().join(".env")).unwrap();
        compose.current_dir(dir.path()).args(["config", "--quiet"]);
        let done = process::run(&mut compose, SOON);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""), "{url}");

        let manifests: Vec<_> =
            fs::read_dir(dir.path().join("kubernetes")).unwrap().map(|e| e.unwrap().path()).collect();
        let mut validate = command(programs::state().join("venv/bin/kubernetes-validate"));
        validate.args(["--strict", "--kubernetes-version", "1.37"]).args(&manifests);
        let done = process::run(&mut validate, SOON);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(done.code == 0 && !said.contains("WARN") && !said.contains("ERROR"), "{url}:\n{said}");

        let mut lint = command(programs::state().join("venv/bin/hadolint"));
        process::run(lint.arg(dir.path().join("Dockerfile")), SOON).expect_success(url);
    }
}

#[test]
fn a_file_that_is_there_keeps_everything_from_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("kubernetes/single.yaml");
    fs::create_dir(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    let before = contents(dir.path());
    let done = init(dir.path(), &[URLS[0]]);
    assert_eq!(done.code, 73);
    let told = format!(
        "holdfast: write into {}: there already: {} (name another directory with -o; nothing was written)\n",
        dir.path().display(),
        mine.display()
    );
    assert_eq!(done.stderr, told);
    assert_eq!(contents(dir.path()), before);

    fs::remove_file(&mine).unwrap();
    init(dir.path(), &[URLS[0]]).expect_success("init");
    let written = contents(dir.path());
    assert_eq!(init(dir.path(), &[URLS[5]]).code, 73);
    assert_eq!(contents(dir.path()), written);
}

#[test]
fn a_password_or_a_place_that_makes_no_sense_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (url, code, says) in [
        ("sftp://me:secret@host/path", 64, "the URL holds a password"),
        ("webdav://host/path", 78, "webdav"),
        ("s3:///path", 78, "bucket"),
        (CUSTOMER_KEY, 64, "the URL holds a customer's key"),
    ] {
        let done = init(dir.path(), &[url]);
        assert_eq!(done.code, code, "{url}: {}", done.stderr);
        assert!(
            done.stderr.contains(says) && !done.stderr.contains("secret@") && !done.stderr.contains("c2Vj"),
            "{url}: {}",
            done.stderr
        );
        assert_eq!(contents(dir.path()), BTreeMap::new(), "{url}");
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let done = init(&file, &[URLS[0]]);
    assert_eq!(done.code, 73, "{}", done.stderr);
}
