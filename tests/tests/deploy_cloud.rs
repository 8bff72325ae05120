//! `docker/cloud/`: each file against what the cloud's own client library knows of its interface, and the facts no schema knows:
//! one writer, its grace period, no secret, the supervisor in front. Calls nobody.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::manifest::{Manifests, list, text, texts};
use holdfast_tests::moto::Moto;
use holdfast_tests::process::{self, Finished, command};
use holdfast_tests::programs;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Each file with its judge, and how to break it so that the judge must say no.
const FILES: [(&str, &[&str], (&str, &str)); 4] = [
    ("cloud-run.yaml", &["google", "run.v1", "Service"], ("timeoutSeconds:", "timeoutSecond:")),
    (
        "ecs-task.json",
        &["aws", "ecs", "RegisterTaskDefinition"],
        ("\"stopTimeout\": 120", "\"stopTimeout\": \"120\""),
    ),
    ("ecs-service.json", &["aws", "ecs", "CreateService"], ("\"desiredCount\"", "\"desired\"")),
    ("azure-container-instances.yaml", &["azure", "ContainerGroup"], ("memoryInGB:", "memory:")),
];

fn file(name: &str) -> PathBuf {
    programs::root().join("docker/cloud").join(name)
}

fn check(judge: &[&str], file: &Path) -> Finished {
    let python = programs::state().join("venv/bin/python3");
    assert!(python.exists(), "Python is not set up: `tests/run` once sets up what the tests need");
    let mut check = command(python);
    check.arg(programs::root().join("tests/schemas/check.py")).args(judge).arg(file);
    process::run(&mut check, SOON)
}

#[test]
fn every_file_is_what_the_clouds_own_library_would_send() {
    let dir = tempfile::tempdir().unwrap();
    for (name, judge, (from, to)) in FILES {
        let done = check(judge, &file(name));
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""), "{name}");
        let whole = fs::read_to_string(file(name)).unwrap();
        assert!(whole.contains(from), "{name}: {from}");
        let broken = dir.path().join(name);
        fs::write(&broken, whole.replacen(from, to, 1)).unwrap();
        let done = check(judge, &broken);
        assert_eq!(done.code, 1, "{name}: {to} went through");
        assert!(!done.stdout.is_empty(), "{name}: {to}: {}", done.stderr);
    }
}

/// What a cloud's file says of the one container, in the words of none of them.
#[derive(Debug)]
struct Says {
    /// None where the image's own speaks: `holdfast-supervisor --`.
    program: Option<Vec<String>>,
    env: BTreeMap<String, String>,
    /// From SIGTERM to SIGKILL, by the file or by the cloud's word.
    grace: u64,
    /// There is never a second one beside it, as far as the cloud lets one say so.
    alone: bool,
}

fn yaml(name: &str) -> Value {
    Manifests::read(&[&format!("docker/cloud/{name}")]).0.remove(0)
}

/// The variables of a list of `{name, value}`.
fn variables(env: &Value) -> BTreeMap<String, String> {
    let plain =
        list(env).filter_map(|v| Some((text(&v["name"]).to_owned(), v["value"].as_str()?.to_owned())));
    plain.collect()
}

fn cloud_run() -> Says {
    let template = &yaml("cloud-run.yaml")["spec"]["template"];
    let container = &template["spec"]["containers"][0];
    let annotation = |name: &str| template["metadata"]["annotations"][name].clone();
    assert_eq!(annotation("run.googleapis.com/cpu-throttling"), "false", "or uploads stall between requests");
    assert_eq!(annotation("run.googleapis.com/execution-environment"), "gen2");
    assert!(container["command"].is_null(), "args follow the image's entrypoint");
    Says {
        program: None,
        env: variables(&container["env"]),
        grace: 10,
        alone: ["minScale", "maxScale"]
            .iter()
            .all(|s| annotation(&format!("autoscaling.knative.dev/{s}")) == "1"),
    }
}

