//! What a walk over a configuration file has read, and by which key: `config check --resolved` asks. Values only.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::destination::Destination;
use crate::glob::Pattern;
use crate::yaml::Step;

/// The notes of one walk. Never holds a value, which may be a secret.
#[derive(Debug, Default)]
pub(crate) struct Trace(RefCell<Notes>);

/// What [`Trace`] has noted. Keys are written as messages write them: `dbs[0].replicas[1].region`.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Keys with a value.
    pub(crate) given: BTreeMap<String, Given>,
    /// Keys without a value of their own that the `url` beside them says.
    pub(crate) in_url: BTreeSet<String>,
    /// Where each database stands first.
    pub(crate) databases: Vec<(PathBuf, String)>,
    /// Where each directory stands, by its pattern, too.
    pub(crate) directories: Vec<(PathBuf, Pattern, String)>,
    /// Where each replica stands. No two have one destination.
    pub(crate) replicas: Vec<(Destination, String)>,
}

/// A key of the file that has a value.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) path: Vec<Step>,
    /// What stands in the file, if variables were put in.
    pub(crate) template: Option<String>,
    /// The file the value was read from, of a key that names one.
    pub(crate) file: Option<PathBuf>,
}

impl Trace {
    pub(crate) fn value(&self, key: String, path: Vec<Step>, template: Option<&str>) {
        let given = Given { path, template: template.map(Into::into), file: None };
        self.0.borrow_mut().given.entry(key).or_insert(given);
    }

    /// The value of `key` is what `file` holds.
    pub(crate) fn file(&self, key: &str, file: PathBuf) {
        if let Some(given) = self.0.borrow_mut().given.get_mut(key) {
            given.file = Some(file);
        }
    }

    pub(crate) fn in_url(&self, key: String) {
        self.0.borrow_mut().in_url.insert(key);
    }

    pub(crate) fn database(&self, path: &Path, name: String) {
        self.0.borrow_mut().databases.push((path.into(), name));
    }

    pub(crate) fn directory(&self, path: &Path, pattern: &Pattern, name: String) {
        self.0.borrow_mut().directories.push((path.into(), pattern.clone(), name));
    }

    pub(crate) fn replica(&self, destination: &Destination, name: String) {
        self.0.borrow_mut().replicas.push((destination.clone(), name));
    }

    pub(crate) fn into_notes(self) -> Notes {
        self.0.into_inner()
    }
}
