//! Whether a server is the one it should be: its key against a key of the configuration or the files of OpenSSH. Values
//! in, a verdict out.
//!
//! A line is `[@MARKER] HOSTS TYPE BASE64`, HOSTS a list of patterns (`*`, `?`, `!`) or one hashed name (sshd(8)).
//! `@revoked` is honoured; `@cert-authority` says nothing here, as certificates of hosts are not asked for.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use russh::keys::ssh_key::known_hosts::HostPatterns;
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// What is known of one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Keys it may have, and where each one stands (`/root/.ssh/known_hosts:3`, `host-key`).
    trusted: Vec<(PublicKey, String)>,
    /// Keys it must not have.
    revoked: Vec<(PublicKey, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Trusted,
    /// Nothing is known of the host.
    Unknown,
    /// It is known with another key, which stands there.
    Changed(String),
    /// The key is revoked, which stands there.
    Revoked(String),
}

impl Known {
    /// Exactly this key, `TYPE BASE64`; `None` if it is none.
    pub(super) fn only(key: &str) -> Option<Self> {
        let key = PublicKey::from_openssh(key).ok()?;
        Some(Self { trusted: vec![(key, "`host-key`".into())], revoked: Vec::new() })
    }

    /// What files of known hosts, path and content, say of `host` at `port`. Lines that are not understood say nothing.
    pub(super) fn in_files(files: &[(PathBuf, String)], host: &str, port: u16) -> Self {
        let name = name(host, port);
        let mut known = Self::default();
        for (path, text) in files {
            for (i, line) in text.lines().enumerate() {
                let Some((revoked, key)) = read(line, &name) else { continue };
                let list = if revoked { &mut known.revoked } else { &mut known.trusted };
                list.push((key, format!("{}:{}", path.display(), i + 1)));
            }
        }
        known
    }

    pub(super) fn judge(&self, key: &PublicKey) -> Verdict {
        let same = |other: &PublicKey| other.key_data() == key.key_data();
        if let Some((_, at)) = self.revoked.iter().find(|(other, _)| same(other)) {
            return Verdict::Revoked(at.clone());
        }
        if self.trusted.iter().any(|(other, _)| same(other)) {
            return Verdict::Trusted;
        }
        match self
            .trusted
            .iter()
            .find(|(other, _)| other.algorithm() == key.algorithm())
            .or(self.trusted.first())
        {
            Some((_, at)) => Verdict::Changed(at.clone()),
            None => Verdict::Unknown,
        }
    }

    /// `algorithms`, those of known keys first: a server that has several keys should show the one that is known.
    pub(super) fn prefer(&self, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        let known = |algorithm: &&Algorithm| {
            self.trusted.iter().any(|(key, _)| match (key.algorithm(), algorithm) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (key, algorithm) => key == **algorithm,
            })
        };
        let (first, then): (Vec<_>, Vec<_>) = algorithms.iter().partition(known);
        first.into_iter().chain(then).cloned().collect()
    }
}

/// `ssh-ed25519 SHA256:…`, for people to compare.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// `ssh-ed25519 AAAA…`, for a configuration or a file of known hosts.
pub(super) fn in_full(key: &PublicKey) -> String {
    PublicKey::new(key.key_data().clone(), "").to_openssh().unwrap_or_default()
}

/// The host as files of known hosts name it: `host`, or `[host]:2222`.
pub(super) fn name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The key of a line that is about `name`, and whether it is revoked.
fn read(line: &str, name: &str) -> Option<(bool, PublicKey)> {
    let mut words = line.split_whitespace();
    let mut hosts = words.next().filter(|word| !word.starts_with('#'))?;
    let revoked = match hosts.strip_prefix('@') {
        Some("revoked") => true,
        Some(_) => return None,
        None => false,
    };
    if revoked {
        hosts = words.next()?;
    }
    if !matches(hosts, name) {
        return None;
    }
    let key = PublicKey::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()?;
    Some((revoked, key))
}

