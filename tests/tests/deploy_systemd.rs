//! `systemd/`: the units under a real systemd, with a real S3 server: hardened, ready when they say so, restarted after a
//! kill, stopped with the proof of the final sync.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use holdfast_tests::ceph::Ceph;
use holdfast_tests::images::stage;
use holdfast_tests::machine::Machine;
use holdfast_tests::oracle::{self, State};
use holdfast_tests::process;
use holdfast_tests::tool::Tool;
use holdfast_tests::{programs, workload};

const SOON: Duration = Duration::from_secs(30);
const TRUTH: &str = "/var/lib/station/truth";

/// A machine with everything installed as the head of each unit says, and the replica's place changed as a person would.
/// None, with the reason printed, where none can boot.
fn machine(ceph: &Ceph, prefix: &str) -> Option<Machine> {
    let machine = match Machine::boot() {
        Ok(machine) => machine,
        Err(why) => {
            eprintln!("SKIPPED, nothing was tested: no machine with systemd: {why}");
            return None;
        }
    };
    let (staged, writer) = stage();
    for program in ["holdfast", "holdfast-supervisor"] {
        machine.install(
            &staged.join("system/usr/local/bin").join(program),
            &format!("/usr/local/bin/{program}"),
            0o755,
        );
    }
    // Station's place is taken by the writer; a shell gives it the flags that `stn serve` does not have.
    machine.install(&writer, "/usr/local/bin/writer", 0o755);
    let station = format!("#!/bin/sh\nexec writer --rate 200 --truth {TRUTH}\n");
    machine.write("/usr/local/bin/stn", station, 0o755);
    machine.ask(&["useradd", "--system", "--user-group", "--no-create-home", "station"]);
    for unit in ["holdfast.service", "station.service"] {
        machine.install(&file(unit), &format!("/etc/systemd/system/{unit}"), 0o644);
    }
    let app = "[Service]\nUser=station\nType=exec\nExecStart=/usr/local/bin/stn serve\n";
    machine.write("/etc/systemd/system/app.service", app, 0o644);
    machine.install(&file("app.conf"), "/etc/systemd/system/app.service.d/holdfast.conf", 0o644);
    machine.write("/etc/holdfast/credentials/access-key-id", format!("{}\n", ceph.access_key), 0o600);
    machine.write("/etc/holdfast/credentials/secret-access-key", format!("{}\n", ceph.secret_key), 0o600);
    let env = std::fs::read_to_string(file("holdfast.env")).unwrap();
    let env = env
        .replace("=station-backups", &format!("={}", ceph.bucket))
        .replace("=production/station-db", &format!("={prefix}"))
        .replace(
            "#LITESTREAM_S3_ENDPOINT=https://minio.example:9000",
            &format!("LITESTREAM_S3_ENDPOINT={}", ceph.endpoint),
        );
    machine.write("/etc/holdfast/holdfast.env", env, 0o640);
    machine.ask(&["systemctl", "daemon-reload"]);
    Some(machine)
}

fn file(name: &str) -> std::path::PathBuf {
    programs::root().join("systemd").join(name)
}

fn prefix(name: &str) -> String {
    format!("systemd/{name}-{}", std::process::id())
}

