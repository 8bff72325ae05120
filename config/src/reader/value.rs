//! The values of a map's keys, each with its variables put in and of the type its reader asks for. Values only, but for
//! the files of secrets.

use std::fmt;
use std::time::Duration;

use super::Section;
use crate::duration::parse_duration;
use crate::error::ConfigError;
use crate::expand::{self, BadReference};
use crate::keys;
use crate::secret::Secret;
use crate::secret_file;
use crate::size::parse_size;
use crate::yaml::{self, Node};

/// A scalar with its variables put in.
struct Scalar {
    /// What it says.
    text: String,
    /// It was text in the file, not a number or a boolean; after expansion it may spell one of those.
    was_text: bool,
    /// What stands in the file, if variables were put in.
    template: Option<String>,
}

/// Half of a key pair as the file gives it.
pub(crate) enum Half {
    Absent,
    Given(Secret<String>),
    /// The value is one unset variable and nothing else: an error only if the other half is not the same.
    Unset {
        name: String,
        error: ConfigError,
    },
}

impl Section<'_> {
    /// Text, a number or a boolean. An empty text is `None`, as Litestream has it; so is a value that is one
    /// variable and expands to nothing.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.scalar(key, "text")?.map(|s| s.text).filter(|t| !t.is_empty()))
    }

    /// A text that must be there. `remedy` says what to write.
    pub(crate) fn required(&self, key: &str, remedy: &str) -> Result<String, ConfigError> {
        self.text(key)?.ok_or_else(|| self.missing(key, remedy))
    }

    /// The error for a text that is not there, which tells an empty variable from a missing key.
    pub(crate) fn missing(&self, key: &str, remedy: &str) -> ConfigError {
        match self.node(key) {
            Some(Node::Text(template)) if template.contains('$') && self.document.expand => {
                self.fail(key, format!("{template} is empty")).fix(remedy)
            }
            Some(_) => self.fail(key, "it is empty").fix(remedy),
            None => self.fail(key, "it is missing").fix(remedy),
        }
    }

    /// A secret: the value of `key`, or what the file holds that `key`-file names.
    pub(crate) fn secret(&self, key: &str) -> Result<Option<Secret<String>>, ConfigError> {
        match (self.own_secret(key)?, self.defaults) {
            (None, Some(entries)) if keys::is_for_all(key) => {
                Section { document: self.document, path: Vec::new(), entries, defaults: None }.own_secret(key)
            }
            (own, _) => Ok(own),
        }
    }

    fn own_secret(&self, key: &str) -> Result<Option<Secret<String>>, ConfigError> {
        if self.defaults.is_some() {
            return self.own().own_secret(key);
        }
        let (given, file_key) = (self.text(key)?, format!("{key}-file"));
        match (given, self.text(&file_key)?) {
            (given, None) => Ok(given.map(Secret::new)),
            (Some(_), Some(_)) => Err(self.twice(key, &file_key)),
            (None, Some(path)) => match secret_file::read(&path, self.env()) {
                Ok((file, secret)) => {
                    self.trace(|trace, section| trace.file(&section.name_of(&file_key), file));
                    Ok(Some(Secret::new(secret)))
                }
                Err(bad) => Err(self.fail(&file_key, bad.problem).fix(bad.fix)),
            },
        }
    }

    /// Half of a key pair. Its value is never part of a message.
    pub(crate) fn half(&self, key: &str) -> Result<Half, ConfigError> {
        if let Some(Node::Text(template)) = self.node(key)
            && self.document.expand
            && let Err(BadReference::Unset { name, whole: true }) = expand::expand(template, self.env())
        {
            let file_key = format!("{key}-file");
            if self.has(&file_key) {
                return Err(self.twice(key, &file_key));
            }
            let error = self.bad_reference(key, &BadReference::Unset { name: name.clone(), whole: true });
            return Ok(Half::Unset { name, error });
        }
        Ok(self.secret(key)?.map_or(Half::Absent, Half::Given))
    }

    fn twice(&self, key: &str, file_key: &str) -> ConfigError {
        self.fail(file_key, format!("`{key}` is given too")).fix("keep one of them")
    }

    /// `true` and `false`; also YAML 1.1's `yes`, `on`, `no`, `off`, which Litestream's parser reads.
    pub(crate) fn switch(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(scalar) = self.scalar(key, "true or false")? else { return Ok(None) };
        match parse_switch(&scalar.text) {
            Some(on) => Ok(Some(on)),
            None => Err(self.bad(key, &scalar, "is not true or false", "").fix("write true or false")),
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&self, key: &str) -> Result<Option<u32>, ConfigError> {
        let Some(scalar) = self.scalar(key, "a whole number")? else { return Ok(None) };
        if scalar.was_text && scalar.template.is_none() {
            return Err(self
                .bad(key, &scalar, "is text, and a whole number is expected", "")
                .fix("write it without quotes"));
        }
        match scalar.text.parse::<u32>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(self
                .bad(key, &scalar, "is not a whole number of pages", "")
                .fix(format!("write a number from 0 to {}", u32::MAX))),
        }
    }

    /// A number of bytes.
    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        let Some(scalar) = self.scalar(key, "a size")? else { return Ok(None) };
        parse_size(&scalar.text)
            .map(Some)
            .map_err(|e| self.bad(key, &scalar, "is not a size", &format!(": {e}")))
    }

    /// A Go duration; 0 is fine.
    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>, ConfigError> {
        let Some(scalar) = self.scalar(key, "a duration")? else { return Ok(None) };
        parse_duration(&scalar.text)
            .map(Some)
            .map_err(|e| self.bad(key, &scalar, "is not a duration", &format!(": {e}")))
    }

    /// A Go duration above zero. `because` says what zero would mean.
    pub(crate) fn positive(&self, key: &str, because: &str) -> Result<Option<Duration>, ConfigError> {
        match self.duration(key)? {
            Some(Duration::ZERO) => Err(self
                .fail(key, format!("it must be longer than 0: {because}"))
                .fix("write something like 1s")),
            other => Ok(other),
        }
    }

    /// An error that shows the value and `detail`, which may quote it: `"7d" is not a duration: unknown unit "d"`.
    fn bad(&self, key: &str, scalar: &Scalar, problem: &str, detail: &str) -> ConfigError {
        let detail = if scalar.is_secret() { "" } else { detail };
        self.fail(key, format!("{scalar} {problem}{detail}"))
    }

    /// The scalar under `key` with its variables put in; `None` if there is none, or if it is one variable that
    /// gives nothing.
    fn scalar(&self, key: &str, expected: &str) -> Result<Option<Scalar>, ConfigError> {
        let found = self.expanded(key, expected)?;
        let empty = found.as_ref().is_none_or(|s| s.text.is_empty());
        if let Some(entries) = self.defaults.filter(|_| empty && keys::is_for_all(key)) {
            let top = Section { document: self.document, path: Vec::new(), entries, defaults: None };
            return Ok(top.scalar(key, expected)?.or(found));
        }
        if let Some(scalar) = found.as_ref().filter(|s| !s.text.is_empty()) {
            self.trace(|trace, section| {
                trace.value(section.name_of(key), section.step(key), scalar.template.as_deref());
            });
        }
        Ok(found)
    }

    fn expanded(&self, key: &str, expected: &str) -> Result<Option<Scalar>, ConfigError> {
        let text = match self.node(key) {
            None | Some(Node::Null) => return Ok(None),
            Some(Node::Text(text)) => text.clone(),
            Some(Node::Bool(_) | Node::Whole(_) | Node::Real(_)) => {
                let text = yaml::raw_scalar(self.document.text, &self.step(key));
                let text = text.unwrap_or_else(|| self.node(key).map(plain).unwrap_or_default());
                return Ok(Some(Scalar { text, was_text: false, template: None }));
            }
            Some(other @ (Node::List(_) | Node::Map(_))) => {
                return Err(self.fail(key, format!("{expected} is expected, and this is {}", other.kind())));
            }
        };
        if !self.document.expand || !text.contains('$') {
            return Ok(Some(Scalar { text, was_text: true, template: None }));
        }
        let expanded = expand::expand(&text, self.env()).map_err(|e| self.bad_reference(key, &e))?;
        if expanded.whole && expanded.text.is_empty() {
            return Ok(None);
        }
        Ok(Some(Scalar { text: expanded.text, was_text: true, template: Some(text) }))
    }

    fn bad_reference(&self, key: &str, e: &BadReference) -> ConfigError {
        let (problem, fix) = e.explain();
        self.fail(key, problem).fix(fix)
    }
}

/// `true`, `false` and YAML 1.1's other words for them.
pub(crate) fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// A scalar node without its own text, as a merge brings it in.
fn plain(node: &Node) -> String {
    match node {
        Node::Bool(b) => b.to_string(),
        Node::Whole(n) => n.to_string(),
        Node::Real(n) => n.to_string(),
        Node::Text(t) => t.clone(),
        Node::Null | Node::List(_) | Node::Map(_) => String::new(),
    }
}

impl Scalar {
    /// A variable in it has a name that says its value is a secret.
    fn is_secret(&self) -> bool {
        let upper = self.template.as_deref().unwrap_or_default().to_ascii_uppercase();
        ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "KEY"].iter().any(|word| upper.contains(word))
    }
}

/// As a message shows it: `"7d"`, `7`, `"7d" (from ${RETENTION})`; only `${SECRET}` if it is one.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.template {
            Some(template) if self.is_secret() => f.write_str(template),
            Some(template) => write!(f, "{:?} (from {template})", self.text),
            None if self.was_text => write!(f, "{:?}", self.text),
            None => f.write_str(&self.text),
        }
    }
}
