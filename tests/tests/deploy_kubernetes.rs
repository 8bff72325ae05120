//! `kubernetes/`: valid, hardened, consistent, and run as a kubelet would run it: with podman and a real S3 server.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::ceph::Ceph;
use holdfast_tests::images::{APP, HOLDFAST, WRITER, images};
use holdfast_tests::manifest::{Manifests, list, text};
use holdfast_tests::oracle::{self, State};
use holdfast_tests::pod::{NotStarted, Pod};
use holdfast_tests::process::{self, Finished, command};
use holdfast_tests::{programs, workload};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const TOPOLOGIES: [&str; 3] = ["single", "statefulset", "sidecar"];
/// What the workloads need, native sidecars and `preStop.sleep`, came with 1.29 and 1.30.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

/// One topology as a person applies it.
fn topology(name: &str) -> Manifests {
    let workload = format!("kubernetes/{name}.yaml");
    Manifests::read(&["kubernetes/secret.yaml", "kubernetes/common.yaml", &workload])
}

// ---- As they lie there

fn validate(version: &str, files: &[PathBuf]) -> Finished {
    let program = programs::state().join("venv/bin/kubernetes-validate");
    assert!(
        program.exists(),
        "kubernetes-validate is not set up: `tests/run` once sets up what the tests need"
    );
    process::run(command(program).args(["--strict", "--kubernetes-version", version]).args(files), SOON)
}

#[test]
fn every_document_is_valid_in_the_oldest_and_in_the_newest_version() {
    let dir = programs::root().join("kubernetes");
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names: BTreeSet<_> = files.iter().map(|f| f.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["common", "secret", "sidecar", "single", "statefulset"]));
    for version in VERSIONS {
        let done = validate(version, &files);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, 0, "{version}:\n{said}");
        assert_eq!(said.matches(" passed for resource ").count(), 10, "{version}:\n{said}");
        assert!(!said.contains("WARN") && !said.contains("ERROR"), "{version}:\n{said}");
    }
}

#[test]
fn a_broken_manifest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read_to_string(programs::root().join("kubernetes/sidecar.yaml")).unwrap();
    for (from, to) in [
        ("      enableServiceLinks: false\n", "      enableServiceLink: false\n"),
        ("restartPolicy: Always", "restartPolice: Always"),
        ("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 60s"),
        ("drop: [ALL]", "drop: ALL"),
        ("  selector:\n", "  selectors:\n"),
    ] {
        assert!(whole.contains(from), "{from}");
        let broken = dir.path().join("broken.yaml");
        fs::write(&broken, whole.replacen(from, to, 1)).unwrap();
        let done = validate(VERSIONS[1], &[broken]);
        assert_eq!(done.code, 1, "{to} went through:\n{}{}", done.stdout, done.stderr);
    }
}

#[test]
fn every_pod_is_alone_unprivileged_and_without_a_token() {
    for name in TOPOLOGIES {
        let all = topology(name);
        let workload = all.workload();
        assert_eq!(workload["spec"]["replicas"], 1, "{name}: one writer");
        match text(&workload["kind"]) {
            "Deployment" => assert_eq!(workload["spec"]["strategy"], json!({"type": "Recreate"}), "{name}"),
            kind => assert_eq!(kind, "StatefulSet", "{name}"),
        }
        let pod = &workload["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for id in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(security[id], 1000, "{name}: the image's user");
        }
        for container in containers(&all) {
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}
                }),
                "{name}: {}",
                container["name"]
            );
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {}", container["name"]);
        }
        assert!(all.0.iter().all(|d| !["Role", "RoleBinding", "ClusterRole"].contains(&text(&d["kind"]))));
    }
}

