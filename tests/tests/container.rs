//! The image, in a real engine: fresh start, proven stop, a lost volume brought back, refusals.
//! Runs podman. Every container has no network, no capabilities, a read-only root and an unprivileged user.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::ceph::Ceph;
use holdfast_tests::container::{Container, Engine, Volume};
use holdfast_tests::images::{APP, HOLDFAST, images, stage};
use holdfast_tests::oracle::{self, State};
use holdfast_tests::process::{self, command};
use holdfast_tests::procfs::Cost;
use holdfast_tests::{programs, workload};

const SOON: Duration = Duration::from_secs(20);

/// As hard as an engine can make it.
const HARDENED: [&str; 5] = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--stop-timeout=10",
];

/// Starts the app image on volume `data` with the file replica in volume `backup`.
#[track_caller]
fn start<'e>(engine: &'e Engine, name: &str, data: &Volume, backup: &Volume, app: &[&str]) -> Container<'e> {
    let (data, backup) = (data.at("/data"), backup.at("/backup"));
    let mut flags = HARDENED.to_vec();
    flags.extend(["--volume", &data, "--volume", &backup]);
    flags.extend(["--env=LITESTREAM_FILE_PATH=/backup/station-db", "--env=SUPERVISOR_STOP_GRACE=10s"]);
    engine.start(name, &flags, APP, &[&["writer"], app].concat())
}

/// The state of the stopped container's database, judged on a copy: looking must not change what the next start finds.
#[track_caller]
fn state(data: &Volume) -> State {
    let copy = tempfile::tempdir().unwrap();
    for name in ["station.db", "station.db-wal"] {
        let from = data.path.join(name);
        if from.exists() {
            fs::copy(from, copy.path().join(name)).unwrap();
        }
    }
    oracle::expect_state(&copy.path().join("station.db"), "the database in the volume")
}

#[test]
fn the_image_runs_both_programs_unprivileged_and_says_how_to_be_stopped() {
    let Some(engine) = images() else { return };
    let format =
        "{{.User}} {{.Config.Entrypoint}} {{.Config.StopSignal}} {{.Config.WorkingDir}} {{.Config.Volumes}}";
    for (image, entrypoint) in [(HOLDFAST, "[holdfast-supervisor]"), (APP, "[holdfast-supervisor --]")] {
        assert_eq!(
            engine.ask(["image", "inspect", "--format", format, image]),
            format!("1000:1000 {entrypoint} SIGTERM /data map[/data:{{}}]")
        );
    }
    let run = |image: &str, flags: &[&str], args: &[&str]| {
        engine.call([&["run", "--rm"], &HARDENED[..], flags, &[image], args].concat())
    };
    for program in ["holdfast", "litestream"] {
        let version = run(APP, &["--entrypoint", program], &["version"]).expect_success(program);
        assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    }
    assert_eq!(run(HOLDFAST, &[], &[]).code, 64, "no command is a usage error");
    assert_eq!(run(HOLDFAST, &[], &["--", "stn", "serve"]).code, 127, "nothing but Holdfast is in it");
    // 25 MB is the limit of what people pull, which docker/stage holds: that has the profile `dist`, whose agent has 20 MB
    // where this one has 31.
    let size: u64 = engine.ask(["image", "inspect", "--format", "{{.Size}}", HOLDFAST]).parse().unwrap();
    println!("image: {:.1} MB", size as f64 / 1e6);
    assert!(size < 37_000_000, "{size} bytes: more than 25 MB with the profile `dist`?");
}

/// The image is built for the machine that builds it, whatever that is.
#[test]
fn nothing_about_the_image_names_an_architecture() {
    let docker = programs::root().join("docker");
    for name in ["Dockerfile", "app.Dockerfile", "stage", "pid1.ld"] {
        let text = fs::read_to_string(docker.join(name)).unwrap();
        for word in ["x86", "amd64", "arm64", "aarch64", "--platform", "linux-gnu", "linux-musl", "/lib64"] {
            assert!(!text.contains(word), "{name} names {word}");
        }
    }
    let stage = fs::read_to_string(docker.join("stage")).unwrap();
    assert!(stage.contains("target=$(rustc -vV | sed -n 's/^host: //p')"), "the target is the host");
}

