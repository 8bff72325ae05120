//! A walk over a configuration file that knows at every step which key it stands on. Values only, but for the files of
//! secrets.
//!
//! [`Section`] is one map of the file. Its methods read one key each, put the environment in, check the type, and
//! fail with the file, line, column, key, value and remedy. Nothing here knows what a key is for.

mod value;

use std::cell::RefCell;
use std::fmt;
use std::path::Path;

use crate::advice::{self, Advice};
use crate::env::Env;
use crate::error::{ConfigError, Place, Position, Warning};
use crate::keys::{self, Level};
use crate::trace::Trace;
use crate::yaml::{self, Node, Step};

pub(crate) use value::{Half, parse_switch};

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
