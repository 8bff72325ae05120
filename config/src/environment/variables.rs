//! The names of the variables that make a configuration, and what to say of those that do not. Tables, values in,
//! values out.

use super::{fail, gcs, s3};
use crate::advice::nearest;
use crate::env::Env;
use crate::error::{ConfigError, Place, Warning};

/// Variables that mean something only together with the one that asks for their replica.
struct Group {
    /// Any of these asks for it.
    asks: &'static [&'static str],
    /// Having these alone is no mistake: compose files set them with a default.
    defaults: &'static [&'static str],
    settings: &'static [&'static str],
    /// Each of them also with `_FILE` behind it.
    secrets: &'static [&'static str],
}

const GROUPS: [Group; 4] = [
    Group {
        asks: &[s3::BUCKET],
        defaults: &["LITESTREAM_S3_PATH", "LITESTREAM_S3_REGION"],
        settings: &["LITESTREAM_S3_ENDPOINT", "LITESTREAM_S3_FORCE_PATH_STYLE", "LITESTREAM_S3_SKIP_VERIFY"],
        secrets: &[
            "LITESTREAM_S3_ACCESS_KEY_ID",
            "LITESTREAM_S3_SECRET_ACCESS_KEY",
            "LITESTREAM_S3_SESSION_TOKEN",
        ],
    },
    Group {
        asks: &[gcs::BUCKET],
        defaults: &["LITESTREAM_GCS_PATH"],
        settings: &["LITESTREAM_GCS_ENDPOINT"],
        secrets: &["LITESTREAM_GCS_SERVICE_ACCOUNT_JSON"],
    },
    Group {
        asks: &["LITESTREAM_ABS_BUCKET", "LITESTREAM_AZURE_CONTAINER"],
        defaults: &["LITESTREAM_ABS_PATH"],
        settings: &[
            "LITESTREAM_ABS_ACCOUNT_NAME",
            "LITESTREAM_AZURE_ACCOUNT_NAME",
            "LITESTREAM_ABS_ENDPOINT",
        ],
        secrets: &["LITESTREAM_ABS_ACCOUNT_KEY", "LITESTREAM_ABS_SAS_TOKEN"],
    },
    Group { asks: &["LITESTREAM_FILE_PATH"], defaults: &[], settings: &[], secrets: &[] },
];

/// Names that look like ours and are somebody else's, or are read elsewhere.
const FOREIGN: [&str; 5] = [
    "LITESTREAM_S3_DEBUG",
    "LITESTREAM_AZURE_ACCOUNT_KEY",
    "LITESTREAM_AZURE_ACCOUNT_KEY_FILE",
    "LITESTREAM_AZURE_SAS_TOKEN",
    "LITESTREAM_AZURE_SAS_TOKEN_FILE",
];

const PREFIXES: [&str; 5] =
    ["LITESTREAM_S3_", "LITESTREAM_GCS_", "LITESTREAM_ABS_", "LITESTREAM_AZURE_", "LITESTREAM_FILE_"];

impl Group {
    fn asked(&self, env: &Env) -> bool {
        self.asks.iter().any(|name| env.filled(name).is_some())
    }

    /// What is a mistake to have without the variable that asks.
    fn dependent(&self) -> impl Iterator<Item = String> {
        let own = self.settings.iter().chain(self.secrets).map(ToString::to_string);
        own.chain(self.secrets.iter().map(|name| format!("{name}_FILE")))
    }

    fn all(&self) -> impl Iterator<Item = String> {
        self.asks.iter().chain(self.defaults).map(ToString::to_string).chain(self.dependent())
    }
}

/// A variable that is meant and cannot be read must not count as absent.
pub(super) fn check_text(env: &Env) -> Result<(), ConfigError> {
    match GROUPS.iter().flat_map(Group::all).find(|name| env.is_not_text(name)) {
        Some(name) => Err(fail(&name, "its value is not UTF-8").fix("set it to plain text")),
        None => Ok(()),
    }
}

/// What to say where nothing asks for a replica and yet one seems to be meant: one warning for each kind.
pub(crate) fn unused(env: &Env) -> Vec<Warning> {
    let warnings = GROUPS.iter().filter(|group| !group.asked(env)).filter_map(|group| {
        let name = group.dependent().find(|name| env.filled(name).is_some())?;
        let problem = format!("it has no effect, because {} is not set or empty", group.asks[0]);
        Some(Warning::new(Place::Environment, name, problem, None))
    });
    warnings.collect()
}

/// What to say of names like ours that mean nothing.
pub(super) fn unknown(env: &Env) -> Vec<Warning> {
    let known: Vec<String> = GROUPS.iter().flat_map(Group::all).collect();
    let names = PREFIXES.iter().flat_map(|prefix| env.names(prefix));
    let strange = names.filter(|n| !FOREIGN.contains(n) && !known.iter().any(|k| k == n));
    strange
        .map(|name| {
            let candidates =
                known.iter().map(|k| k.to_ascii_lowercase().replace('_', "-")).collect::<Vec<_>>();
            let meant = nearest(name, candidates.iter().map(String::as_str));
            let problem = match meant.map(|m| m.to_ascii_uppercase().replace('-', "_")) {
                Some(meant) => format!("unknown variable, ignored; did you mean {meant}?"),
                None => "unknown variable, ignored".into(),
            };
            Warning::new(Place::Environment, name, problem, None)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(warnings: &[Warning]) -> Vec<String> {
        warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn settings_without_their_bucket_and_slips_are_told() {
        let env = Env::from_pairs([
            ("LITESTREAM_S3_REGION", "us-east-1"),
            ("LITESTREAM_S3_ACCESS_KEY_ID", "hunter2"),
            ("LITESTREAM_S3_SECRET_ACCESS_KEY", "hunter2"),
            ("LITESTREAM_ABS_SAS_TOKEN_FILE", "/hunter2"),
            ("LITESTREAM_GCS_BUCKET", "b"),
            ("LITESTREAM_GCS_ENDPOINT", "http://h"),
            ("LITESTREAM_GCS_PTAH", "p"),
            ("LITESTREAM_S3_COLOUR_OF_THE_BUCKET", "red"),
            ("LITESTREAM_S3_DEBUG", "1"),
            ("LITESTREAM_CONFIG", "/l.yml"),
        ]);
        assert_eq!(
            said(&unused(&env)),
            [
                "environment: LITESTREAM_S3_ACCESS_KEY_ID: it has no effect, because LITESTREAM_S3_BUCKET is not set or empty",
                "environment: LITESTREAM_ABS_SAS_TOKEN_FILE: it has no effect, because LITESTREAM_ABS_BUCKET is not set or empty",
            ]
        );
        assert_eq!(
            said(&unknown(&env)),
            [
                "environment: LITESTREAM_S3_COLOUR_OF_THE_BUCKET: unknown variable, ignored",
                "environment: LITESTREAM_GCS_PTAH: unknown variable, ignored; did you mean LITESTREAM_GCS_PATH?",
            ]
        );
    }

    #[test]
    fn a_variable_that_is_not_text_is_no_absent_one() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = std::ffi::OsString::from_vec(vec![b'x', 0xff]);
        let env = Env::from_os_pairs([("LITESTREAM_S3_BUCKET".into(), value)]);
        assert_eq!(
            super::super::from_env(&env).unwrap_err().to_string(),
            "read environment: LITESTREAM_S3_BUCKET: its value is not UTF-8; set it to plain text"
        );
    }
}
