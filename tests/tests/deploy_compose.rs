//! `compose/`: every file is one that docker-compose takes, and runs as it stands, with podman: a fresh start, a proven
//! stop, a lost volume brought back.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_tests::container::Engine;
use holdfast_tests::images::{APP, HOLDFAST, WRITER, images};
use holdfast_tests::manifest::{Manifests, text, texts};
use holdfast_tests::process::{self, Finished, command};
use holdfast_tests::tool::Tool;
use holdfast_tests::{programs, workload};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const ALONE: [&str; 3] = ["single.yml", "docker-compose.production.yml", "sidecar.yml"];

fn file(name: &str) -> PathBuf {
    programs::root().join("compose").join(name)
}

// ---- As they lie there

fn config(files: &[PathBuf], bucket: bool) -> Finished {
    let mut config = command("docker-compose");
    for file in files {
        config.arg("--file").arg(file);
    }
    if bucket {
        config.env("LITESTREAM_S3_BUCKET", "backups");
    }
    process::run(config.args(["config", "--quiet"]), SOON)
}

#[test]
fn docker_compose_takes_every_file_alone_and_with_a_bucket_on_this_machine() {
    let there: Vec<_> = fs::read_dir(file("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        there.iter().all(|name| *name == "s3.yml"
            || *name == "observability"
            || ALONE.iter().any(|known| name == known)),
        "{there:?}"
    );
    let mut combinations: Vec<_> = ALONE.iter().map(|name| vec![file(name)]).collect();
    combinations.extend(ALONE[..2].iter().map(|name| vec![file(name), file("s3.yml")]));
    combinations.extend(ALONE[..2].iter().map(|name| vec![file(name), file("observability/compose.yml")]));
    for files in combinations {
        let done = config(&files, true);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""), "{files:?}");
    }
    // The judge can say no.
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.yml");
    let text = fs::read_to_string(file("single.yml")).unwrap();
    fs::write(&broken, text.replace("stop_grace_period", "stop_grace_perod")).unwrap();
    assert_ne!(config(&[broken], true).code, 0);
}

#[test]
fn production_without_a_bucket_is_refused_before_anything_runs() {
    let done = config(&[file("docker-compose.production.yml")], false);
    assert_ne!(done.code, 0);
    assert!(
        done.stderr.contains("LITESTREAM_S3_BUCKET") || done.stderr.contains("bucket"),
        "{}",
        done.stderr
    );
}

#[test]
fn every_service_is_unprivileged_and_has_more_time_to_stop_than_it_uses() {
    for name in ALONE {
        let all = Manifests::read(&[&format!("compose/{name}")]);
        for (service, of) in all.0[0]["services"].as_object().unwrap() {
            let what = format!("{name}: {service}");
            assert_eq!(of["user"], "1000:1000", "{what}");
            assert_eq!(of["read_only"], true, "{what}");
            assert_eq!(texts(&of["cap_drop"]), ["ALL"], "{what}");
            assert_eq!(texts(&of["security_opt"]), ["no-new-privileges:true"], "{what}");
            for port in texts(&of["ports"]) {
                assert!(port.starts_with("127.0.0.1:"), "{what}: {port} is open to the world");
            }
            let grace = of["stop_grace_period"].as_str().map(seconds);
            match (of["environment"]["SUPERVISOR_STOP_GRACE"].as_str().map(seconds), service.as_str()) {
                (Some(ours), _) => assert_eq!(grace, Some(ours + 2), "{what}"),
                // `shutdown-sync-timeout` is 30 s.
                (None, "replicate") => assert_eq!(grace, Some(35), "{what}"),
                (None, _) => assert!(name == "sidecar.yml", "{what}"),
            }
        }
    }
    let app = &Manifests::read(&["compose/sidecar.yml"]).0[0]["services"]["station"];
    assert!(!app.to_string().contains("LITESTREAM"), "the bucket's keys stay with the agent");
}

fn seconds(text: &str) -> u64 {
    holdfast_config::parse_duration(text).unwrap().as_secs()
}

// ---- At work

/// A project of compose's: a file of ours, and over it what a person would change.
struct Project<'e> {
    engine: &'e Engine,
    name: &'static str,
    file: PathBuf,
    change: PathBuf,
}