#[test]
fn t93_e19_a_stop_is_proven_in_time_and_a_lost_volume_comes_back_equal() {
    let Some(engine) = images() else { return };
    let (data, backup) = (engine.volume("data"), engine.volume("backup"));
    let first = start(&engine, "first", &data, &backup, &["--rate", "300", "--truth", "/data/truth"]);
    let truth = data.path.join("truth");
    first.wait_until("the app writes", SOON, || workload::truth(&truth).len() >= 100);
    first.assert_unprivileged();
    let health = engine.call(["healthcheck", "run", "first"]);
    assert_eq!(health.code, 0, "{health:?}\n{}", first.log());
    let (took, code) = first.stop("10");
    let log = first.log();
    assert_eq!(code, 0, "{log}");
    assert!(took < Duration::from_secs(10), "the stop took {took:?}; the log:\n{log}");
    println!("stop: {took:?}");
    assert!(log.contains("proven empty there: start fresh"), "{log}");
    assert!(log.contains("final sync proven"), "{log}");
    let before = state(&data);
    let acknowledged = workload::truth(&truth).last().expect("rows").n;
    assert!(
        before.last >= acknowledged,
        "row {acknowledged} was acknowledged, the database ends at {before:?}"
    );
    engine.ask(["rm", "first"]);
    data.remove();

    let data = engine.volume("other");
    let second = start(&engine, "second", &data, &backup, &["--commits", "0", "--hold"]);
    second.wait_until("the app holds its database", SOON, || second.log().contains("holding"));
    let (_, code) = second.stop("10");
    assert_eq!(code, 0, "{}", second.log());
    assert_eq!(state(&data), before, "{}", second.log());
}

#[test]
fn the_app_is_not_started_on_a_replica_that_cannot_be_used_and_the_volume_stays_empty() {
    let Some(engine) = images() else { return };
    let (data, backup) = (engine.volume("data"), engine.volume("backup"));
    // An app that ends by itself ends the container, and its last commit is in the replica.
    let done = start(&engine, "done", &data, &backup, &["--commits", "20"]);
    assert_eq!(done.wait(), 0, "{}", done.log());
    assert!(done.log().contains("final sync proven"), "{}", done.log());

    let refuses = |name: &str, flags: &[&str], expected: i32, why: &str| {
        let empty = engine.volume(name);
        let (at, backup) = (empty.at("/data"), backup.at("/backup"));
        let mut all = HARDENED.to_vec();
        all.extend(["--volume", &at, "--volume", &backup, "--env=SUPERVISOR_RESTORE_WAIT=1s"]);
        all.extend(flags);
        let container = engine.start(name, &all, APP, &["writer", "--commits", "1"]);
        let (code, log) = (container.wait(), container.log());
        assert_eq!(code, expected, "{log}");
        assert!(log.contains(why), "{log}");
        assert!(!log.contains("app started"), "{log}");
        assert_eq!(empty.names(), [""; 0], "{log}");
    };
    let s3 = [
        "--env=LITESTREAM_S3_BUCKET=backups",
        "--env=LITESTREAM_S3_ENDPOINT=http://replica.test:9",
        "--env=LITESTREAM_S3_ACCESS_KEY_ID=id",
        "--env=LITESTREAM_S3_SECRET_ACCESS_KEY=hush",
        "--add-host=replica.test:127.0.0.1",
    ];
    refuses("unreachable", &s3, 69, "the replica could not be reached in time");
    let snapshot = only_file(&backup.path.join("station-db"), ".snapshot.lz4");
    let whole = fs::read(&snapshot).unwrap();
    fs::write(&snapshot, &whole[..whole.len() / 2]).unwrap();
    let damaged = ["--env=LITESTREAM_FILE_PATH=/backup/station-db"];
    refuses("damaged", &damaged, 76, ".snapshot.lz4");
}

