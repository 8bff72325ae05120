//! The command `restore` as a shell sees it: exit codes, `-json`, what is left on disk. Runs the binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A golden replica, a directory to restore to, and a configuration that names both.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/v03/multi-snapshot.tar.gz");
        let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir.path()).status().unwrap();
        assert!(done.success());
        fs::create_dir(dir.path().join("data")).unwrap();
        let scene = Self { dir };
        let (db, replica) = (scene.db(), scene.replica());
        let config =
            format!("dbs:\n  - path: {}\n    replicas:\n      - path: {}\n", db.display(), replica.display());
        fs::write(scene.config(), config).unwrap();
        scene
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("data/app.db")
    }

    fn replica(&self) -> PathBuf {
        self.dir.path().join("multi-snapshot/replica")
    }

    fn url(&self) -> String {
        format!("file://{}", self.replica().display())
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("litestream.yml")
    }

    /// What lies there, but for the record of where the database comes from.
    fn data(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path().join("data"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".holdfast"))
            .collect();
        names.sort();
        names
    }

    /// `restore -config F ARGS DB`
    fn restore(&self, args: &[&str]) -> Output {
        let (config, db) = (self.config(), self.db());
        let mut all = vec!["restore", "-config", config.to_str().unwrap()];
        all.extend(args);
        all.push(db.to_str().unwrap());
        holdfast(&all)
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

fn holdfast(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn a_restore_says_what_it_did_for_people_and_for_machines() {
    let scene = Scene::new();
    let done = scene.restore(&["-json"]);
    assert_eq!(code(&done), 0, "{done:?}");
    let value = json(&done);
    assert_eq!(
        (&value["outcome"], &value["exit"], &value["replica"]),
        (&"restored".into(), &0.into(), &"file".into())
    );
    assert_eq!(value["bytes_written"], fs::metadata(scene.db()).unwrap().len());
    assert_eq!(value["generation"], "cb9866c88771be24");
    assert!(value["position"].as_str().unwrap().starts_with("cb9866c88771be24/"), "{value}");
    assert!(stderr(&done).contains("restored in"), "{done:?}");
    assert_eq!(scene.data(), ["app.db"]);
    let db = rusqlite::Connection::open(scene.db()).unwrap();
    let check: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_url_restores_without_any_configuration() {
    let scene = Scene::new();
    let out = scene.dir.path().join("new/folder/copy.db");
    assert_eq!(code(&holdfast(&["restore", "-o", out.to_str().unwrap(), &scene.url()])), 0);
    let second = scene.dir.path().join("second.db");
    assert_eq!(code(&holdfast(&["restore", &scene.url(), second.to_str().unwrap()])), 0);
    assert_eq!(fs::read(out).unwrap(), fs::read(second).unwrap());
    let without = holdfast(&["restore", &scene.url()]);
    assert_eq!(code(&without), 64);
    assert!(stderr(&without).contains("output path required"), "{without:?}");
    let both = holdfast(&["restore", "-config", "x", "-o", "y", &scene.url()]);
    assert_eq!(code(&both), 64);
}

#[test]
fn a_database_that_exists_is_kept_skipped_or_moved_aside() {
    let scene = Scene::new();
    fs::write(scene.db(), b"precious").unwrap();
    let refused = scene.restore(&[]);
    assert_eq!(code(&refused), 73);
    assert!(stderr(&refused).contains("exists already"), "{refused:?}");
    let skipped = scene.restore(&["-if-db-not-exists", "-json"]);
    assert_eq!((code(&skipped), json(&skipped)["outcome"].as_str()), (0, Some("exists")));
    assert_eq!(fs::read(scene.db()).unwrap(), b"precious");
    let moved = scene.restore(&["-force", "-json"]);
    assert_eq!(code(&moved), 0, "{moved:?}");
    let folder = PathBuf::from(json(&moved)["moved"].as_str().unwrap());
    assert_eq!(fs::read(folder.join("app.db")).unwrap(), b"precious");
}

#[test]
fn what_another_database_left_is_not_opened_and_not_removed() {
    for suffix in ["-wal", "-shm", "-journal"] {
        let scene = Scene::new();
        let left = scene.dir.path().join(format!("data/app.db{suffix}"));
        fs::write(&left, b"stale").unwrap();
        let refused = scene.restore(&["-if-db-not-exists"]);
        assert_eq!(code(&refused), 65);
        assert!(stderr(&refused).contains(&format!("app.db{suffix}")), "{refused:?}");
        assert_eq!(scene.data(), [format!("app.db{suffix}")]);
    }
}

#[test]
fn empty_broken_and_unreachable_are_three_different_answers() {
    let scene = Scene::new();
    fs::rename(scene.replica(), scene.dir.path().join("hidden")).unwrap();
    let empty = scene.restore(&["-json"]);
    assert_eq!((code(&empty), json(&empty)["kind"].as_str()), (66, Some("empty")), "{empty:?}");
    let allowed = scene.restore(&["-if-replica-exists", "-json"]);
    assert_eq!((code(&allowed), json(&allowed)["outcome"].as_str()), (0, Some("empty")));

    fs::create_dir_all(scene.replica().join("generations/cb9866c88771be24/wal")).unwrap();
    fs::write(scene.replica().join("generations/cb9866c88771be24/wal/00000000_00000000.wal.lz4"), b"x")
        .unwrap();
    let broken = scene.restore(&["-if-replica-exists", "-json"]);
    assert_eq!((code(&broken), json(&broken)["kind"].as_str()), (76, Some("unrestorable")), "{broken:?}");

    let start = Instant::now();
    let gone = command(&[
        "restore",
        "-json",
        "-if-replica-exists",
        "-o",
        "x.db",
        "s3://b/p?endpoint=http://127.0.0.1:1",
    ])
    .env("AWS_ACCESS_KEY_ID", "AKID")
    .env("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    .current_dir(scene.dir.path())
    .output()
    .unwrap();
    assert_eq!((code(&gone), json(&gone)["kind"].as_str()), (69, Some("unavailable")), "{gone:?}");
    assert!(stderr(&gone).contains("s3://b/p") && !stderr(&gone).contains("not-to-be-seen"), "{gone:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "it gives up: {:?}", start.elapsed());
    assert_eq!(scene.data(), Vec::<String>::new());
}

#[test]
fn a_database_or_replica_the_configuration_does_not_have_is_78() {
    let scene = Scene::new();
    let config = scene.config();
    let other = holdfast(&["restore", "-config", config.to_str().unwrap(), "/nowhere/else.db"]);
    assert_eq!(code(&other), 78);
    let app = scene.db().display().to_string();
    assert!(
        stderr(&other).contains("database not found in config: /nowhere/else.db")
            && stderr(&other).contains(&app)
    );
    assert_eq!(code(&scene.restore(&["-replica", "s3"])), 78);
    assert_eq!(code(&holdfast(&["restore", "-config", "/nowhere.yml", &app])), 78);
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let scene = Scene::new();
    let plan = scene.restore(&["-dry-run"]);
    assert_eq!(code(&plan), 0);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(text.starts_with("file: generation cb9866c88771be24: snapshot "), "{text}");
    assert_eq!(scene.data(), Vec::<String>::new());
}

#[test]
fn a_full_disk_is_73_and_leaves_the_disk_as_it_was() {
    let scene = Scene::new();
    let small = scene.dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=32k tmpfs {small} && {holdfast} restore -o {small}/app.db {url}; code=$?; ls -A {small}; exit $code",
        small = small.display(),
        holdfast = env!("CARGO_BIN_EXE_holdfast"),
        url = scene.url(),
    );
    // A mount of its own: as root, or as root of a user namespace.
    let root = nix::unistd::geteuid().is_root();
    let flags = if root { "-m" } else { "-rm" };
    let full = Command::new("unshare").args([flags, "sh", "-c", &script]).output().unwrap();
    assert_eq!(code(&full), 73, "{full:?}");
    assert!(stderr(&full).contains("No space left on device"), "{full:?}");
    assert_eq!(String::from_utf8_lossy(&full.stdout), "", "nothing is left in the directory");
}

/// An S3 server that lists one snapshot and never sends it.
fn stalling_bucket() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut head = [0; 4096];
                let n = stream.read(&mut head).unwrap_or(0);
                if !String::from_utf8_lossy(&head[..n]).contains("list-type=2") {
                    std::thread::sleep(Duration::from_secs(60));
                }
                let key = "p/generations/00000000000000aa/snapshots/00000000.snapshot.lz4";
                let body = format!(
                    "<ListBucketResult><Contents><Key>{key}</Key><Size>99</Size><LastModified>2026-11-21T07:47:26.000Z</LastModified></Contents><IsTruncated>false</IsTruncated></ListBucketResult>"
                );
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn a_signal_in_the_middle_ends_it_with_nothing_left_behind() {
    for (signal, expected) in [(nix::sys::signal::SIGTERM, 143), (nix::sys::signal::SIGINT, 130)] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("app.db");
        let url = format!("s3://b/p?endpoint={}", stalling_bucket());
        let mut child = command(&["restore", "-o", out.to_str().unwrap(), &url])
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "SECRET")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The plan is printed once the transfer is about to begin.
        let mut seen = String::new();
        let mut err = child.stderr.take().unwrap();
        while !seen.contains("restoring generation") {
            let mut byte = [0];
            assert_eq!(err.read(&mut byte).unwrap(), 1, "ended early: {seen}");
            seen.push(char::from(byte[0]));
        }
        std::thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(expected));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn two_restores_at_once_leave_one_winner_and_one_whole_database() {
    let scene = Scene::new();
    let (config, db) = (scene.config(), scene.db());
    let args = ["restore", "-config", config.to_str().unwrap(), db.to_str().unwrap()];
    let children: Vec<_> = (0..4).map(|_| command(&args).stderr(Stdio::null()).spawn().unwrap()).collect();
    let mut codes: Vec<_> = children.into_iter().map(|mut c| c.wait().unwrap().code().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 73, 73, 73]);
    assert_eq!(scene.data(), ["app.db"]);
}

#[test]
fn the_listings_have_litestreams_columns() {
    let scene = Scene::new();
    let config = scene.config();
    let listed = |command: &str| {
        let mut args = vec![command, "-config", config.to_str().unwrap()];
        let db = scene.db().display().to_string();
        if command != "databases" {
            args.push(&db);
        }
        let output = holdfast(&args);
        assert_eq!(code(&output), 0, "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let databases = listed("databases");
    assert_eq!(databases.lines().count(), 2);
    assert!(databases.lines().nth(1).unwrap().ends_with("data/app.db  file"), "{databases}");
    let snapshots = listed("snapshots");
    assert_eq!(snapshots.lines().next().unwrap(), "replica  generation        index  size  created");
    assert!(
        snapshots.lines().nth(1).unwrap().starts_with("file     cb9866c88771be24  0      "),
        "{snapshots}"
    );
    let wal = listed("wal");
    assert_eq!(wal.lines().next().unwrap(), "replica  generation        index  offset  size  created");
    assert!(wal.lines().nth(1).unwrap().starts_with("file     cb9866c88771be24  0      0       "), "{wal}");
    assert!(wal.lines().nth(1).unwrap().ends_with('Z'), "{wal}");
    let generations = listed("generations");
    let header: Vec<_> = generations.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["name", "generation", "lag", "start", "end"]);
}

#[test]
fn a_listing_that_fails_says_so_with_its_code() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.replica()).unwrap();
    fs::write(scene.replica(), b"not a directory").unwrap();
    let failed = holdfast(&["snapshots", &scene.url()]);
    assert_eq!(code(&failed), 78, "{failed:?}");
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "replica  generation  index  size  created\n");
    assert!(stderr(&failed).contains("Not a directory"), "{failed:?}");
}