fn ecs() -> Says {
    let read =
        |name: &str| -> Value { serde_json::from_str(&fs::read_to_string(file(name)).unwrap()).unwrap() };
    let (task, service) = (read("ecs-task.json"), read("ecs-service.json"));
    let container = &task["containerDefinitions"][0];
    assert_eq!(
        (&container["user"], &container["readonlyRootFilesystem"]),
        (&json!("1000:1000"), &json!(true))
    );
    assert_eq!(texts(&container["linuxParameters"]["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(container["linuxParameters"]["initProcessEnabled"], false, "PID 1 is ours");
    assert_eq!(task["family"], service["taskDefinition"]);
    Says {
        program: None,
        env: variables(&container["environment"]),
        grace: container["stopTimeout"].as_u64().unwrap(),
        alone: service["desiredCount"] == 1
            && service["deploymentConfiguration"]
                == json!({"minimumHealthyPercent": 0, "maximumPercent": 100}),
    }
}

fn azure() -> Says {
    let container = &yaml("azure-container-instances.yaml")["properties"]["containers"][0]["properties"];
    Says {
        program: Some(texts(&container["command"]).into_iter().map(String::from).collect()),
        env: variables(&container["environmentVariables"]),
        grace: 10,
        alone: true,
    }
}

fn fly() -> Says {
    let done = check(&["toml"], &file("fly.toml")).expect_success("read fly.toml");
    let fly: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(fly["kill_signal"], "SIGTERM");
    assert!(fly["mounts"].is_null(), "a volume of Fly's belongs to root");
    let env = fly["env"].as_object().unwrap().iter();
    Says {
        program: None,
        env: env.map(|(name, value)| (name.clone(), text(value).to_owned())).collect(),
        grace: seconds(text(&fly["kill_timeout"])),
        alone: fly["services"][0]["auto_stop_machines"] == "off" && fly["deploy"]["strategy"] == "rolling",
    }
}

#[test]
fn every_cloud_gets_one_writer_with_its_grace_and_a_replica_the_agent_understands() {
    let names: Vec<_> = fs::read_dir(file("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), FILES.len() + 2, "a file that no test knows: {names:?}");
    for (cloud, says) in [("Cloud Run", cloud_run()), ("ECS", ecs()), ("Azure", azure()), ("Fly", fly())] {
        assert!(says.alone, "{cloud}: a second one may run beside it");
        if let Some(program) = &says.program {
            assert_eq!(program[..2], ["holdfast-supervisor", "--"], "{cloud}");
        }
        let ours = seconds(&says.env["SUPERVISOR_STOP_GRACE"]);
        // The supervisor keeps a margin of its own; where there is room it gets one more.
        assert!(ours <= says.grace && ours + 5 >= says.grace, "{cloud}: {ours} s of {}", says.grace);
        let env = holdfast_config::Env::from_pairs(says.env.iter().map(|(k, v)| (k.clone(), v.clone())));
        // Keys come from the cloud's identity or its secrets, neither of which lies here.
        assert!(says.env.keys().all(|name| !name.contains("KEY")), "{cloud}: {:?}", says.env.keys());
        let config = holdfast_config::from_env(&env).unwrap_or_else(|e| panic!("{cloud}: {e}"));
        let config = config.unwrap_or_else(|| panic!("{cloud}: no replica"));
        assert_eq!(config.databases.len(), 1, "{cloud}");
        assert_eq!(config.databases[0].replicas.len(), 1, "{cloud}");
        assert_eq!(config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{cloud}");
        let path = holdfast_config::database_path(&config, &env, None).unwrap();
        assert_eq!(path, Path::new("/data/station.db"), "{cloud}: where the image's user may write");
    }
}

#[test]
fn the_policy_allows_what_the_agent_does_in_its_own_place_and_nothing_else() {
    let policy: Value =
        serde_json::from_str(&fs::read_to_string(file("ecs-role-policy.json")).unwrap()).unwrap();
    let env = ecs().env;
    let (bucket, path) = (&env["LITESTREAM_S3_BUCKET"], &env["LITESTREAM_S3_PATH"]);
    let statements: Vec<_> = list(&policy["Statement"]).collect();
    assert_eq!(statements.len(), 2);
    assert!(statements.iter().all(|s| s["Effect"] == "Allow"));
    assert_eq!(statements[0]["Action"], "s3:ListBucket");
    assert_eq!(statements[0]["Resource"], format!("arn:aws:s3:::{bucket}"));
    assert_eq!(statements[0]["Condition"]["StringLike"]["s3:prefix"], json!([format!("{path}/*")]));
    assert_eq!(
        texts(&statements[1]["Action"]),
        ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    );
    assert_eq!(statements[1]["Resource"], format!("arn:aws:s3:::{bucket}/{path}/*"));
}

/// Where a server checks policies, the agent has what it needs there, and has it there only.
#[test]
fn the_policy_is_enough_for_a_backup_and_a_restore_and_for_no_other_path() {
    let moto = Moto::start();
    let text =
        fs::read_to_string(file("ecs-role-policy.json")).unwrap().replace("station-backups", &moto.bucket);
    let policy: Value = serde_json::from_str(&text).unwrap();
    let user = moto.user_with("station", &policy["Statement"]);
    let path = &ecs().env["LITESTREAM_S3_PATH"];
    let doctor = |path: &str| {
        let mut doctor = command(programs::ours("holdfast"));
        doctor.arg("doctor").arg(format!("s3://{}/{path}?endpoint={}", moto.bucket, moto.endpoint));
        doctor.env("AWS_ACCESS_KEY_ID", &user.access_key).env("AWS_SECRET_ACCESS_KEY", &user.secret_key);
        process::run(&mut doctor, SOON)
    };
    doctor(path).expect_success("doctor, which lists, writes, reads and deletes");
    assert_eq!(doctor("somebody-elses").code, 77);
}

fn seconds(text: &str) -> u64 {
    holdfast_config::parse_duration(text).unwrap().as_secs()
}
