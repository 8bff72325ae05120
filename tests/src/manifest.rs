//! Files of YAML documents as values: read, searched and changed as a person would who deploys them. Reads files.

use serde::Deserialize as _;
use serde_json::Value;

use crate::programs;

/// Documents of one or more files, in order.
#[derive(Debug, Clone)]
pub struct Manifests(pub Vec<Value>);

impl Manifests {
    /// The documents of `files`, each a path from the root of the repository or an absolute one.
    #[track_caller]
    pub fn read(files: &[&str]) -> Self {
        let all = files.iter().flat_map(|file| {
            let path = programs::root().join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
            let documents = serde_yaml::Deserializer::from_str(&text);
            documents
                .map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{file}: {e}")))
                .collect::<Vec<_>>()
        });
        Self(all.collect())
    }

    /// The document of this kind, and of this name unless it is empty.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> &Value {
        let wanted = |d: &&Value| d["kind"] == kind && (name.is_empty() || d["metadata"]["name"] == name);
        self.0.iter().find(wanted).unwrap_or_else(|| panic!("no {kind} {name:?}"))
    }

    /// As [`Manifests::get`], to change it.
    #[track_caller]
    pub fn get_mut(&mut self, kind: &str, name: &str) -> &mut Value {
        let wanted = |d: &&mut Value| d["kind"] == kind && (name.is_empty() || d["metadata"]["name"] == name);
        self.0.iter_mut().find(wanted).unwrap_or_else(|| panic!("no {kind} {name:?}"))
    }

    /// The one workload, a Deployment or a StatefulSet.
    #[track_caller]
    pub fn workload(&self) -> &Value {
        let mut found = self.0.iter().filter(|d| d["spec"]["template"]["spec"].is_object());
        let workload = found.next().expect("a workload");
        assert!(found.next().is_none(), "more than one workload");
        workload
    }

    /// The workload's containers of `list` (`initContainers`, `containers`), to change them.
    #[track_caller]
    pub fn containers_mut(&mut self, list: &str) -> &mut Vec<Value> {
        let mut found = self.0.iter_mut().filter(|d| d["spec"]["template"]["spec"].is_object());
        let spec = &mut found.next().expect("a workload")["spec"]["template"]["spec"];
        match &mut spec[list] {
            Value::Array(list) => list,
            other => panic!("{list}: {other}"),
        }
    }
}

/// The items of a list; none where there is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list of texts.
#[track_caller]
pub fn texts(value: &Value) -> Vec<&str> {
    list(value).map(text).collect()
}

/// A text that has to be one.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
