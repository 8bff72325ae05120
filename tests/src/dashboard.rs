//! What `compose/observability/` asks Prometheus: each expression of the Grafana dashboard with its variables filled in as
//! *All*, and the alerts. Reads files.

use std::path::PathBuf;

use serde_json::Value;

use crate::manifest::{Manifests, list, text};
use crate::programs;

/// A file below `compose/observability/`.
pub fn file(name: &str) -> PathBuf {
    programs::root().join("compose/observability").join(name)
}

/// The dashboard as it is imported.
#[track_caller]
pub fn dashboard() -> Value {
    let text = std::fs::read_to_string(file("grafana/dashboard.json")).expect("the dashboard can be read");
    serde_json::from_str(&text).expect("it is JSON")
}

/// Every expression with the title of its panel or the name of its variable. `interval` stands for `$__rate_interval`.
#[track_caller]
pub fn expressions(interval: &str) -> Vec<(String, String)> {
    let dashboard = dashboard();
    let filled = |expression: &str| {
        let expression = expression.replace("$__rate_interval", interval);
        expression.replace("$instance", ".*").replace("$db", ".*")
    };
    let mut all = Vec::new();
    for panel in list(&dashboard["panels"]) {
        let asked = list(&panel["targets"]).map(|target| filled(text(&target["expr"])));
        all.extend(asked.map(|expression| (text(&panel["title"]).to_owned(), expression)));
    }
    for variable in list(&dashboard["templating"]["list"]) {
        // `label_values(SELECTOR, LABEL)`
        if let Some(query) = variable["query"].as_str().and_then(|q| q.strip_prefix("label_values(")) {
            let (selector, _) = query.rsplit_once(", ").expect("a selector and a label");
            all.push((text(&variable["name"]).to_owned(), filled(selector)));
        }
    }
    all
}

/// Every alerting rule.
#[track_caller]
pub fn alerts() -> Vec<Value> {
    let alerts = &Manifests::read(&["compose/observability/alerts.yml"]).0[0];
    list(&alerts["groups"]).flat_map(|group| list(&group["rules"])).cloned().collect()
}