#[test]
fn a_killed_container_goes_on_with_its_volume_and_its_app_has_lost_nothing() {
    let Some(engine) = images() else { return };
    let (data, backup) = (engine.volume("data"), engine.volume("backup"));
    let app = ["--rate", "300", "--truth", "/data/truth"];
    let truth = data.path.join("truth");
    let killed = start(&engine, "killed", &data, &backup, &app);
    killed.wait_until("the app writes", SOON, || workload::truth(&truth).len() >= 100);
    killed.kill();
    assert_eq!(killed.wait(), 137, "{}", killed.log());
    let acknowledged = workload::truth(&truth).last().expect("rows").n;
    let again = start(&engine, "again", &data, &backup, &app);
    again.wait_until("the app writes on", SOON, || {
        workload::truth(&truth).last().is_some_and(|row| row.n >= acknowledged + 100)
    });
    assert_eq!(again.stop("10").1, 0, "{}", again.log());
    assert!(again.log().contains("final sync proven"), "{}", again.log());
    let before = state(&data);
    assert_eq!(before.first, 1);

    let other = engine.volume("other");
    let restored = start(&engine, "restored", &other, &backup, &["--commits", "0", "--hold"]);
    restored.wait_until("the app holds its database", SOON, || restored.log().contains("holding"));
    assert_eq!(restored.stop("10").1, 0, "{}", restored.log());
    assert_eq!(state(&other), before, "{}", restored.log());
}

#[test]
fn the_apps_exit_code_is_the_containers_and_wrong_keys_are_77() {
    let Some(engine) = images() else { return };
    let (data, backup) = (engine.volume("data"), engine.volume("backup"));
    let usage = start(&engine, "usage", &data, &backup, &["--no-such-flag"]);
    assert_eq!(usage.wait(), 2, "the writer's own code for a bad command line: {}", usage.log());

    let ceph = Ceph::connect();
    let at = data.at("/data");
    let mut flags = HARDENED.to_vec();
    flags.retain(|flag| *flag != "--network=none");
    let s3 = [
        format!("--env=LITESTREAM_S3_BUCKET={}", ceph.bucket),
        format!("--env=LITESTREAM_S3_ENDPOINT={}", ceph.endpoint),
        format!("--env=LITESTREAM_S3_ACCESS_KEY_ID={}", ceph.access_key),
    ];
    flags.extend(s3.iter().map(String::as_str));
    flags.extend(["--network=host", "--env=SUPERVISOR_LISTEN=off", "--volume", &at]);
    flags.push("--env=LITESTREAM_S3_SECRET_ACCESS_KEY=hush-hush");
    let denied = engine.start("denied", &flags, APP, &["writer", "--commits", "1"]);
    assert_eq!(denied.wait(), 77, "{}", denied.log());
    assert!(!denied.log().contains("app started"), "{}", denied.log());
    assert!(!denied.log().contains("hush"), "the key is in the log: {}", denied.log());
    assert!(!data.names().contains(&"station.db".to_owned()), "{:?}", data.names());
}