#[test]
fn the_grace_periods_are_in_step() {
    for name in TOPOLOGIES {
        let all = topology(name);
        let pod = &all.workload()["spec"]["template"]["spec"];
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let app = &pod["containers"][0];
        let before = app["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        // The supervisor's share, or that of a final sync with the agent alone (`shutdown-sync-timeout`).
        let ours = match variable(app, "SUPERVISOR_STOP_GRACE") {
            Some(stop) => seconds(stop),
            None => 30,
        };
        let spare = grace - before - ours;
        match name {
            "sidecar" => assert!(spare >= 25, "{name}: {spare} s for the app"),
            _ => assert!((1..=3).contains(&spare), "{name}: {spare} s to spare"),
        }
    }
    // A preStop of the sidecar's would run while the app still writes.
    let sidecar = topology("sidecar");
    let agents: Vec<_> =
        containers(&sidecar).filter(|c| c["image"].as_str().unwrap().contains("/holdfast:")).collect();
    assert_eq!(agents.len(), 2);
    assert!(agents.iter().all(|c| c["lifecycle"].is_null() && c["readinessProbe"].is_null()));
}

#[test]
fn every_reference_leads_somewhere_and_no_secret_is_real() {
    let help = process::run(command(programs::ours("holdfast-supervisor")).arg("--help"), SOON).stdout;
    for name in TOPOLOGIES {
        let all = topology(name);
        let workload = all.workload();
        let template = &workload["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        assert_eq!(&workload["spec"]["selector"]["matchLabels"], labels, "{name}");
        assert_eq!(&all.get("Service", "station-svc")["spec"]["selector"], labels);
        assert_eq!(&all.get("PodDisruptionBudget", "station")["spec"]["selector"]["matchLabels"], labels);
        let policy = &all.get("NetworkPolicy", "station")["spec"];
        assert_eq!(&policy["podSelector"]["matchLabels"], labels);
        all.get("ServiceAccount", text(&template["spec"]["serviceAccountName"]));
        if workload["kind"] == "StatefulSet" {
            all.get("Service", text(&workload["spec"]["serviceName"]));
        }
        let app = &template["spec"]["containers"][0];
        let ports: BTreeSet<_> = list(&app["ports"]).map(|p| text(&p["name"])).collect();
        for service in list(&all.get("Service", "station-svc")["spec"]["ports"]) {
            assert!(ports.contains(text(&service["targetPort"])), "{name}: {service}");
        }
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert!(ports.contains(text(&app[probe]["httpGet"]["port"])), "{name}: {probe}");
        }
        if let Some(listen) = variable(app, "SUPERVISOR_LISTEN") {
            let probes = list(&app["ports"]).find(|p| p["name"] == "probes").unwrap();
            assert_eq!(
                listen,
                format!("0.0.0.0:{}", probes["containerPort"]),
                "{name}: where the kubelet asks"
            );
        }
        for port in list(&policy["ingress"][0]["ports"]) {
            assert!(ports.contains(text(&port["port"])), "{name}: {port}");
        }
        for container in containers(&all) {
            for from in list(&container["envFrom"]) {
                match from["configMapRef"]["name"].as_str() {
                    Some(map) => all.get("ConfigMap", map),
                    None => all.get("Secret", text(&from["secretRef"]["name"])),
                };
            }
            let asked = ["startupProbe", "readinessProbe", "livenessProbe"]
                .map(|probe| &container[probe]["httpGet"]["port"]);
            for port in asked.into_iter().filter_map(Value::as_str) {
                assert!(list(&container["ports"]).any(|p| p["name"] == port), "{name}: {port}");
            }
            for variable in list(&container["env"]).map(|v| text(&v["name"])) {
                let known =
                    !variable.starts_with("SUPERVISOR_") || help.contains(&format!("[env: {variable}]"));
                assert!(known, "{name}: {variable} is no variable of ours");
            }
        }
    }
    for secret in Manifests::read(&["kubernetes/secret.yaml"]).0 {
        let values = secret["stringData"].as_object().unwrap().values();
        assert!(values.clone().count() > 0 && values.into_iter().all(|v| v == "CHANGE-ME"), "{secret}");
    }
    // The keys of the bucket stay with the agent.
    let sidecar = topology("sidecar");
    let app = &sidecar.workload()["spec"]["template"]["spec"]["containers"][0];
    assert!(
        !app.to_string().contains("station-replica") && !app.to_string().contains("credentials"),
        "{app}"
    );
}

// ---- At work

/// A topology with what a person would change: images, the bucket and its keys; and the writer in Station's place.
fn deployed(name: &str, ceph: &Ceph, listen: &str, app: &[&str]) -> Manifests {
    let mut all = topology(name);
    let replica = all.get_mut("ConfigMap", "station-replica");
    for (key, value) in [
        ("LITESTREAM_S3_BUCKET", ceph.bucket.clone()),
        ("LITESTREAM_S3_ENDPOINT", ceph.endpoint.clone()),
        ("LITESTREAM_S3_PATH", format!("pods/{name}-{}", std::process::id())),
    ] {
        replica["data"][key] = value.into();
    }
    let keys = &mut all.get_mut("Secret", "station-replica")["stringData"];
    keys["access-key-id"] = ceph.access_key.as_str().into();
    keys["secret-access-key"] = ceph.secret_key.as_str().into();
    let image = |image: &Value| match image.as_str().unwrap() {
        "registry.example/station-holdfast:0.1.0" => APP,
        "registry.example/holdfast:0.1.0" => HOLDFAST,
        "registry.example/station:latest" => WRITER,
        other => panic!("{other}"),
    };
    let line: Vec<_> = ["writer"].iter().chain(app).collect();
    for container in all.containers_mut("containers") {
        container["image"] = image(&container["image"]).into();
        let place = if container["command"].is_null() { "args" } else { "command" };
        assert_eq!(container[place], json!(["stn", "serve"]));
        container[place] = json!(line);
        // The network is this machine's, where others may listen, too.
        for variable in container["env"].as_array_mut().unwrap() {
            if variable["name"] == "SUPERVISOR_LISTEN" {
                variable["value"] = listen.into();
            }
        }
    }
    if name == "sidecar" {
        for container in all.containers_mut("initContainers") {
            container["image"] = image(&container["image"]).into();
        }
        listen_on(&mut all, listen);
    }
    all
}

/// The sidecar answers here: the network is this machine's, where others may listen, too.
fn listen_on(all: &mut Manifests, address: &str) {
    for container in all.containers_mut("initContainers") {
        for variable in container["env"].as_array_mut().unwrap() {
            if variable["name"] == "LITESTREAM_ADDR" {
                variable["value"] = address.into();
            }
        }
    }
}

const WRITES: [&str; 4] = ["--rate", "200", "--truth", "/data/truth"];
const LOOKS: [&str; 3] = ["--commits", "0", "--hold"];

/// The state of an ended pod's database, judged on a copy.
#[track_caller]
fn state(data: &Path) -> State {
    let copy = tempfile::tempdir().unwrap();
    for name in ["station.db", "station.db-wal"] {
        if data.join(name).exists() {
            fs::copy(data.join(name), copy.path().join(name)).unwrap();
        }
    }
    oracle::expect_state(&copy.path().join("station.db"), "the pod's database")
}

#[track_caller]
fn writes(pod: &Pod<'_>) -> PathBuf {
    let data = pod.volume("data");
    let truth = data.join("truth");
    pod.apps[0].wait_until("the app writes", SOON, || workload::truth(&truth).len() >= 50);
    data
}

#[track_caller]
fn acknowledged(data: &Path) -> i64 {
    workload::truth(&data.join("truth")).last().expect("rows").n
}

#[test]
fn a_pod_of_one_container_restores_what_the_pod_before_it_wrote() {
    let Some(engine) = images() else { return };
    let ceph = Ceph::connect();
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().to_string();
    let manifests = deployed("single", &ceph, &listen, &WRITES);
    let pod = Pod::start(&engine, "one", &manifests).unwrap();
    let data = writes(&pod);
    let app = &manifests.workload()["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = text(&app[probe]["httpGet"]["path"]);
        let answer = get(&listen, path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let (codes, took) = pod.stop();
    assert_eq!(codes, [0], "{}", pod.apps[0].log());
    assert!(took < SOON, "{took:?}");
    let summary: Value = serde_json::from_str(&pod.termination_log("station")).expect("the summary is JSON");
    assert_eq!((&summary["exit"], &summary["sync"]["ok"]), (&json!(0), &json!(true)), "{summary}");
    let before = state(&data);
    assert!(before.last >= acknowledged(&data));
    drop(pod);
    assert!(!data.exists(), "an emptyDir goes with its pod");

    let pod = Pod::start(&engine, "two", &deployed("single", &ceph, "off", &LOOKS)).unwrap();
    pod.apps[0].wait_until("the app holds its database", SOON, || pod.apps[0].log().contains("holding"));
    let data = pod.volume("data");
    assert_eq!(pod.stop().0, [0], "{}", pod.apps[0].log());
    assert_eq!(state(&data), before, "{}", pod.apps[0].log());
}

#[test]
fn a_stateful_pod_finds_its_disk_again_and_goes_on_without_a_new_snapshot() {
    let Some(engine) = images() else { return };
    let ceph = Ceph::connect();
    let manifests = deployed("statefulset", &ceph, "off", &WRITES);
    let mut last = 0;
    for start in ["fresh", "again"] {
        let pod = Pod::start(&engine, "station-0", &manifests).unwrap();
        let data = pod.volume("data");
        pod.apps[0].wait_until("the app writes", SOON, || {
            workload::truth(&data.join("truth")).last().is_some_and(|row| row.n >= last + 50)
        });
        assert_eq!(pod.stop().0, [0], "{start}: {}", pod.apps[0].log());
        last = acknowledged(&data);
        assert!(state(&data).last >= last);
    }
    let replica = &manifests.get("ConfigMap", "station-replica")["data"];
    let mut snapshots = command(programs::ours("holdfast"));
    snapshots.args(["snapshots", "-json", "/data/station.db"]);
    snapshots.envs(replica.as_object().unwrap().iter().map(|(k, v)| (k, text(v))));
    snapshots.env("LITESTREAM_S3_ACCESS_KEY_ID", &ceph.access_key);
    snapshots.env("LITESTREAM_S3_SECRET_ACCESS_KEY", &ceph.secret_key);
    let listed = process::run(&mut snapshots, SOON).expect_success("holdfast snapshots");
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(list(&listed).count(), 1, "{listed}");
}

#[test]
fn a_sidecar_gets_the_last_commit_of_an_app_that_ended_before_it() {
    let Some(engine) = images() else { return };
    let ceph = Ceph::connect();
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().to_string();
    let manifests = deployed("sidecar", &ceph, &listen, &WRITES);
    let pod = Pod::start(&engine, "side", &manifests).unwrap();
    let data = writes(&pod);
    let agent = containers(&manifests).find(|c| c["name"] == "replicate").unwrap();
    for probe in ["startupProbe", "livenessProbe"] {
        let path = text(&agent[probe]["httpGet"]["path"]);
        // This kubelet starts the app without waiting for it.
        let ok = || TcpStream::connect(&listen).is_ok() && get(&listen, path).starts_with("HTTP/1.1 200 ");
        pod.sidecars[0].wait_until(&format!("{path} says yes"), SOON, ok);
    }
    // What Kubernetes promises: the app has ended, then the sidecar hears of it.
    let (codes, _) = pod.stop();
    assert_eq!(codes, [0, 0], "{}{}", pod.apps[0].log(), pod.sidecars[0].log());
    assert!(pod.sidecars[0].log().contains("final sync complete"), "{}", pod.sidecars[0].log());
    let before = state(&data);
    assert!(before.last >= acknowledged(&data));
    drop(pod);

    // On a volume where a WAL was left over from another database.
    let looks = deployed("sidecar", &ceph, "127.0.0.1:0", &LOOKS);
    let pod = Pod::start_on(&engine, "more", &looks, |volume| {
        fs::write(volume("data").join("station.db-wal"), b"left over").unwrap();
    });
    let pod = pod.unwrap();
    pod.apps[0].wait_until("the app holds its database", SOON, || pod.apps[0].log().contains("holding"));
    // An app that is killed leaves its WAL behind; the sidecar is none the worse for it.
    pod.apps[0].kill();
    let data = pod.volume("data");
    assert_eq!(pod.stop().0, [137, 0], "{}", pod.sidecars[0].log());
    assert_eq!(state(&data), before, "{}", pod.sidecars[0].log());
    let aside = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let mut aside = aside.filter(|path| path.display().to_string().contains("station.db.orphan-wal-"));
    let kept = aside.next().expect("it was set aside").join("station.db-wal");
    assert_eq!(fs::read(kept).unwrap(), b"left over");
    drop(pod);

    // Keys that are refused: the pod stays where it is, and the app is not started on nothing.
    let mut wrong = manifests;
    wrong.get_mut("Secret", "station-replica")["stringData"]["secret-access-key"] = "wrong".into();
    let NotStarted { code, log } = Pod::start(&engine, "wrong", &wrong).expect_err("it cannot start");
    assert_eq!(code, 77, "{log}");
}

#[test]
fn what_init_writes_is_a_pod_that_runs_and_brings_its_database_back() {
    let Some(engine) = images() else { return };
    let ceph = Ceph::connect();
    let prefix = format!("pods/init-{}", std::process::id());
    let url = format!("s3://{}/{prefix}?endpoint={}", ceph.bucket, ceph.endpoint);
    for (name, app) in [("wrote", &WRITES[..]), ("found", &LOOKS)] {
        let dir = tempfile::tempdir().unwrap();
        let mut init = command(programs::ours("holdfast"));
        init.args(["init", "-image", APP, "-app-image", WRITER, "-holdfast-image", HOLDFAST, "-o"]);
        init.arg(dir.path()).arg(&url).args(["--", "writer"]).args(app);
        process::run(&mut init, SOON).expect_success("init");
        let file = |name: &str| dir.path().join("kubernetes").join(name).display().to_string();
        let files = [file("secret.yaml"), file("common.yaml"), file("sidecar.yaml")];
        let mut manifests = Manifests::read(&files.each_ref().map(String::as_str));
        // What a person fills in, and nothing else; but this machine's port 9090 may be taken.
        let keys = &mut manifests.get_mut("Secret", "station-replica")["stringData"];
        keys["access-key-id"] = ceph.access_key.as_str().into();
        keys["secret-access-key"] = ceph.secret_key.as_str().into();
        listen_on(&mut manifests, "127.0.0.1:0");
        let pod = Pod::start(&engine, name, &manifests).unwrap();
        let data = pod.volume("data");
        if name == "wrote" {
            writes(&pod);
        } else {
            pod.apps[0]
                .wait_until("the app has its database", SOON, || pod.apps[0].log().contains("holding"));
        }
        assert_eq!(pod.stop().0, [0, 0], "{}{}", pod.apps[0].log(), pod.sidecars[0].log());
        let state = state(&data);
        assert!(state.last >= 50, "{name}: {state:?}: {}", pod.sidecars[0].log());
    }
}

/// What the kubelet's `httpGet` reads.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Every container of the workload.
fn containers(all: &Manifests) -> impl Iterator<Item = &Value> {
    let spec = &all.workload()["spec"]["template"]["spec"];
    list(&spec["initContainers"]).chain(list(&spec["containers"]))
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    list(&container["env"]).find(|v| v["name"] == name).map(|v| text(&v["value"]))
}

fn seconds(text: &str) -> u64 {
    holdfast_config::parse_duration(text).unwrap().as_secs()
}
