//! A walk over a configuration file that knows at every step which key it stands on. Values only, but for the files of secrets.
//!
//! [`Section`] is one map of the file. Its methods read one key each, put the environment in, check the type, and
//! fail with the file, line, key, value and remedy. Nothing here knows what a key is for.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::advice::{self, Advice};
use crate::duration::parse_duration;
use crate::env::Env;
use crate::error::{ConfigError, Place, Position, Warning};
use crate::expand::{self, BadReference};
use crate::keys::{self, Level};
use crate::secret::Secret;
use crate::secret_file;
use crate::size::parse_size;
use crate::trace::Trace;
use crate::yaml::{self, Node, Step};

/// The file being read, and what has been said about it so far.
pub(crate) struct Document<'a> {
    pub(crate) text: &'a str,
    pub(crate) path: &'a Path,
    pub(crate) env: &'a Env,
    pub(crate) expand: bool,
    pub(crate) warnings: RefCell<Vec<Warning>>,
    pub(crate) trace: Option<Trace>,
}

/// One map of the file. The path leads here from the root.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    document: &'a Document<'a>,
    path: Vec<Step>,
    entries: &'a [(String, Node)],
    /// Of the top of the file, what it says for every map like this one.
    defaults: Option<&'a [(String, Node)]>,
}

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

impl<'a> Document<'a> {
    /// The root map; an empty file is an empty map.
    pub(crate) fn root(&'a self, node: &'a Node) -> Result<Section<'a>, ConfigError> {
        match node {
            Node::Map(entries) => Ok(Section { document: self, path: Vec::new(), entries, defaults: None }),
            Node::Null => Ok(Section { document: self, path: Vec::new(), entries: &[], defaults: None }),
            other => Err(ConfigError::new(
                Place::File(self.path.into()),
                "",
                format!("the file must be a map of settings, and is {}", other.kind()),
            )
            .fix("start it with `dbs:`")),
        }
    }
}

impl<'a> Section<'a> {
    /// The same map; what it does not say, `top` may ([`keys::is_for_all`]).
    pub(crate) fn or(&self, top: &Self) -> Self {
        Self { defaults: Some(top.entries), ..self.clone() }
    }

    /// The same map, by itself.
    pub(crate) fn own(&self) -> Self {
        Self { defaults: None, ..self.clone() }
    }

    /// The top of the file, if that is where `key` would be found.
    fn above(&self, key: &str) -> Option<Self> {
        let entries = self.defaults.filter(|_| keys::is_for_all(key))?;
        let top = Section { document: self.document, path: Vec::new(), entries, defaults: None };
        (!self.has(key) && top.has(key)).then_some(top)
    }

    /// An error about `key` of this map.
    pub(crate) fn fail(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        if let Some(top) = self.above(key) {
            return top.fail(key, problem);
        }
        let path = self.step(key);
        let at = yaml::position(self.document.text, &path).or_else(|| self.position());
        ConfigError::new(self.place(), Shown(&path).to_string(), problem).at(at)
    }

    /// An error about this map as a whole.
    pub(crate) fn fail_here(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::new(self.place(), self.name(), problem).at(self.position())
    }

    /// A warning about `key` of this map.
    pub(crate) fn warn(&self, key: &str, problem: impl Into<String>) {
        let path = self.step(key);
        let at = yaml::position(self.document.text, &path).or_else(|| self.position());
        let warning = Warning::new(self.place(), Shown(&path).to_string(), problem, at);
        self.document.warnings.borrow_mut().push(warning);
    }

    /// A warning about this map as a whole.
    pub(crate) fn warn_here(&self, problem: impl Into<String>) {
        let warning = Warning::new(self.place(), self.name(), problem, self.position());
        self.document.warnings.borrow_mut().push(warning);
    }

    pub(crate) fn env(&self) -> &'a Env {
        self.document.env
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        !matches!(self.node(key), None | Some(Node::Null))
    }

    /// Says what there is to say about every key that has no effect here.
    pub(crate) fn check_keys(&self, level: Level) -> Result<(), ConfigError> {
        for (key, _) in self.entries {
            match advice::on(level, key) {
                None => {}
                Some(Advice::Warn(sentence)) => self.warn(key, sentence),
                Some(Advice::Refuse { problem, fix }) => return Err(self.fail(key, problem).fix(fix)),
            }
        }
        Ok(())
    }

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

    /// Neither a map nor a list stands under `key`.
    pub(crate) fn is_scalar(&self, key: &str) -> bool {
        !matches!(self.node(key), None | Some(Node::Null | Node::List(_) | Node::Map(_)))
    }

    /// A map under `key`.
    pub(crate) fn section(&self, key: &str) -> Result<Option<Self>, ConfigError> {
        match self.node(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Map(entries)) => {
                Ok(Some(Section { document: self.document, path: self.step(key), entries, defaults: None }))
            }
            Some(other) => Err(self.fail(key, format!("a map is expected, and this is {}", other.kind()))),
        }
    }

    /// A list of maps under `key`; none at all is the empty list.
    pub(crate) fn sections(&self, key: &str) -> Result<Vec<Self>, ConfigError> {
        let items = match self.node(key) {
            None | Some(Node::Null) => return Ok(Vec::new()),
            Some(Node::List(items)) => items,
            Some(other) => {
                return Err(self
                    .fail(key, format!("a list is expected, and this is {}", other.kind()))
                    .fix("start each item with `- `"));
            }
        };
        let mut sections = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let mut path = self.step(key);
            path.push(Step::Item(i));
            let section = Section { document: self.document, path, entries: &[], defaults: None };
            sections.push(match item {
                Node::Map(entries) => Section { entries, ..section },
                Node::Null => {
                    return Err(section
                        .fail_here("the list item is empty")
                        .fix("fill it in, or remove its `-`"));
                }
                other => {
                    return Err(section.fail_here(format!("a map is expected, and this is {}", other.kind())));
                }
            });
        }
        Ok(sections)
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

    /// Notes something for `config check --resolved`, if that is what the file is read for.
    pub(crate) fn trace(&self, note: impl FnOnce(&Trace, &Self)) {
        if let Some(trace) = &self.document.trace {
            note(trace, self);
        }
    }

    /// The name of a key of this map: `dbs[0].replicas[1].region`.
    pub(crate) fn name_of(&self, key: &str) -> String {
        Shown(&self.step(key)).to_string()
    }

    /// The name of this map: `dbs[0].replicas[1]`.
    pub(crate) fn name(&self) -> String {
        Shown(&self.path).to_string()
    }

    /// Where this map starts; the root has no place of its own.
    pub(crate) fn position(&self) -> Option<Position> {
        if self.path.is_empty() { None } else { yaml::position(self.document.text, &self.path) }
    }

    fn bad_reference(&self, key: &str, e: &BadReference) -> ConfigError {
        let (problem, fix) = e.explain();
        self.fail(key, problem).fix(fix)
    }

    fn node(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    fn step(&self, key: &str) -> Vec<Step> {
        let mut path = self.path.clone();
        path.push(Step::Key(key.into()));
        path
    }

    fn place(&self) -> Place {
        Place::File(self.document.path.into())
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

/// A path of the tree as a reader writes it: `dbs[0].replicas[1].sync-interval`.
struct Shown<'a>(&'a [Step]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i > 0 => write!(f, ".{key}")?,
                Step::Key(key) => f.write_str(key)?,
                Step::Item(n) => write!(f, "[{n}]")?,
            }
        }
        Ok(())
    }
}
