//! The environment as a value: variables, home and working directory. The only file that reads the process's own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::path::{self, PathError};

/// A snapshot of the environment. `Debug` prints names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env {
    vars: BTreeMap<String, String>,
    not_text: BTreeSet<String>,
    cwd: Option<PathBuf>,
}

impl Env {
    /// The environment and working directory of this process, now.
    pub fn from_process() -> Self {
        Self { cwd: std::env::current_dir().ok(), ..Self::from_os_pairs(std::env::vars_os()) }
    }

    pub(crate) fn from_os_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self::default();
        for (name, value) in pairs {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(env.vars.insert(name, value)),
                Err(_) => drop(env.not_text.insert(name)),
            }
        }
        env
    }

    /// Exactly these variables, in the working directory `/`.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let vars = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Self { vars, cwd: Some("/".into()), ..Self::default() }
    }

    /// The same variables in another working directory.
    #[must_use]
    pub fn with_cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// The variable's value if it is set and is text, even when that is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The variable's value if it is set and not empty. What almost every reader wants: an empty variable is how
    /// compose files and manifests say "not set".
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// The names of the variables that start with `prefix`, in order.
    pub fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    /// The variable is set, and is not UTF-8.
    pub fn is_not_text(&self, name: &str) -> bool {
        self.not_text.contains(name)
    }

    /// `path` made absolute: `~` from `HOME`, relative to the working directory, cleaned.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf, PathError> {
        path::absolute(path, self.get("HOME"), self.cwd.as_deref())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_names_and_no_values() {
        let env = Env::from_pairs([("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        assert_eq!(format!("{env:?}"), r#"{"AWS_SECRET_ACCESS_KEY"}"#);
    }

    #[test]
    fn an_empty_variable_is_set_but_not_filled() {
        let env = Env::from_pairs([("A", ""), ("B", "x")]);
        assert_eq!(
            (env.get("A"), env.filled("A"), env.filled("B"), env.get("C")),
            (Some(""), None, Some("x"), None)
        );
    }

    #[test]
    fn a_variable_that_is_not_text_is_told_from_one_that_is_not_set() {
        use std::os::unix::ffi::OsStringExt as _;
        let env =
            Env::from_os_pairs([("X".into(), OsString::from_vec(vec![0xff])), ("Y".into(), "y".into())]);
        assert_eq!((env.get("X"), env.is_not_text("X"), env.is_not_text("Z")), (None, true, false));
        assert_eq!(env.get("Y"), Some("y"));
        let (problem, _) = crate::expand::expand("${X:-d}", &env).unwrap_err().explain();
        assert_eq!(problem, "the variable X is not UTF-8");
    }

    #[test]
    fn the_process_has_a_path_and_a_working_directory() {
        let env = Env::from_process();
        assert!(env.filled("PATH").is_some());
        assert!(env.absolute(Path::new("x")).unwrap().is_absolute());
    }
}
