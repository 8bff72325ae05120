//! The README does what it says: every command in it runs, every flag exists, every exit code is in the table.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use holdfast_config::exit::Exit;
use holdfast_tests::programs;

fn readme() -> String {
    std::fs::read_to_string(programs::root().join("README.md")).unwrap()
}

/// The lines of every block fenced as `language`.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut out = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(fence) => inside = !inside && fence == language,
            None if inside => out.push(line.to_owned()),
            None => {}
        }
    }
    out
}

fn run(line: &str, dir: &Path, timeout: &str) -> Output {
    let bin = programs::ours("holdfast").parent().unwrap().display().to_string();
    Command::new("timeout")
        .args(["-s", "TERM", "-k", "30", timeout, "bash", "-ec", &format!("exec {line}")])
        .current_dir(dir)
        .env_clear()
        .env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"))
        .env("SUPERVISOR_STOP_GRACE", "10s")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn every_command_runs_in_the_order_it_stands_there() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let config =
        format!("dbs:\n  - path: {here}/station.db\n    replicas:\n      - path: {here}/backup/station\n");
    std::fs::write(dir.path().join("litestream.yml"), config).unwrap();
    let app = dir.path().join("app");
    std::fs::write(&app, "#!/bin/sh\nexec writer --seconds 1 --rate 50\n").unwrap();
    std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o755)).unwrap();
    let db = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1), (2);").unwrap();
    let mut ran = 0;
    for line in blocks("sh") {
        let line =
            line.replace("/backup/", &format!("{here}/backup/")).replace("/data/", &format!("{here}/"));
        // The reader's date is of some day; ours has to be of this run.
        let line = line.replace("2026-01-31T12:00:00Z", &jiff::Timestamp::now().to_string());
        match line.as_str() {
            // The demo and this very run are commands of their own: see below.
            "cargo demo" | "tests/run" => continue,
            _ => {}
        }
        let lasts = line.starts_with("holdfast replicate") && !line.contains("-dry-run");
        let out = run(&line, dir.path(), if lasts { "3" } else { "60" });
        // `timeout` says 124 for a program it had to tell to stop, whatever that answered; the log has the answer.
        let said =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        match lasts {
            true => assert!(said.contains("final sync complete"), "{line}\n{said}"),
            false => assert_eq!(out.status.code(), Some(0), "{line}\n{said}"),
        }
        ran += 1;
    }
    assert!(ran >= 9, "the README shows {ran} commands");
    for copy in ["copy.db", "earlier.db"] {
        let db = rusqlite::Connection::open(dir.path().join(copy)).unwrap();
        let rows: i64 = db.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
        assert_eq!(rows, 2, "{copy}");
    }
}

#[test]
fn the_two_commands_are_the_ones_the_project_is_built_around() {
    let root = programs::root();
    let alias = std::fs::read_to_string(root.join(".cargo/config.toml")).unwrap();
    assert!(alias.contains("demo = \"run ") && alias.contains("--bin demo"), "{alias}");
    let ci = std::fs::read_to_string(root.join(".ci/run")).unwrap();
    assert!(ci.contains("tests/run"), "{ci}");
    for script in ["tests/run", ".ci/run"] {
        let mode = std::fs::metadata(root.join(script)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is executable");
    }
}

#[test]
fn the_demo_holds_every_comparison_within_a_minute() {
    let started = std::time::Instant::now();
    // It builds what it runs, so it needs the builder's environment; everything is built already.
    let out = Command::new("timeout").args(["170"]).arg(programs::ours("demo")).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("final sync"), "the proof is shown\n{said}");
    assert!(started.elapsed() < Duration::from_secs(90), "a minute, on a machine that does nothing else");
}

#[test]
fn every_configuration_it_shows_loads_without_a_warning() {
    let env = holdfast_config::Env::from_pairs(std::iter::empty::<(&str, &str)>());
    let files = readme();
    let files = files.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut read = 0;
    for text in files {
        let config = holdfast_config::parse(text, Path::new("litestream.yml"), &env, true).unwrap();
        assert!(config.replicates() && config.warnings.is_empty(), "{text}\n{:?}", config.warnings);
        read += 1;
    }
    assert!(read > 0, "the README shows a configuration");
}

#[test]
fn the_table_has_every_exit_code_and_the_help_every_flag() {
    let text = readme();
    let rows: String = text.lines().filter(|l| l.starts_with("| ")).collect();
    for exit in Exit::ALL {
        assert!(rows.contains(&exit.code().to_string()), "exit code {} is not in the README", exit.code());
    }
    for line in blocks("sh") {
        let Some(rest) = line.strip_prefix("holdfast ") else { continue };
        let command: Vec<_> = rest.split(' ').take_while(|word| !word.starts_with('-')).collect();
        let command = command.join(" ");
        let out = run(&format!("holdfast {command} --help"), Path::new("/"), "10");
        let help = String::from_utf8_lossy(&out.stdout).into_owned();
        let flags: BTreeSet<_> = rest.split(' ').filter(|w| w.starts_with('-')).collect();
        for flag in flags {
            assert!(help.contains(&format!("-{flag}")), "{command} has no {flag}:\n{help}");
        }
    }
}

#[test]
fn the_supervisors_table_is_its_help() {
    let help = run("holdfast-supervisor --help", Path::new("/"), "10");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let text = readme();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `-"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--"));
    for flag in flags.map(|line| line.split(' ').next().unwrap()) {
        let described = rows.iter().any(|row| row[1].strip_prefix('-') == Some(flag));
        assert!(described, "--{flag} is not in the README");
    }
    for row in rows {
        let (flag, variable, default) = (row[1].trim_start_matches('-'), row[2], row[3]);
        let about = help.split(&format!("--{flag}")).nth(1).unwrap_or_else(|| panic!("no --{flag}:\n{help}"));
        let about =
            about.split("\n      --").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(about.contains(&format!("[env: {variable}]")), "--{flag} is not {variable}: {about}");
        match about.split_once("[default: ") {
            Some((_, rest)) => assert_eq!(rest.split_once(']').unwrap().0, default, "--{flag}"),
            None => assert!(
                ["as above", "guessed from the platform", "off"].contains(&default) || default.contains(' ')
            ),
        }
    }
}
