//! The parts of a replica on an SFTP server, put together and checked. Values only: no key and no file is looked at.

use std::path::Path;

use crate::destination::Sftp;
use crate::env::Env;
use crate::path;
use crate::s3::Flaw;
use crate::secret::Secret;
use crate::secret_file;

/// What a file, a URL or the environment says of it.
#[derive(Default)]
pub(crate) struct Parts {
    /// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
    pub(crate) host: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret<String>>,
    pub(crate) path: String,
    pub(crate) key_path: Option<String>,
    /// A line as `ssh-keyscan` or a `.pub` file has it, without the host's name: Litestream 0.5's form.
    pub(crate) host_key: Option<String>,
    pub(crate) concurrent_writes: Option<bool>,
}

/// Checks the parts. A replica without a password and a key has those of `LITESTREAM_SFTP_PASSWORD` (or `…_FILE`)
/// and `LITESTREAM_SFTP_KEY_PATH`; one without a host key has that of `LITESTREAM_SFTP_HOST_KEY`.
pub(crate) fn assemble(parts: Parts, env: &Env) -> Result<Sftp, Flaw> {
    let host = parts.host.filter(|host| !host.is_empty()).ok_or_else(|| {
        Flaw::new("host", "it is missing", "name the server (sftp://USER@HOST/PATH, or the key `host`)")
    })?;
    let (host, port) = host_and_port(&host)?;
    let user = parts.user.filter(|user| !user.is_empty()).ok_or_else(|| {
        Flaw::new(
            "user",
            "it is missing",
            "name whom to log in as (sftp://USER@HOST/PATH, or the key `user`)",
        )
    })?;
    let given = parts.password.is_some() || parts.key_path.is_some();
    let (password, key_path) = match given {
        true => (parts.password, parts.key_path),
        false => {
            let password = secret_file::variable(PASSWORD, env)
                .map_err(|bad| Flaw::new("password", format!("{PASSWORD}_FILE: {}", bad.problem), bad.fix))?;
            (password, env.filled("LITESTREAM_SFTP_KEY_PATH").map(ToOwned::to_owned))
        }
    };
    let key_path = key_path
        .map(|path| {
            let fix = "write the path of the private key's file";
            env.absolute(path.as_ref()).map_err(|e| Flaw::new("key-path", e.to_string(), fix))
        })
        .transpose()?;
    let host_key = parts.host_key.or_else(|| env.filled("LITESTREAM_SFTP_HOST_KEY").map(ToOwned::to_owned));
    Ok(Sftp {
        host,
        port,
        user,
        path: path_on_the_server(&parts.path),
        key_path,
        password: password.filter(|password| !password.expose().is_empty()),
        host_key: host_key.filter(|key| !key.trim().is_empty()).map(|key| one_key(&key)).transpose()?,
        concurrent_writes: parts.concurrent_writes.unwrap_or(true),
        home: env.filled("HOME").map(Into::into),
    })
}

/// A URL's path: absolute, but for `/~/PATH`, which starts in the login directory, and nothing, which is that.
pub(crate) fn path_of_url(path: &str) -> String {
    match path.strip_prefix("/~") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/').to_owned(),
        _ => path.to_owned(),
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), Flaw> {
    let bad = |problem: String| Flaw::new("host", problem, "write HOST, HOST:PORT or [ADDRESS]:PORT");
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, rest))) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some("22"))),
        Some(None) => return Err(bad(format!("{text:?} has no closing bracket"))),
        None => match text.split_once(':') {
            // More than one colon: an address without a port.
            Some((_, rest)) if rest.contains(':') => (text, Some("22")),
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("22")),
        },
    };
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let port = port.ok_or_else(|| bad(format!("{text:?} does not end in a port")))?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c)) {
        return Err(bad(format!("{text:?} is not the name or address of a server")));
    }
    Ok((host.to_owned(), port))
}

/// Cleaned as both Litestreams clean it: `/a//b/` is `/a/b`, and nothing is the login directory.
fn path_on_the_server(path: &str) -> String {
    path::clean(Path::new(path)).to_string_lossy().into_owned()
}

