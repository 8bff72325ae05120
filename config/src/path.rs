//! Local paths as Litestream reads them: `~` is the home directory, relative means the working directory, and the
//! result is cleaned by its letters alone, as Go's `filepath.Abs` does. Values only; symlinks are not looked at.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Why a path could not be made absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("`~` needs the variable HOME, which is not set")]
    NoHome,
    #[error("a relative path needs a working directory, and there is none")]
    NoWorkingDirectory,
}

/// `path` made absolute and cleaned.
pub(crate) fn absolute(path: &Path, home: Option<&str>, cwd: Option<&Path>) -> Result<PathBuf, PathError> {
    if path.as_os_str().is_empty() {
        return Err(PathError::Empty);
    }
    if let Ok(rest) = path.strip_prefix("~") {
        let home = home.filter(|h| !h.is_empty()).ok_or(PathError::NoHome)?;
        return Ok(clean(&Path::new(home).join(rest)));
    }
    if path.is_absolute() {
        return Ok(clean(path));
    }
    Ok(clean(&cwd.ok_or(PathError::NoWorkingDirectory)?.join(path)))
}

/// `/a/./b//../c/` is `/a/c`. A `..` above the root is dropped.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut kept: Vec<OsString> = Vec::new();
    let mut rooted = false;
    for part in path.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => rooted = true,
            Component::CurDir => {}
            Component::ParentDir if kept.last().is_some_and(|k| k != "..") => drop(kept.pop()),
            Component::ParentDir if rooted => {}
            Component::ParentDir => kept.push("..".into()),
            Component::Normal(name) => kept.push(name.into()),
        }
    }
    let mut out = PathBuf::from(if rooted { "/" } else { "" });
    out.extend(kept);
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

/// A key prefix in a bucket: cleaned like a path, without a slash at either end. The whole bucket is the empty text.
pub(crate) fn clean_prefix(prefix: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in prefix.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    kept.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_as_go_does_it() {
        let cases = [
            ("/data/station.db", "/data/station.db"),
            ("/data//./x/../station.db/", "/data/station.db"),
            ("/../x", "/x"),
            ("x.db", "/work/dir/x.db"),
            ("./a/../x.db", "/work/dir/x.db"),
            ("../x.db", "/work/x.db"),
            ("~", "/home/u"),
            ("~/db", "/home/u/db"),
            ("~other/db", "/work/dir/~other/db"),
            ("/a/~/b", "/a/~/b"),
        ];
        for (given, want) in cases {
            let got = absolute(Path::new(given), Some("/home/u"), Some(Path::new("/work/dir")));
            assert_eq!(got, Ok(PathBuf::from(want)), "{given}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_made_absolute_says_what_is_missing() {
        assert_eq!(absolute(Path::new(""), None, None), Err(PathError::Empty));
        assert_eq!(absolute(Path::new("~/x"), None, None), Err(PathError::NoHome));
        assert_eq!(absolute(Path::new("~/x"), Some(""), None), Err(PathError::NoHome));
        assert_eq!(absolute(Path::new("x"), None, None), Err(PathError::NoWorkingDirectory));
    }

    #[test]
    fn a_prefix_has_no_slash_at_either_end() {
        for (given, want) in [
            ("", ""),
            (".", ""),
            ("/", ""),
            ("/a/b/", "a/b"),
            ("a//b", "a/b"),
            ("./a/../c", "c"),
            ("../x", "x"),
        ] {
            assert_eq!(clean_prefix(given), want, "{given:?}");
        }
    }
}
