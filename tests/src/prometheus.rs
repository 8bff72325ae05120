//! A real Prometheus on loopback with `compose/observability/`'s own configuration, but for its places and its patience.
//! Starts a process.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dashboard;
use crate::manifest::{Manifests, list, text};
use crate::process::{Running, command};
use crate::scrape::{free, get};

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    address: String,
    running: Running,
    _dir: TempDir,
}

/// How often it scrapes and evaluates here.
pub const INTERVAL: &str = "250ms";

impl Prometheus {
    /// Starts one that scrapes `targets`, each with the one it stands for (`station:9090`), and alerts after a second
    /// instead of minutes; `changed` may change the text of the rules.
    #[track_caller]
    pub fn start(targets: &[(&str, &str)], changed: impl Fn(&str) -> String) -> Self {
        let dir = tempfile::Builder::new().prefix("prometheus-").tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        let mut config = Manifests::read(&["compose/observability/prometheus.yml"]).0.remove(0);
        for interval in ["scrape_interval", "evaluation_interval"] {
            assert!(config["global"][interval].is_string(), "{interval}");
            config["global"][interval] = INTERVAL.into();
        }
        for job in config["scrape_configs"].as_array_mut().expect("jobs") {
            let target = &mut job["static_configs"][0]["targets"][0];
            let stands = targets.iter().find(|(theirs, _)| *theirs == text(target));
            *target = stands.unwrap_or_else(|| panic!("nothing stands for {target}")).1.into();
        }
        let rules = fs::read_to_string(dashboard::file("alerts.yml")).expect("the rules can be read");
        fs::write(at("alerts.yml"), changed(&sooner(&rules))).expect("a file in a new directory");
        assert_eq!(config["rule_files"], json!(["alerts.yml"]), "beside the configuration");
        fs::write(at("prometheus.yml"), config.to_string()).expect("a file in a new directory");
        let address = free();
        let mut prometheus = command("prometheus");
        prometheus.arg(format!("--config.file={}", at("prometheus.yml").display()));
        prometheus.arg(format!("--storage.tsdb.path={}", at("data").display()));
        prometheus.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let mut running = Running::start(&mut prometheus, &at("log"));
        let until = Instant::now() + SOON;
        while get(&address, "/-/ready").is_none_or(|(status, _)| status != 200) {
            assert!(
                running.alive() && Instant::now() < until,
                "Prometheus does not start:\n{}",
                running.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { address, running, _dir: dir }
    }

    /// `data` of the answer to `/api/v1/PATH`.
    #[track_caller]
    pub fn api(&self, path: &str) -> Value {
        let asked = get(&self.address, &format!("/api/v1/{path}"));
        let (_, body) = asked.unwrap_or_else(|| panic!("no answer to {path}:\n{}", self.running.log()));
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// The samples an expression has now.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.api(&format!("query?query={encoded}"));
        assert_eq!(data["resultType"], "vector", "{expression}");
        list(&data["result"]).cloned().collect()
    }

    /// The names of the alerts that fire.
    #[track_caller]
    pub fn firing(&self) -> Vec<String> {
        let data = self.api("alerts");
        let firing = list(&data["alerts"]).filter(|alert| alert["state"] == "firing");
        let mut names: Vec<_> = firing.map(|a| text(&a["labels"]["alertname"]).to_owned()).collect();
        names.sort();
        names
    }
}

/// The rules with a second for every time they wait.
fn sooner(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.trim_start().starts_with("for: ") {
        true => format!("{}for: 1s\n", &line[..line.len() - line.trim_start().len()]),
        false => format!("{line}\n"),
    });
    lines.collect()
}

const SOON: Duration = Duration::from_secs(30);
