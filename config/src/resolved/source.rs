//! Where a value comes from. Values only.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::env::Env;
use crate::error::Position;
use crate::model::Origin;
use crate::trace::{Given, Notes};
use crate::yaml;

/// The origin of a value. Prints as `12:9`, `12:9, ${NAME}`, `12:9, file /run/secrets/key`, `AWS_REGION`,
/// `KEY_FILE, file /run/secrets/key` or `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A key of the file; the variables its value is made of, as they stand there; the file a secret is in.
    File {
        at: Option<Position>,
        template: Option<String>,
        file: Option<PathBuf>,
    },
    /// A variable of the environment.
    Variable(String),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
            Self::File { at, template, file } => {
                match at {
                    Some(at) => write!(f, "{at}")?,
                    // A merge key brought it in.
                    None => f.write_str("the file")?,
                }
                template.as_ref().map_or(Ok(()), |t| write!(f, ", {t}"))?;
                file.as_ref().map_or(Ok(()), |file| write!(f, ", file {}", file.display()))
            }
        }
    }
}

impl Source {
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Variable(name) => json!({ "kind": "environment", "variable": name }),
            Self::Default => json!({ "kind": "default" }),
            Self::File { at, template, file } => json!({
                "kind": "file",
                "line": at.map(|at| at.line),
                "column": at.map(|at| at.column),
                "template": template,
                "secret-file": file,
            }),
        }
    }
}

/// Everything an answer is found in.
pub(super) struct Sources<'a> {
    /// The configuration file's, empty if there is none.
    pub(super) text: &'a str,
    pub(super) notes: &'a Notes,
    pub(super) env: &'a Env,
    pub(super) origin: &'a Origin,
}

impl Sources<'_> {
    /// The first of these keys that the file gives.
    pub(super) fn key(&self, keys: &[String]) -> Option<Source> {
        let given = keys.iter().find_map(|key| {
            let own = self.notes.given.get(key).or_else(|| self.notes.given.get(&format!("{key}-file")));
            let url = || {
                let (parent, _) = key.rsplit_once('.').filter(|_| self.notes.in_url.contains(key))?;
                self.notes.given.get(&format!("{parent}.url"))
            };
            own.or_else(url)
        });
        given.map(|given| self.given(given))
    }

    /// As [`Sources::key`], else the first of these variables that is set.
    pub(super) fn find(&self, keys: &[String], variables: &[&str]) -> Source {
        let set = || variables.iter().find(|name| self.env.filled(name).is_some());
        let variable = || set().map(|name| Source::Variable((*name).into()));
        self.key(keys).or_else(variable).unwrap_or(Source::Default)
    }

    /// The same of a secret, whose variable may also name a file.
    pub(super) fn find_secret(&self, keys: &[String], variables: &[&str]) -> Source {
        let both = |name: &&str| [name.to_string(), format!("{name}_FILE")];
        let names: Vec<String> = variables.iter().flat_map(both).collect();
        self.find(keys, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn given(&self, given: &Given) -> Source {
        Source::File {
            at: yaml::position(self.text, &given.path),
            template: given.template.as_deref().and_then(references),
            file: given.file.clone(),
        }
    }
}

/// The references of a template without their words, which may be secrets: `${A:-hunter2}/x` is `${A…}…`. `None` if it
/// holds none.
fn references(template: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while !rest.is_empty() {
        let end = match rest.starts_with('$') {
            true => end_of_reference(rest),
            false => rest.find('$').unwrap_or(rest.len()),
        };
        let (part, after) = rest.split_at(end);
        match part.find([':', '-', '?', '+']) {
            _ if !part.starts_with('$') || matches!(part, "$" | "$$") => {
                out.push_str(if out.ends_with('…') { "" } else { "…" });
            }
            Some(word) => out.push_str(&format!("{}…}}", &part[..word])),
            None => out.push_str(part),
        }
        rest = after;
    }
    Some(out).filter(|out| out != "…")
}

/// How long the reference at the start of `text` is, with the words in its braces.
fn end_of_reference(text: &str) -> usize {
    let mut depth = 0_usize;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            '{' if i == 1 || depth > 0 => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ if depth > 0 => {}
            '$' if i == 1 => return 2,
            c if c.is_ascii_alphanumeric() || c == '_' => {}
            _ => return i,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_shown_without_what_may_be_a_secret() {
        for (template, shown) in [
            ("${A}", "${A}"),
            ("$A", "$A"),
            ("${A:-hunter2}", "${A…}"),
            ("${A:-${B:-hunter2}}", "${A…}"),
            ("hunter2${A}hunter2", "…${A}…"),
            ("$A/hunter2", "$A…"),
            ("$$hunter2", ""),
            ("$$hunter2/${A}", "…${A}"),
            ("${A}${B}", "${A}${B}"),
            ("hunter2$", ""),
            ("${A?hunter2}", "${A…}"),
        ] {
            assert_eq!(references(template).as_deref().unwrap_or_default(), shown, "{template}");
        }
    }
}
