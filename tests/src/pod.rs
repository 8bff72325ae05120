//! A pod run as a kubelet would, with podman in its place: every container of the workload's manifest as the manifest
//! describes it, in the order Kubernetes promises. Runs containers.
//!
//! | from the manifest | here |
//! | --- | --- |
//! | `initContainers`, in order; one with `restartPolicy: Always` stays | run to their end, or started |
//! | `command`, `args`, `env`, `envFrom` | the same |
//! | `securityContext` of pod and container | `--user`, `--group-add`, `--read-only`, `--cap-drop`, `--security-opt` |
//! | `emptyDir` and claims | volumes, writable for `fsGroup`; an `emptyDir` goes with the pod |
//! | `secret` and `configMap` volumes | files of `defaultMode` that belong to `fsGroup` |
//! | the termination log | a file the container may write |
//! | a stop | SIGTERM to the app's containers, then to the sidecars in reverse, within one grace period |
//!
//! The network is the machine's, so that a server on loopback is in reach. Probes, `preStop` and resources are left out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container::{Container, Engine};
use crate::manifest::{Manifests, list, text, texts};

/// A running pod.
#[derive(Debug)]
pub struct Pod<'e> {
    engine: &'e Engine,
    name: String,
    grace: Duration,
    /// Started before the app, in order.
    pub sidecars: Vec<Container<'e>>,
    pub apps: Vec<Container<'e>>,
    /// Volumes that go with it.
    empty: Vec<String>,
}

/// An init container did not end with 0.
#[derive(Debug)]
pub struct NotStarted {
    pub code: i32,
    pub log: String,
}

impl<'e> Pod<'e> {
    /// Starts the workload of `manifests` as pod `name`.
    pub fn start(engine: &'e Engine, name: &str, manifests: &Manifests) -> Result<Self, NotStarted> {
        Self::start_on(engine, name, manifests, |_| {})
    }

    /// [`Pod::start`] on volumes that `prepare` has seen first; it is given where each lies by its name.
    pub fn start_on(
        engine: &'e Engine,
        name: &str,
        manifests: &Manifests,
        prepare: impl FnOnce(&dyn Fn(&str) -> PathBuf),
    ) -> Result<Self, NotStarted> {
        let spec = &manifests.workload()["spec"]["template"]["spec"];
        let grace = spec["terminationGracePeriodSeconds"].as_u64().expect("a grace period in seconds");
        let mut pod = Self {
            engine,
            name: name.into(),
            grace: Duration::from_secs(grace),
            sidecars: Vec::new(),
            apps: Vec::new(),
            empty: Vec::new(),
        };
        let volumes = pod.volumes(spec, manifests);
        prepare(&|name| pod.volume(name));
        for init in list(&spec["initContainers"]) {
            let container = pod.container(spec, init, &volumes, manifests);
            if init["restartPolicy"] == "Always" {
                pod.sidecars.push(container);
                continue;
            }
            let code = container.wait();
            if code != 0 {
                return Err(NotStarted { code, log: container.log() });
            }
        }
        for app in list(&spec["containers"]) {
            let container = pod.container(spec, app, &volumes, manifests);
            pod.apps.push(container);
        }
        Ok(pod)
    }

    /// Where the volume's files lie on this machine.
    pub fn volume(&self, name: &str) -> PathBuf {
        let name = format!("{}-{name}", self.name);
        self.engine.ask(["volume", "inspect", "--format", "{{.Mountpoint}}", &name]).into()
    }

    /// What the container called `name` wrote for Kubernetes.
    pub fn termination_log(&self, name: &str) -> String {
        fs::read_to_string(self.termination_log_path(name)).expect("the kubelet made it")
    }

    /// Ends it: the apps, then the sidecars in reverse. The exit codes in that order, and how long it took.
    #[track_caller]
    pub fn stop(&self) -> (Vec<i32>, Duration) {
        let began = Instant::now();
        let codes = self.apps.iter().chain(self.sidecars.iter().rev()).map(|container| {
            // At least 2 s, as the kubelet has it.
            let left = self.grace.saturating_sub(began.elapsed()).as_secs().max(2);
            container.stop(&left.to_string()).1
        });
        (codes.collect(), began.elapsed())
    }

    /// [`Pod::start`]'s volumes, by name: what to mount.
    fn volumes(&mut self, spec: &Value, manifests: &Manifests) -> BTreeMap<String, String> {
        let group = spec["securityContext"]["fsGroup"].as_u64().and_then(|id| u32::try_from(id).ok());
        let mut volumes = BTreeMap::new();
        for volume in list(&spec["volumes"]) {
            let name = text(&volume["name"]);
            let source = if volume["emptyDir"].is_object() {
                let made = format!("{}-{name}", self.name);
                let path = self.engine.volume(&made).path;
                share(&path, group, 0o2777);
                self.empty.push(made.clone());
                made
            } else if volume["secret"].is_object() {
                let secret = manifests.get("Secret", text(&volume["secret"]["secretName"]));
                self.files(name, secret, &volume["secret"]["defaultMode"], group)
            } else if volume["configMap"].is_object() {
                let map = manifests.get("ConfigMap", text(&volume["configMap"]["name"]));
                self.files(name, map, &volume["configMap"]["defaultMode"], group)
            } else {
                panic!("a volume of a kind this kubelet does not know: {volume}");
            };
            volumes.insert(name.into(), source);
        }
        for claim in list(&manifests.workload()["spec"]["volumeClaimTemplates"]) {
            let name = text(&claim["metadata"]["name"]);
            let made = format!("{}-{name}", self.name);
            if self.engine.call(["volume", "exists", &made]).code != 0 {
                let path = self.engine.volume(&made).path;
                share(&path, group, 0o2770);
            }
            volumes.insert(name.into(), made);
        }
        volumes
    }

