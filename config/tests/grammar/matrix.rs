//! Every key, with every kind of value it does not expect: what is said, to the letter.

use std::fmt::Write as _;

use holdfast_config::{Fate, Key, all_keys};

use crate::read;

/// What stands behind the colon. The last is a variable that is not set.
const VALUES: [&str; 8] = ["[x]", "{x: y}", "''", "odd value", "-1", "true", "0", "${UNSET}"];

/// A file that says `key: value` where the key belongs, and is right otherwise.
fn file(key: &Key, value: &str) -> String {
    let line = format!("{}: {value}", key.name);
    // What the replica needs, unless it is the key in question.
    let replica = |needs: &[&str]| {
        let mut lines: Vec<&str> =
            needs.iter().copied().filter(|need| need.split(':').next() != Some(key.name)).collect();
        lines.push(&line);
        format!("dbs:\n  - path: /d\n    replica:\n      {}\n", lines.join("\n      "))
    };
    let database = |line: &str| format!("dbs:\n  - path: /d\n    {line}\n    replica: {{path: /r}}\n");
    let rest = "dbs: [{path: /d, replica: {path: /r}}]\n";
    match key.place {
        "the top level" if key.name == "dbs" => format!("{line}\n"),
        "the top level" => format!("{line}\n{rest}"),
        "`logging`" => format!("logging:\n  {line}\n{rest}"),
        "`snapshot`" => format!("snapshot:\n  {line}\n{rest}"),
        "an item of `levels`" => format!("levels:\n  - {line}\n{rest}"),
        "`retention` at the top level" => format!("retention:\n  {line}\n{rest}"),
        "a database (an item of `dbs`)" => match key.name {
            "path" => format!("dbs:\n  - {line}\n    replica: {{path: /r}}\n"),
            "replica" | "replicas" => format!("dbs:\n  - path: /d\n    {line}\n"),
            "dir" => format!("dbs:\n  - {line}\n    pattern: '*'\n    replica: {{path: /r}}\n"),
            "pattern" => format!("dbs:\n  - dir: /d\n    {line}\n    replica: {{path: /r}}\n"),
            "recursive" | "watch" | "meta-dir" => {
                format!("dbs:\n  - dir: /d\n    pattern: '*'\n    {line}\n    replica: {{path: /r}}\n")
            }
            _ => database(&line),
        },
        "a replica of type s3" => replica(&["type: s3", "bucket: b", "region: r"]),
        "a replica of type gcs" => replica(&["type: gcs", "bucket: b"]),
        "a replica of type abs" => replica(&["type: abs", "bucket: b", "account-name: a"]),
        "a replica of type sftp" => replica(&["type: sftp", "host: h", "user: u"]),
        "a replica" if ["type", "url"].contains(&key.name) => replica(&[]),
        "`age`" => format!(
            "dbs:
  - path: /d
    replica:
      path: /r
      age:
        {line}
"
        ),
        _ => replica(&["path: /r"]),
    }
}

#[test]
fn every_key_says_what_is_wrong_with_a_value_it_does_not_expect() {
    let mut out = String::new();
    for key in all_keys() {
        writeln!(out, "{} of {}", key.name, key.place).unwrap();
        let mut before = String::new();
        for value in VALUES {
            let said = match read(&file(&key, value), &[]) {
                Ok(config) if config.warnings.is_empty() => "fine".into(),
                Ok(config) => {
                    config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n    ")
                }
                Err(e) => e.to_string(),
            };
            match key.fate {
                // The value does not matter: once is enough.
                Fate::Ignored(_) | Fate::Refused(_) if said == before => {}
                _ => writeln!(out, "  {value}\n    {said}").unwrap(),
            }
            // An empty text is no value.
            let silent = said == "fine" && value != "''";
            assert!(!(silent && matches!(key.fate, Fate::Ignored(_))), "{} is ignored silently", key.name);
            before = said;
        }
    }
    insta::assert_snapshot!(out);
}