fn matches(hosts: &str, name: &str) -> bool {
    match hosts.parse() {
        Ok(HostPatterns::HashedName { salt, hash }) => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
            hmac::verify(&key, name.as_bytes(), &hash).is_ok()
        }
        Ok(HostPatterns::Patterns(patterns)) => {
            let found = |pattern: &str| like(pattern.to_lowercase().as_bytes(), name.as_bytes());
            let (not, is): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
            is.iter().any(|pattern| found(pattern)) && !not.iter().any(|pattern| found(&pattern[1..]))
        }
        Err(_) => false,
    }
}

/// `*` stands for any bytes, `?` for any one.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on if what follows the last `*` does not fit: one byte further.
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match back {
                Some((star, at)) => {
                    back = Some((star, at + 1));
                    (p, t) = (star + 1, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with ssh-keygen; the private halves are gone.
    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const ED2: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const EC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMxBTpMIGvo7CnordO7wP0QQRqpBwUjOLl4eMhfucfE1sjTYyK5wmTl1UqoSDS1PtRVTBdl+0+9pquFb46U7fwg=";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn judged(file: &str, host: &str, port: u16, shown: &str) -> Verdict {
        Known::in_files(&[("/k".into(), file.into())], host, port).judge(&key(shown))
    }

    #[test]
    fn a_line_is_about_the_hosts_it_names() {
        for (hosts, host, port, about) in [
            ("h.example", "h.example", 22, true),
            ("h.example", "H.Example", 22, true),
            ("h.example", "h.example", 2222, false),
            ("[h.example]:2222", "h.example", 2222, true),
            ("[h.example]:2222", "h.example", 22, false),
            ("a,h.example,10.0.0.1", "h.example", 22, true),
            ("*.example", "h.example", 22, true),
            ("*.example,!h.example", "h.example", 22, false),
            ("!h.example", "other", 22, false),
            ("h?example", "h.example", 22, true),
            ("[*]:2222", "h.example", 2222, true),
            ("*a*b", "xaxbxb", 22, true),
            ("*a*b", "xaxbx", 22, false),
            ("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=", "example.com", 22, true),
            ("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=", "example.org", 22, false),
            ("|1|broken|", "example.com", 22, false),
        ] {
            let want = if about { Verdict::Trusted } else { Verdict::Unknown };
            assert_eq!(judged(&format!("{hosts} {ED}"), host, port, ED), want, "{hosts} {host}:{port}");
        }
    }

    #[test]
    fn a_known_host_with_another_key_has_changed() {
        let file = format!("# {EC}\n\nh\t{EC} me@there\nh {ED}\nother {ED2}\n");
        assert_eq!(judged(&file, "h", 22, ED), Verdict::Trusted);
        assert_eq!(judged(&file, "h", 22, EC), Verdict::Trusted);
        assert_eq!(judged(&file, "h", 22, ED2), Verdict::Changed("/k:4".into()));
        assert_eq!(judged(&file, "h2", 22, ED2), Verdict::Unknown);
        assert_eq!(judged(&format!("h {EC}"), "h", 22, ED), Verdict::Changed("/k:1".into()));
    }

    #[test]
    fn a_revoked_key_is_no_key_wherever_else_it_stands() {
        let file = format!("h {ED}\n@revoked * {ED}\n@cert-authority h {ED2}\n");
        assert_eq!(judged(&file, "h", 22, ED), Verdict::Revoked("/k:2".into()));
        assert_eq!(judged(&file, "g", 22, ED2), Verdict::Unknown);
    }

    #[test]
    fn the_configured_key_is_the_only_one() {
        let known = Known::only(ED).unwrap();
        assert_eq!(known.judge(&key(ED)), Verdict::Trusted);
        assert_eq!(known.judge(&key(EC)), Verdict::Changed("`host-key`".into()));
        assert!(Known::only("ssh-ed25519 AAAA").is_none());
    }

    #[test]
    fn a_server_is_asked_for_the_key_that_is_known() {
        let all = [Algorithm::Ed25519, key(EC).algorithm()];
        let known = Known::in_files(&[("/k".into(), format!("h {EC}"))], "h", 22);
        assert_eq!(known.prefer(&all), [all[1].clone(), all[0].clone()]);
        assert_eq!(Known::default().prefer(&all), all);
    }
}