/// Measured outside of any container, where the kernel's numbers are the program's alone. Almost half of the file is the
/// static C library.
#[test]
fn the_supervisor_in_the_image_is_small_on_the_disk_and_in_memory() {
    let supervisor = stage().0.join("system/usr/local/bin/holdfast-supervisor");
    let file = fs::metadata(&supervisor).unwrap().len();
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let mut run = command(&supervisor);
    run.arg("-agent").arg(programs::ours("holdfast")).args([
        "-stop-grace",
        "10s",
        "-listen",
        "127.0.0.1:0",
        "--",
    ]);
    run.arg(programs::ours("writer")).args(["--rate", "200", "--truth"]).arg(workload::truth_of(&db));
    run.env("DATABASE_PATH", &db).env("LITESTREAM_FILE_PATH", dir.path().join("replica"));
    let mut run = process::Running::start(&mut run, &dir.path().join("log"));
    let written = || workload::truth(&workload::truth_of(&db)).len();
    holdfast_tests::supervised::until("the app writes", SOON, || (written() >= 400).then_some(()));
    let memory = Cost::of(run.pid()).unwrap().peak;
    println!("the supervisor: {} KB on the disk, at most {} KB in memory", file / 1000, memory / 1000);
    assert!(file < 2_000_000, "{file} bytes");
    assert!(memory < 3_000_000, "{memory} bytes");
    assert!(run.stop(SOON).success(), "{}", run.log());
}

#[test]
fn t75_e19_started_as_root_for_a_directory_of_the_hosts_it_becomes_nobody_special() {
    let Some(engine) = images() else { return };
    let host = engine.dir().join("host");
    fs::create_dir(&host).unwrap();
    let at = format!("{}:/data", host.display());
    let mut flags = HARDENED.to_vec();
    flags.extend(["--user=0", "--cap-add=CHOWN,SETUID,SETGID,SETPCAP", "--group-add=4242", "--volume", &at]);
    flags.extend(["--env=LITESTREAM_FILE_PATH=/data/backup", "--env=SUPERVISOR_STOP_GRACE=10s"]);
    let app = engine.start("root", &flags, APP, &["writer", "--rate", "300", "--truth", "/data/truth"]);
    let truth = host.join("truth");
    app.wait_until("the app writes", SOON, || workload::truth(&truth).len() >= 10);
    app.assert_unprivileged();
    let groups = app.status("Groups");
    assert_eq!(groups, ["1000", "4242"]);
    for name in ["", "station.db", "backup"] {
        let meta = fs::metadata(host.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1000, 1000), "{name}: {}", app.log());
    }
    assert_eq!(app.stop("10").1, 0, "{}", app.log());
    assert!(app.log().contains("final sync proven"), "{}", app.log());
}

#[test]
fn t77_any_user_will_do_that_may_write_to_the_volume() {
    let Some(engine) = images() else { return };
    // Not a volume of the engine's: a new one gets the image's owner.
    let host = engine.dir().join("shared");
    fs::create_dir(&host).unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o2775)).unwrap();
    let at = format!("{}:/data", host.display());
    let mut flags = HARDENED.to_vec();
    flags.extend(["--volume", &at, "--env=LITESTREAM_FILE_PATH=/data/backup"]);
    let run = |name: &str, user: &str| {
        let app = engine.start(name, &[&flags[..], &[user]].concat(), APP, &["writer", "--commits", "5"]);
        (app.wait(), app.log())
    };
    let (code, log) = run("any", "--user=12345:0");
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("final sync proven"), "{log}");
    let (code, log) = run("other", "--user=12345:12345");
    assert_eq!(code, 77, "{log}");
    assert!(log.contains("write to /data as user 12345: permission denied"), "{log}");
}

#[test]
fn hadolint_finds_nothing_wrong_with_the_dockerfiles() {
    let hadolint = programs::state().join("venv/bin/hadolint");
    assert!(hadolint.exists(), "hadolint is not set up: `tests/run` once sets up what the tests need");
    let docker = programs::root().join("docker");
    let mut lint = command(hadolint);
    lint.arg(docker.join("Dockerfile")).arg(docker.join("app.Dockerfile"));
    let done = process::run(&mut lint, SOON);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{}", done.stderr);
}

/// The one file below `dir` whose name ends in `end`.
#[track_caller]
fn only_file(dir: &Path, end: &str) -> PathBuf {
    let (mut folders, mut found) = (vec![dir.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