/// `ssh-ed25519 AAAA… comment` without the comment.
fn one_key(text: &str) -> Result<String, Flaw> {
    let fix = "write it as `ssh-keyscan HOST` prints it, without the name: ssh-ed25519 AAAA…";
    let bad = |problem: &str| Flaw::new("host-key", problem, fix);
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(kind), _) if kind.starts_with("SHA256:") || kind.starts_with("MD5:") => {
            Err(bad("it is a fingerprint, and the key itself is needed"))
        }
        (Some(kind), Some(key)) if KINDS.iter().any(|known| kind.starts_with(known)) => {
            Ok(format!("{kind} {key}"))
        }
        _ => Err(bad("it is not a public key")),
    }
}

const PASSWORD: &str = "LITESTREAM_SFTP_PASSWORD";

const KINDS: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts { host: Some("h".into()), user: Some("u".into()), ..Parts::default() }
    }

    fn flaw(parts: Parts) -> String {
        let flaw = assemble(parts, &Env::default()).unwrap_err();
        format!("{}: {}", flaw.field, flaw.problem)
    }

    #[test]
    fn a_host_may_have_a_port_and_an_address_may_have_colons() {
        for (given, host, port) in [
            ("example.com", "example.com", 22),
            ("example.com:2222", "example.com", 2222),
            ("10.0.0.1:22", "10.0.0.1", 22),
            ("[::1]:2222", "::1", 2222),
            ("[::1]", "::1", 22),
            ("fe80::1", "fe80::1", 22),
        ] {
            assert_eq!(host_and_port(given).unwrap(), (host.into(), port), "{given}");
        }
        for (given, problem) in [
            ("h:", "host: \"h:\" does not end in a port"),
            ("h:ssh", "host: \"h:ssh\" does not end in a port"),
            ("h:0", "host: \"h:0\" does not end in a port"),
            ("[::1]22", "host: \"[::1]22\" does not end in a port"),
            ("[::1", "host: \"[::1\" has no closing bracket"),
            (":22", "host: \":22\" is not the name or address of a server"),
            ("u@h", "host: \"u@h\" is not the name or address of a server"),
            ("", "host: it is missing"),
        ] {
            assert_eq!(flaw(Parts { host: Some(given.into()), ..parts() }), problem);
        }
        assert_eq!(flaw(Parts { user: None, ..parts() }), "user: it is missing");
    }

    #[test]
    fn a_path_is_absolute_or_starts_in_the_login_directory() {
        for (given, want) in
            [("/a//b/./c/", "/a/b/c"), ("a/b/", "a/b"), ("", "."), ("/", "/"), ("../x", "../x")]
        {
            assert_eq!(path_on_the_server(given), want, "{given:?}");
        }
        for (given, want) in [("/~/a/b", "a/b"), ("/~", ""), ("/~other/a", "/~other/a"), ("/a/~/b", "/a/~/b")]
        {
            assert_eq!(path_of_url(given), want, "{given:?}");
        }
    }

    #[test]
    fn the_environment_is_asked_where_the_replica_says_nothing() {
        let env = Env::from_pairs([
            ("LITESTREAM_SFTP_PASSWORD", "env"),
            ("LITESTREAM_SFTP_KEY_PATH", "~/key"),
            ("LITESTREAM_SFTP_HOST_KEY", "ssh-ed25519 AAAA me@here"),
            ("HOME", "/home/u"),
        ]);
        let found = assemble(parts(), &env).unwrap();
        assert_eq!(found.password.as_ref().map(|p| p.expose().as_str()), Some("env"));
        assert_eq!(found.key_path.as_deref(), Some(Path::new("/home/u/key")));
        assert_eq!(found.host_key.as_deref(), Some("ssh-ed25519 AAAA"));
        assert_eq!(found.home.as_deref(), Some(Path::new("/home/u")));
        let own = Parts { password: Some(Secret::new("own".into())), ..parts() };
        let found = assemble(own, &env).unwrap();
        assert_eq!(found.password.as_ref().map(|p| p.expose().as_str()), Some("own"));
        assert_eq!(found.key_path, None, "its own password is not mixed with another's key");
    }

    #[test]
    fn a_host_key_is_a_key() {
        for (given, problem) in [
            ("SHA256:Nh0Me49Zh9fDw", "host-key: it is a fingerprint, and the key itself is needed"),
            ("example.com ssh-ed25519 AAAA", "host-key: it is not a public key"),
            ("ssh-ed25519", "host-key: it is not a public key"),
        ] {
            assert_eq!(flaw(Parts { host_key: Some(given.into()), ..parts() }), problem);
        }
    }
}
