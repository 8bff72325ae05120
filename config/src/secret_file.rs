//! Secrets in files: `secret-access-key-file` and its like in the configuration, `…_FILE` in the environment. Reads
//! those files, and nothing else does.
//!
//! A path that starts with `/` or `~` is that file. Any other is a file below `$CREDENTIALS_DIRECTORY`, where systemd
//! puts what `LoadCredential=` names, or below the working directory if that variable is not set. Line ends after the
//! secret are not part of it. The file is read once, when the configuration is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::secret::Secret;

/// Why there is no secret in the file: the problem, which names the file and shows nothing of it, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFile {
    pub(crate) problem: String,
    pub(crate) fix: &'static str,
}

/// The secret in the file at `path`, and where that is.
pub(crate) fn read(path: &str, env: &Env) -> Result<(PathBuf, String), BadFile> {
    let file = locate(path, env)?;
    let bad = |cause: &str, fix| BadFile { problem: format!("{}: {cause}", file.display()), fix };
    let mut bytes = Vec::new();
    File::open(&file).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(|e| {
        match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                bad("there is no such file", "mount the secret there, or name its file")
            }
            io::ErrorKind::PermissionDenied => bad("permission denied", "let the user this runs as read it"),
            io::ErrorKind::IsADirectory => bad("it is a directory", "name the file in it"),
            _ => bad(&e.to_string(), "name a file that can be read"),
        }
    })?;
    if bytes.len() as u64 > LARGEST {
        return Err(bad("it is larger than 64 KiB", "name the file that holds the secret and nothing else"));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8 text", "write the secret as text"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(bad("it is empty", "write the secret into it")),
        secret => Ok((file, secret.into())),
    }
}

/// The secret in the variable `name`, else in the file that the variable `name`_FILE names, which is the one at fault.
pub(crate) fn variable(name: &str, env: &Env) -> Result<Option<Secret<String>>, BadFile> {
    match (env.filled(name), env.filled(&format!("{name}_FILE"))) {
        (value, None) => Ok(value.map(|v| Secret::new(v.into()))),
        (None, Some(path)) => read(path, env).map(|(_, secret)| Some(Secret::new(secret))),
        (Some(_), Some(_)) => Err(BadFile { problem: format!("{name} is set too"), fix: "keep one of them" }),
    }
}

/// The file `path` means.
fn locate(path: &str, env: &Env) -> Result<PathBuf, BadFile> {
    let given = Path::new(path);
    let absolute = match env.filled(DIRECTORY) {
        Some(directory) if given.is_relative() && !given.starts_with("~") => {
            env.absolute(&Path::new(directory).join(given))
        }
        _ => env.absolute(given),
    };
    absolute.map_err(|e| BadFile { problem: e.to_string(), fix: "write an absolute path" })
}

/// Where systemd puts the credentials of a unit.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Far beyond any key; a device or a database named by mistake must not fill the memory.
const LARGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().copied()).with_cwd("/work")
    }

    #[test]
    fn a_relative_path_is_a_credential_of_systemd_if_there_are_any() {
        let at =
            |path: &str, pairs: &[(&str, &str)]| locate(path, &env(pairs)).unwrap().display().to_string();
        let unit = [(DIRECTORY, "/run/credentials/app.service"), ("HOME", "/root")];
        assert_eq!(at("key", &unit), "/run/credentials/app.service/key");
        assert_eq!(at("./sub/key", &unit), "/run/credentials/app.service/sub/key");
        assert_eq!(at("/etc/key", &unit), "/etc/key");
        assert_eq!(at("~/key", &unit), "/root/key");
        assert_eq!(at("key", &[]), "/work/key");
        assert_eq!(at("key", &[(DIRECTORY, "")]), "/work/key");
    }

    #[test]
    fn the_line_end_is_not_part_of_the_secret_and_everything_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let path = file.to_str().unwrap();
        for (content, secret) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" a$HOME${X} # 'b' \n", " a$HOME${X} # 'b' "),
            ("{\n}\n\n", "{\n}"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(read(path, &env(&[])), Ok((file.clone(), secret.to_string())), "{content:?}");
        }
    }

    #[test]
    fn a_file_without_a_secret_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        let mut big = b"hunter2".to_vec();
        big.resize(LARGEST as usize + 1, b'x');
        for (file, content, cause) in [
            ("empty", &b"\n\n"[..], "it is empty"),
            ("binary", b"hunter2\xff", "it is not UTF-8 text"),
            ("big", &big, "it is larger than 64 KiB"),
        ] {
            std::fs::write(name(file), content).unwrap();
            let bad = read(&name(file), &env(&[])).unwrap_err();
            assert_eq!(bad.problem, format!("{}: {cause}", name(file)));
        }
        for (path, cause) in [
            (name("none"), "there is no such file"),
            (name("empty/below"), "there is no such file"),
            (name(""), "it is a directory"),
        ] {
            let bad = read(&path, &env(&[])).unwrap_err();
            assert_eq!(bad.problem, format!("{}: {cause}", path.trim_end_matches('/')));
        }
        assert_eq!(
            read("~/x", &env(&[])).unwrap_err().problem,
            "`~` needs the variable HOME, which is not set"
        );
    }
}
