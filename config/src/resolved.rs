//! The effective configuration with the origin of every value: what `config check --resolved` shows. Values only.
//!
//! As YAML it can be read again and means the same, but for what stands in comments: secrets, of which only the origin
//! is shown, and values that depend on the layout the replica turns out to have.
//!
//! ```text
//! dbs:
//!   - path: /data/station.db                # 5:11
//!     replicas:
//!       - type: s3                          # 7:15
//!         region: eu-central-1              # AWS_REGION
//!         # secret-access-key: "***"        # 12:28, ${LITESTREAM_S3_SECRET_ACCESS_KEY}
//!         retention: 24h                    # default
//! ```

mod source;
mod tree;
mod yaml;

use serde_json::{Value as Json, json};

use crate::env::Env;
use crate::model::Config;
use crate::trace::Notes;

pub use source::Source;

/// A configuration that knows where its values come from. Shows no secret.
#[derive(Debug)]
pub struct Resolved {
    pub config: Config,
    tree: Vec<Entry>,
    /// `$` begins a variable in the file.
    expand: bool,
}

/// A key and what stands under it.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    key: &'static str,
    node: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Value(Value, Source),
    /// Cannot be read again: a secret (`None`), or what the text says.
    Comment(Option<String>, Source),
    Map(Vec<Entry>),
    List(Vec<Vec<Entry>>),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// Any text; printed in quotes where YAML asks for them.
    Text(String),
    /// A word of ours: a duration, a size, a choice.
    Word(String),
    Number(u64),
    Switch(bool),
}

impl Resolved {
    pub(crate) fn new(config: Config, text: &str, notes: &Notes, env: &Env, expand: bool) -> Self {
        let sources = source::Sources { text, notes, env, origin: &config.origin };
        let tree = tree::of(&config, &sources);
        Self { config, tree, expand }
    }

    /// The configuration as `litestream.yml` writes it, each line with its origin behind it.
    pub fn to_yaml(&self) -> String {
        yaml::print(&self.tree, self.expand)
    }

    /// The same tree; in place of each value an object of `value` and `source`. A secret's value is null.
    pub fn to_json(&self) -> Json {
        map(&self.tree)
    }
}

fn map(entries: &[Entry]) -> Json {
    Json::Object(entries.iter().map(|e| (e.key.to_string(), node(&e.node))).collect())
}

fn node(node: &Node) -> Json {
    match node {
        Node::Value(value, source) => json!({ "value": scalar(value), "source": source.to_json() }),
        Node::Comment(text, source) => json!({ "value": text, "source": source.to_json() }),
        Node::Map(entries) => map(entries),
        Node::List(items) => items.iter().map(|entries| map(entries)).collect(),
    }
}

fn scalar(value: &Value) -> Json {
    match value {
        Value::Text(text) | Value::Word(text) => json!(text),
        Value::Number(n) => json!(n),
        Value::Switch(on) => json!(on),
    }
}