impl<'e> Project<'e> {
    fn new(engine: &'e Engine, name: &'static str, file: PathBuf, change: &str) -> Self {
        let path = engine.dir().join(format!("{name}.yml"));
        fs::write(&path, format!("{change}volumes:\n  backup: {{external: true}}\n")).unwrap();
        Self { engine, name, file, change: path }
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Finished {
        let mut command = command(programs::state().join("venv/bin/podman-compose"));
        command.args(["--project-name", self.name, "--file"]).arg(&self.file);
        command.arg("--file").arg(&self.change).args(args);
        command.envs([
            ("IMAGE", APP),
            ("STATION_IMAGE", APP),
            ("APP_IMAGE", WRITER),
            ("HOLDFAST_IMAGE", HOLDFAST),
        ]);
        command.env("LITESTREAM_S3_BUCKET", if self.name == "production" { "replaced" } else { "" });
        let done = process::run(self.engine.use_in(&mut command), Duration::from_secs(90));
        done.expect_success(&format!("podman-compose {args:?} for {}", self.file.display()))
    }

    /// Stops the app, then what it depends on, as docker-compose does; podman-compose itself stops all at once.
    fn stop(&self) {
        let all: Value = serde_yaml::from_str(&fs::read_to_string(&self.file).unwrap()).unwrap();
        let mut next = Some("station".to_owned());
        while let Some(service) = next {
            self.run(&["stop", &service]);
            let needs = all["services"][&service]["depends_on"].as_object();
            next = needs.and_then(|needs| needs.keys().next()).cloned();
        }
    }
}

/// Up, write, stop, lose the volume; and again, going on where it was stopped. `proof` is in the log of `prover`.
fn runs_and_brings_a_lost_volume_back(project: &Project<'_>, volume: &str, prover: &str, proof: &str) {
    let mut acknowledged = 0;
    for run in ["fresh", "restored"] {
        project.run(&["up", "--detach", "--no-build"]);
        let app = project.engine.container(&format!("{}_station_1", project.name));
        let prover = project.engine.container(&format!("{}_{prover}_1", project.name));
        let volume = format!("{}_{volume}", project.name);
        let data: PathBuf =
            project.engine.ask(["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]).into();
        let truth = data.join("truth");
        app.wait_until("the app writes", SOON, || workload::truth(&truth).len() >= 30);
        project.stop();
        assert_eq!((app.wait(), prover.wait()), (0, 0), "{run}: {}{}", app.log(), prover.log());
        assert!(prover.log().contains(proof), "{run}: {}", prover.log());
        let rows = workload::truth(&truth);
        assert_eq!(rows[0].n, acknowledged + 1, "{run}: the app goes on where it was stopped");
        acknowledged = rows.last().unwrap().n;
        project.run(&["down", "--volumes"]);
        assert!(!data.exists(), "{run}: the volume is gone");
    }
}

/// The writer where Station was, without a network, and a directory instead of a bucket.
const WRITER_AND_DIRECTORY: &str = "services:\n  station:\n    network_mode: none\n    command: [writer, --rate, '100', --truth, /data/truth]\n    \
     environment: {LITESTREAM_S3_BUCKET: '', LITESTREAM_FILE_PATH: /backup/station-db}\n    volumes: ['backup:/backup']\n";

#[test]
fn the_single_container_runs_as_it_stands_and_brings_a_lost_volume_back() {
    let Some(engine) = images() else { return };
    let backup = engine.volume("backup");
    let project = Project::new(&engine, "single", file("single.yml"), WRITER_AND_DIRECTORY);
    runs_and_brings_a_lost_volume_back(&project, "data", "station", "final sync proven");
    project.run(&["up", "--detach", "--no-build"]);
    engine.container("single_station_1").assert_unprivileged();
    project.run(&["down"]);
    assert!(backup.path.join("station-db").is_dir());
}

#[test]
fn production_runs_as_it_stands_and_brings_a_lost_volume_back() {
    let Some(engine) = images() else { return };
    engine.volume("backup");
    let project =
        Project::new(&engine, "production", file("docker-compose.production.yml"), WRITER_AND_DIRECTORY);
    runs_and_brings_a_lost_volume_back(&project, "station-data", "station", "final sync proven");
}

#[test]
fn what_init_writes_runs_as_it_stands_and_brings_a_lost_volume_back() {
    let Some(engine) = images() else { return };
    engine.volume("backup");
    let dir = engine.dir().join("init");
    let mut init = Tool::Holdfast.command("init");
    init.arg("-o").arg(&dir).args(["-image", APP, "file:///backup/station-db"]);
    process::run(init.args(["--", "writer", "--rate", "100", "--truth", "/data/truth"]), SOON)
        .expect_success("init");
    let change = "services: {station: {network_mode: none}}\n";
    let project = Project::new(&engine, "init", dir.join("docker-compose.yml"), change);
    runs_and_brings_a_lost_volume_back(&project, "station-data", "station", "final sync proven");
}

#[test]
fn the_sidecar_hears_of_the_end_after_the_app_and_has_its_last_commit() {
    let Some(engine) = images() else { return };
    engine.volume("backup");
    let agent = "    network_mode: none\n    environment: {LITESTREAM_FILE_PATH: /backup/station-db}\n    volumes: ['backup:/backup']\n";
    let change = format!(
        "services:\n  restore:\n{agent}  replicate:\n{agent}  station:\n    network_mode: none\n    \
         entrypoint: [writer]\n    command: [--rate, '100', --truth, /data/truth]\n"
    );
    let project = Project::new(&engine, "sidecar", file("sidecar.yml"), &change);
    runs_and_brings_a_lost_volume_back(&project, "data", "replicate", "final sync complete");
}

#[test]
fn the_bucket_on_this_machine_is_the_one_the_app_is_told_of() {
    let services = &Manifests::read(&["compose/s3.yml"]).0[0]["services"];
    let app = &services["station"]["environment"];
    let made = text(&services["bucket"]["command"][0]);
    assert!(made.contains(&format!("local/{}\n", text(&app["LITESTREAM_S3_BUCKET"]))), "{made}");
    assert_eq!(app["LITESTREAM_S3_ENDPOINT"], "http://minio:9000");
    for (ours, theirs) in [
        ("LITESTREAM_S3_ACCESS_KEY_ID", "MINIO_ROOT_USER"),
        ("LITESTREAM_S3_SECRET_ACCESS_KEY", "MINIO_ROOT_PASSWORD"),
    ] {
        for service in ["minio", "bucket"] {
            let keys: &Value = &services[service]["environment"];
            assert_eq!(keys[theirs], app[ours], "{service}");
        }
    }
}