#[track_caller]
fn rows(machine: &Machine, least: i64) -> i64 {
    let truth = machine.path(TRUTH);
    let until = std::time::Instant::now() + SOON;
    loop {
        let last = workload::truth(&truth).last().map_or(0, |row| row.n);
        if last >= least {
            return last;
        }
        assert!(
            std::time::Instant::now() < until,
            "row {least} is not written; {last} is\n{}",
            machine.journal()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the replica restores, here, equals the database as it was left there.
#[track_caller]
fn assert_restores_what_is_there(machine: &Machine, ceph: &Ceph, prefix: &str) -> State {
    let dir = tempfile::tempdir().unwrap();
    for name in ["station.db", "station.db-wal"] {
        let from = machine.path("/var/lib/station").join(name);
        if from.exists() {
            std::fs::copy(from, dir.path().join(name)).unwrap();
        }
    }
    let there = oracle::expect_state(&dir.path().join("station.db"), "the machine's database");
    let out = dir.path().join("restored.db");
    let mut restore = Tool::Holdfast.command("restore");
    let url = format!("s3://{}/{prefix}?endpoint={}", ceph.bucket, ceph.endpoint);
    restore.arg("-o").arg(&out).arg(url);
    restore.env("AWS_ACCESS_KEY_ID", &ceph.access_key).env("AWS_SECRET_ACCESS_KEY", &ceph.secret_key);
    process::run(&mut restore, SOON).expect_success("restore");
    assert_eq!(oracle::expect_state(&out, "the restored database"), there);
    there
}

#[track_caller]
fn micros(machine: &Machine, unit: &str, property: &str) -> u64 {
    let text = machine.show(unit, property);
    text.parse().unwrap_or_else(|e| panic!("{unit}: {property}={text}: {e}"))
}

#[test]
fn t91_an_app_starts_after_its_agent_is_ready_outlives_its_death_and_ends_before_it() {
    let ceph = Ceph::connect();
    let prefix = prefix("agent");
    let Some(machine) = machine(&ceph, &prefix) else { return };
    machine.ask(&["systemctl", "start", "app.service"]);
    assert_eq!(machine.show("holdfast.service", "ActiveState"), "active");
    let ready = micros(&machine, "holdfast.service", "ActiveEnterTimestampMonotonic");
    assert!(ready <= micros(&machine, "app.service", "ExecMainStartTimestampMonotonic"));
    machine.wait_for("holdfast.service", "StatusText", SOON, |s| s.contains("1 database: "));
    rows(&machine, 50);

    // The agent dies; systemd starts it again; the app does not notice.
    let app = machine.show("app.service", "MainPID");
    machine.ask(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", "holdfast.service"]);
    machine.wait_for("holdfast.service", "NRestarts", SOON, |n| n == "1");
    machine.wait_for("holdfast.service", "ActiveState", SOON, |s| s == "active");
    assert_eq!(machine.show("app.service", "MainPID"), app, "{}", machine.journal());
    let last = rows(&machine, 100);
    rows(&machine, last + 20);

    machine.ask(&["systemctl", "stop", "app.service", "holdfast.service"]);
    let (app, agent) = ("app.service", "holdfast.service");
    for unit in [app, agent] {
        assert_eq!(machine.show(unit, "ActiveState"), "inactive", "{unit}\n{}", machine.journal());
        assert_eq!(machine.show(unit, "Result"), "success", "{unit}\n{}", machine.journal());
    }
    let ended = "InactiveEnterTimestampMonotonic";
    assert!(micros(&machine, app, ended) <= micros(&machine, agent, ended), "{}", machine.journal());
    assert!(machine.journal().contains("final sync complete"), "{}", machine.journal());
    let state = assert_restores_what_is_there(&machine, &ceph, &prefix);
    assert!(state.last >= rows(&machine, 1));

    // The database is lost, and so is the key: no app begins with nothing, or with a WAL that was left over.
    std::fs::remove_file(machine.path("/var/lib/station/station.db")).unwrap();
    std::fs::write(machine.path("/var/lib/station/station.db-wal"), b"left over").unwrap();
    let key = "/etc/holdfast/credentials/secret-access-key";
    machine.write(key, "wrong", 0o600);
    assert_ne!(machine.call(&["systemctl", "start", "app.service"]).code, 0);
    assert_ne!(machine.show(app, "ActiveState"), "active");
    assert!(!machine.path("/var/lib/station/station.db").exists(), "{}", machine.journal());
    // 77: nobody but a person can help, so systemd does not try, and `systemctl status` shows the code.
    machine.wait_for(agent, "ActiveState", SOON, |s| s == "failed");
    assert_eq!(machine.show(agent, "ExecMainStatus"), "77", "{}", machine.journal());
    assert_eq!(machine.show(agent, "NRestarts"), "0", "{}", machine.journal());
    // With the key it is restored, and the app is started as ever.
    machine.write(key, &ceph.secret_key, 0o600);
    machine.ask(&["systemctl", "restart", "holdfast.service"]);
    machine.ask(&["systemctl", "start", "app.service"]);
    rows(&machine, state.last + 1);
    let aside = machine.ask(&["sh", "-c", "cat /var/lib/station/station.db.orphan-wal-*/station.db-wal"]);
    assert_eq!(aside, "left over", "what was in the way is kept");
}

#[test]
fn t91_the_supervisor_is_a_unit_that_is_ready_stopped_in_time_and_never_restarted_on_a_bad_configuration() {
    let ceph = Ceph::connect();
    let prefix = prefix("supervisor");
    let Some(machine) = machine(&ceph, &prefix) else { return };
    let unit = "station.service";
    machine.ask(&["systemctl", "start", unit]);
    assert_eq!(machine.show(unit, "ActiveState"), "active");
    machine.wait_for(unit, "StatusText", SOON, |s| s.starts_with("run: app: running, agent: ready"));
    rows(&machine, 50);
    // Killed without a word; restarted with its database where it was.
    machine.ask(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", unit]);
    machine.wait_for(unit, "NRestarts", SOON, |n| n == "1");
    machine.wait_for(unit, "ActiveState", SOON, |s| s == "active");
    let last = rows(&machine, 60);
    rows(&machine, last + 20);
    machine.ask(&["systemctl", "stop", unit]);
    assert_eq!(
        (machine.show(unit, "ActiveState"), machine.show(unit, "Result")),
        ("inactive".into(), "success".into())
    );
    assert!(machine.journal().contains("final sync proven"), "{}", machine.journal());
    let state = assert_restores_what_is_there(&machine, &ceph, &prefix);
    assert!(state.last >= rows(&machine, 1));

    // 78: nobody but a person can help, so systemd does not try.
    machine.write("/etc/station/station.env", "SUPERVISOR_AGENT=/nowhere/holdfast\n", 0o640);
    assert_ne!(machine.call(&["systemctl", "start", unit]).code, 0);
    machine.wait_for(unit, "ActiveState", SOON, |s| s == "failed");
    assert_eq!(machine.show(unit, "ExecMainStatus"), "78", "{}", machine.journal());
    assert_eq!(machine.show(unit, "NRestarts"), "0", "{}", machine.journal());
}

/// systemd's watchdog sends SIGTERM, and SIGCONT with it: a supervisor that was only stopped ends in order. One that hears
/// nothing is killed once `TimeoutAbortSec` is over, which is `TimeoutStopSec` unless it is set, and all of the unit with it.
#[test]
fn t91_a_supervisor_that_stands_still_is_ended_by_the_watchdog_and_started_again() {
    let ceph = Ceph::connect();
    let prefix = prefix("watchdog");
    let Some(machine) = machine(&ceph, &prefix) else { return };
    let unit = "station.service";
    let short = "[Service]\nWatchdogSec=4\nTimeoutAbortSec=3\n";
    machine.write("/etc/systemd/system/station.service.d/short.conf", short, 0o644);
    machine.ask(&["systemctl", "daemon-reload"]);
    machine.ask(&["systemctl", "start", unit]);
    rows(&machine, 50);
    machine.ask(&["systemctl", "kill", "--signal=HUP", "--kill-who=main", unit]);
    let journal_says = |what: &str| {
        let until = std::time::Instant::now() + SOON;
        while !machine.journal().contains(what) {
            assert!(std::time::Instant::now() < until, "no {what:?} in\n{}", machine.journal());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    journal_says("SIGHUP: the agent reads its configuration again");

    let started_again = |times: &str| {
        machine.wait_for(unit, "NRestarts", SOON, |n| n == times);
        machine.wait_for(unit, "ActiveState", SOON, |s| s == "active");
        let last = rows(&machine, 50);
        rows(&machine, last + 20);
    };
    machine.ask(&["systemctl", "kill", "--signal=STOP", "--kill-who=main", unit]);
    started_again("1");
    journal_says("Watchdog timeout");
    journal_says("SIGTERM: stopping");
    journal_says("final sync proven");

    let held = machine.hold(machine.show(unit, "MainPID").parse().unwrap());
    // Whoever holds it hears of its end first.
    journal_says("(holdfast-superv) with signal SIGKILL");
    drop(held);
    started_again("2");
    machine.ask(&["systemctl", "stop", unit]);
    assert_eq!(machine.show(unit, "Result"), "success", "{}", machine.journal());
    let state = assert_restores_what_is_there(&machine, &ceph, &prefix);
    assert!(state.last >= rows(&machine, 1));
}

#[test]
fn what_init_writes_is_a_unit_that_runs_and_proves_its_end() {
    let ceph = Ceph::connect();
    let prefix = prefix("init");
    let Some(machine) = machine(&ceph, &prefix) else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = format!("s3://{}/{prefix}?endpoint={}", ceph.bucket, ceph.endpoint);
    process::run(Tool::Holdfast.command("init").arg("-o").arg(dir.path()).arg(url), SOON)
        .expect_success("init");
    std::fs::remove_file(machine.path("/etc/holdfast/holdfast.env")).unwrap();
    machine.install(&dir.path().join("litestream.yml"), "/etc/litestream.yml", 0o644);
    for unit in ["holdfast.service", "station.service"] {
        machine.install(
            &dir.path().join("systemd").join(unit),
            &format!("/etc/systemd/system/{unit}"),
            0o644,
        );
    }
    machine.ask(&["systemctl", "daemon-reload"]);
    for unit in ["holdfast.service", "station.service"] {
        let done = machine.call(&["systemd-analyze", "verify", "--man=no", unit]);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""), "{unit}");
        machine.ask(&["systemctl", "start", unit]);
        if unit == "station.service" {
            rows(&machine, 50);
        }
        machine.ask(&["systemctl", "stop", unit]);
        assert_eq!(machine.show(unit, "Result"), "success", "{unit}\n{}", machine.journal());
    }
    assert!(machine.journal().contains("final sync proven"), "{}", machine.journal());
    assert_restores_what_is_there(&machine, &ceph, &prefix);

    // A directory as the destination: the unit's head says how to make it, and without it systemd starts nothing.
    let dir = tempfile::tempdir().unwrap();
    let url = "file:///srv/backup/station-db";
    process::run(Tool::Holdfast.command("init").arg("-o").arg(dir.path()).arg(url), SOON)
        .expect_success("init");
    machine.install(&dir.path().join("litestream.yml"), "/etc/litestream.yml", 0o644);
    let unit = "holdfast.service";
    let text = std::fs::read_to_string(dir.path().join("systemd").join(unit)).unwrap();
    let make = text.lines().find_map(|line| line.strip_prefix("#   ").filter(|l| l.contains(" /srv/backup")));
    machine.ask(&["sh", "-c", make.expect("how to make the directory")]);
    machine.write(&format!("/etc/systemd/system/{unit}"), text.as_bytes(), 0o644);
    machine.ask(&["systemctl", "daemon-reload"]);
    machine.ask(&["systemctl", "start", unit]);
    machine.ask(&["systemctl", "stop", unit]);
    assert_eq!(machine.show(unit, "Result"), "success", "{}", machine.journal());
    assert!(machine.path("/srv/backup/station-db/generations").is_dir(), "{}", machine.journal());
}

#[test]
fn t91_the_units_are_well_formed_and_hardened_to_an_exposure_of_two_at_most() {
    let ceph = Ceph::connect();
    let Some(machine) = machine(&ceph, "nothing") else { return };
    for unit in ["holdfast.service", "station.service", "app.service"] {
        let done = machine.call(&["systemd-analyze", "verify", "--man=no", unit]);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""), "{unit}");
    }
    let exposure =
        |unit: &str| machine.call(&["systemd-analyze", "security", "--offline=true", "--threshold=20", unit]);
    for unit in ["holdfast.service", "station.service"] {
        let done = exposure(&format!("/etc/systemd/system/{unit}"));
        assert_eq!(done.code, 0, "{unit}: {}{}", done.stdout, done.stderr);
    }
    // Both judges can say no.
    machine.write("/etc/systemd/system/bad.service", "[Service]\nExecStart=/nowhere\nRestart=maybe\n", 0o644);
    assert_ne!(machine.call(&["systemd-analyze", "verify", "bad.service"]).stderr, "");
    assert_ne!(exposure("/etc/systemd/system/bad.service").code, 0);
}

#[test]
fn the_times_of_a_stop_are_in_step() {
    let unit = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let seconds = |text: &str, key: &str| -> u64 {
        let line =
            text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {text}"));
        line.trim_end_matches('s').parse().unwrap()
    };
    let station = unit("station.service");
    let (grace, stop) =
        (seconds(&station, "Environment=SUPERVISOR_STOP_GRACE="), seconds(&station, "TimeoutStopSec="));
    assert!((1..=5).contains(&(stop - grace)), "{stop} s after {grace} s");
    // The agent's default for `shutdown-sync-timeout` is 30 s.
    assert!(seconds(&unit("holdfast.service"), "TimeoutStopSec=") > 30);
}