    fn files(&self, name: &str, object: &Value, mode: &Value, group: Option<u32>) -> String {
        let dir = self.engine.dir().join(format!("{}-{name}", self.name));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a new directory");
        let mode = if mode.is_null() { 0o644 } else { octal(mode) };
        for (key, value) in data(object) {
            let path = dir.join(key);
            fs::write(&path, value).expect("a file in a new directory");
            share(&path, group, mode);
        }
        dir.display().to_string()
    }

    fn termination_log_path(&self, container: &str) -> PathBuf {
        self.engine.dir().join(format!("{}-{container}.termination", self.name))
    }

    fn container(
        &self,
        spec: &Value,
        container: &Value,
        volumes: &BTreeMap<String, String>,
        manifests: &Manifests,
    ) -> Container<'e> {
        let name = text(&container["name"]);
        let mut flags = vec!["--network=host".to_owned()];
        flags.extend(security(&spec["securityContext"], &container["securityContext"]));
        for (key, value) in environment(container, manifests) {
            flags.push(format!("--env={key}={value}"));
        }
        for mount in list(&container["volumeMounts"]) {
            let (volume, at) = (text(&mount["name"]), text(&mount["mountPath"]));
            let source =
                volumes.get(volume).unwrap_or_else(|| panic!("{name} mounts {volume}, which is no volume"));
            let read_only = if mount["readOnly"] == true { ":ro" } else { "" };
            flags.push(format!("--volume={source}:{at}{read_only}"));
        }
        let log = self.termination_log_path(name);
        fs::write(&log, "").expect("a file in the engine's directory");
        share(&log, None, 0o666);
        flags.push(format!("--volume={}:/dev/termination-log", log.display()));
        let (command, args) = (texts(&container["command"]), texts(&container["args"]));
        let mut after: Vec<&str> = args;
        if let [program, rest @ ..] = command.as_slice() {
            flags.push(format!("--entrypoint={program}"));
            after = [rest, &after].concat();
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.engine.start(&format!("{}-{name}", self.name), &flags, text(&container["image"]), &after)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let _ = self.engine.call(["rm", "--all", "--force", "--time", "0"]);
        for volume in &self.empty {
            let _ = self.engine.call(["volume", "rm", "--force", volume]);
        }
    }
}

/// What the kubelet does for `fsGroup`, or for a file of its own.
fn share(path: &std::path::Path, group: Option<u32>, mode: u32) {
    chown(path, Some(0), group).expect("root may give away");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its own file");
}

/// `0440`: octal to Kubernetes, a text to a newer YAML.
fn octal(mode: &Value) -> u32 {
    u32::from_str_radix(text(mode), 8).unwrap_or_else(|e| panic!("{mode}: {e}"))
}

/// The container's own setting, else the pod's.
fn security(pod: &Value, container: &Value) -> Vec<String> {
    let either = |key: &str| if container[key].is_null() { &pod[key] } else { &container[key] };
    let mut flags = Vec::new();
    let id = |key: &str| either(key).as_u64();
    if let (Some(user), Some(group)) = (id("runAsUser"), id("runAsGroup")) {
        flags.push(format!("--user={user}:{group}"));
    }
    if let Some(group) = pod["fsGroup"].as_u64() {
        flags.push(format!("--group-add={group}"));
    }
    if container["readOnlyRootFilesystem"] == true {
        // podman would add writable directories that Kubernetes does not.
        flags.extend(["--read-only".into(), "--read-only-tmpfs=false".into()]);
    }
    if container["allowPrivilegeEscalation"] == false {
        flags.push("--security-opt=no-new-privileges".into());
    }
    flags.extend(texts(&container["capabilities"]["drop"]).iter().map(|cap| format!("--cap-drop={cap}")));
    // seccompProfile RuntimeDefault is what podman does unasked.
    flags
}

/// `envFrom`, then `env`, as Kubernetes puts one over the other.
fn environment(container: &Value, manifests: &Manifests) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for from in list(&container["envFrom"]) {
        let (kind, name) = match (from["configMapRef"]["name"].as_str(), from["secretRef"]["name"].as_str()) {
            (Some(name), None) => ("ConfigMap", name),
            (None, Some(name)) => ("Secret", name),
            other => panic!("envFrom {other:?}"),
        };
        env.extend(data(manifests.get(kind, name)));
    }
    for variable in list(&container["env"]) {
        env.insert(text(&variable["name"]).into(), text(&variable["value"]).into());
    }
    env
}

/// What a ConfigMap or a Secret holds, as text.
fn data(object: &Value) -> BTreeMap<String, String> {
    let maps = [&object["data"], &object["stringData"]];
    let entries = maps.into_iter().filter_map(Value::as_object).flatten();
    entries.map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}
