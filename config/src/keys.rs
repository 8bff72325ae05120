//! Every key the grammar knows, and what to say about keys of Litestream 0.5 and of later work. Tables only.
//!
//! Source: the configuration structures of Litestream 0.3.13 and 0.5.17.

use crate::s3_options;

/// A map of the configuration file, by what it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Top,
    Logging,
    Database,
    /// A replica of type file, or of a type that is not read yet.
    Replica,
    S3Replica,
    GcsReplica,
    AbsReplica,
    SftpReplica,
    /// `age` of a replica.
    Age,
    /// An item of `levels`.
    Levels,
    Snapshot,
    Retention,
}

impl Level {
    /// The keys that have an effect here.
    pub(crate) fn keys(self) -> Vec<&'static str> {
        match self {
            Self::Top => [TOP, FOR_ALL, S3, S3_SECRETS, GCS, GCS_SECRETS, ABS, ABS_SECRETS].concat(),
            Self::Logging => LOGGING.to_vec(),
            Self::Database => DATABASE.to_vec(),
            Self::Replica => REPLICA.to_vec(),
            Self::S3Replica => [REPLICA, S3, S3_SECRETS, s3_options::KEYS].concat(),
            Self::GcsReplica => [REPLICA, GCS, GCS_SECRETS].concat(),
            Self::AbsReplica => [REPLICA, ABS, ABS_SECRETS].concat(),
            Self::SftpReplica => [REPLICA, SFTP, SFTP_OWN, SFTP_SECRETS].concat(),
            Self::Age => AGE.to_vec(),
            Self::Levels => LEVEL.to_vec(),
            Self::Snapshot => SNAPSHOT.to_vec(),
            Self::Retention => RETENTION.to_vec(),
        }
    }

    /// Where a key of this level belongs, for a reader.
    pub(crate) const fn place(self) -> &'static str {
        match self {
            Self::Top => "the top level",
            Self::Logging => "`logging`",
            Self::Database => "a database (an item of `dbs`)",
            Self::Replica => "a replica",
            Self::S3Replica => "a replica of type s3",
            Self::GcsReplica => "a replica of type gcs",
            Self::AbsReplica => "a replica of type abs",
            Self::SftpReplica => "a replica of type sftp",
            Self::Age => "`age`",
            Self::Levels => "an item of `levels`",
            Self::Snapshot => "`snapshot`",
            Self::Retention => "`retention` at the top level",
        }
    }
}

/// All levels, from the one a misplaced key most likely belongs to.
pub(crate) const LEVELS: [Level; 12] = [
    Level::Replica,
    Level::S3Replica,
    Level::GcsReplica,
    Level::AbsReplica,
    Level::SftpReplica,
    Level::Database,
    Level::Top,
    Level::Logging,
    Level::Snapshot,
    Level::Levels,
    Level::Retention,
    Level::Age,
];

const TOP: &[&str] = &[
    "dbs",
    "addr",
    "max-lag",
    "exec",
    "logging",
    "shutdown-sync-timeout",
    "levels",
    "snapshot",
    "l0-retention",
    "l0-retention-check-interval",
    "retention",
    "verify-compaction",
];

const AGE: &[&str] = &["identities", "recipients"];

const LEVEL: &[&str] = &["interval"];

const SNAPSHOT: &[&str] = &["interval", "retention"];

const RETENTION: &[&str] = &["enabled"];

const LOGGING: &[&str] = &["level", "type", "stderr"];

const DATABASE: &[&str] = &[
    "path",
    "dir",
    "pattern",
    "recursive",
    "watch",
    "meta-path",
    "meta-dir",
    "monitor-interval",
    "checkpoint-interval",
    "min-checkpoint-page-count",
    "max-checkpoint-page-count",
    "max-wal-size",
    "snapshot",
    "replicas",
    "replica",
];

const REPLICA: &[&str] = &[
    "type",
    "name",
    "url",
    "path",
    "retention",
    "retention-check-interval",
    "sync-interval",
    "snapshot-interval",
    "validation-interval",
    "timeout",
    "format",
    "ltx-page-encoding",
    "age",
];

const S3: &[&str] = &["bucket", "region", "endpoint", "force-path-style", "skip-verify"];

const GCS: &[&str] = &["bucket", "endpoint", "service-account-json-path"];

const ABS: &[&str] = &["bucket", "endpoint", "account-name"];

const SFTP: &[&str] = &["host", "user", "key-path", "concurrent-writes"];

/// The key of one server is not that of another.
const SFTP_OWN: &[&str] = &["host-key"];

/// Keys of every replica that the top of the file may say for all of them, beside those of its type. Litestream 0.5
/// has the first two.
const FOR_ALL: &[&str] = &["sync-interval", "validation-interval", "timeout"];

/// Secrets, each with the key that names the file it is in: [`crate::reader::Section::secret`] reads either.
const S3_SECRETS: &[&str] = &[
    "access-key-id",
    "access-key-id-file",
    "secret-access-key",
    "secret-access-key-file",
    "session-token",
    "session-token-file",
];

const GCS_SECRETS: &[&str] = &["service-account-json", "service-account-json-file"];

const ABS_SECRETS: &[&str] = &["account-key", "account-key-file", "sas-token", "sas-token-file"];

const SFTP_SECRETS: &[&str] = &["password", "password-file"];

/// Keys of replica types that are refused by name, so that they are not called unknown.
pub(crate) const OTHER_TYPES: &[&str] = &[
    "webdav-url",
    "webdav-username",
    "webdav-password",
    "jwt",
    "seed",
    "creds",
    "nkey",
    "username",
    "token",
    "tls",
    "root-cas",
    "client-cert",
    "client-key",
    "max-reconnects",
    "reconnect-wait",
];

/// What to do about a key we know and do not honour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ignoring it is harmless: warn with this sentence.
    Ignored(&'static str),
    /// Ignoring it would move, expose or lose data: an error with this sentence, and what to do.
    Refused(&'static str, &'static str),
}

/// The keys that have an effect here and not at another level, too.
pub(crate) fn own_keys(level: Level) -> Vec<&'static str> {
    match level {
        Level::Top => [TOP, FOR_ALL].concat(),
        Level::S3Replica => [S3, S3_SECRETS, s3_options::KEYS].concat(),
        Level::GcsReplica => [GCS, GCS_SECRETS].concat(),
        Level::AbsReplica => [ABS, ABS_SECRETS].concat(),
        Level::SftpReplica => [SFTP, SFTP_OWN, SFTP_SECRETS].concat(),
        Level::Logging
        | Level::Database
        | Level::Replica
        | Level::Age
        | Level::Levels
        | Level::Snapshot
        | Level::Retention => level.keys(),
    }
}

/// The top of the file may say `key` for every replica that does not say it itself.
pub(crate) fn is_for_all(key: &str) -> bool {
    [FOR_ALL, S3, S3_SECRETS, s3_options::KEYS, GCS, GCS_SECRETS, ABS, ABS_SECRETS, SFTP, SFTP_SECRETS]
        .iter()
        .any(|keys| keys.contains(&key))
}

/// What we think of `key` at `level`, if we know it and do not honour it.
pub(crate) fn verdict(level: Level, key: &str) -> Option<Verdict> {
    tables(level)
        .iter()
        .copied()
        .flatten()
        .find(|(names, _)| names.contains(&key))
        .map(|(_, verdict)| *verdict)
}

pub(crate) const fn tables(level: Level) -> &'static [Table] {
    match level {
        Level::Top => &[TOP_OF_05, REPLICA_OF_05],
        Level::Logging => &[LOGGING_OF_05],
        Level::Database => &[DATABASE_OF_05],
        Level::Replica | Level::S3Replica | Level::GcsReplica | Level::AbsReplica | Level::SftpReplica => {
            &[ONLY_IN_A_REPLICA, REPLICA_OF_05]
        }
        Level::Age | Level::Levels | Level::Snapshot | Level::Retention => &[],
    }
}

use Verdict::{Ignored, Refused};

pub(crate) type Table = &'static [(&'static [&'static str], Verdict)];

pub(crate) const TOP_OF_05: Table = &[
    (&["validation"], Ignored("is Litestream 0.5's key; ignored, set `validation-interval` on the replica")),
    (
        &["retention-check-interval", "snapshot-interval"],
        Ignored("is not read at the top level; ignored, set it on the replica"),
    ),
    (&["age"], Refused("is not read at the top level", "remove it; encryption is not available yet")),
    (&["mcp-addr", "socket"], Ignored("is not available; ignored")),
    (&["heartbeat-url", "heartbeat-interval"], Ignored("is not available yet; ignored")),
    (
        &["shutdown-sync-interval"],
        Ignored("has no effect; ignored, the final sync does not wait between tries"),
    ),
];

const LOGGING_OF_05: Table = &[(&["source"], Ignored("is not available; ignored"))];

const DATABASE_OF_05: Table = &[
    (
        &["busy-timeout", "truncate-page-n", "max-sync-wal-bytes"],
        Ignored("has no effect; ignored, no lock is held and no WAL is truncated in normal work"),
    ),
    (
        &["restore-if-db-not-exists"],
        Ignored("has no effect; ignored, holdfast-supervisor restores a missing database by itself"),
    ),
];

const ONLY_IN_A_REPLICA: Table = &[(
    &["snapshot"],
    Ignored(
        "has no effect on a replica; ignored, set `snapshot-interval` and `retention`, or `snapshot` on the database",
    ),
)];

const REPLICA_OF_05: Table = &[
    (
        &["max-sync-ltx-files", "auto-recover"],
        Ignored("has no effect; ignored, uploads are not batched and a broken chain always gets a new base"),
    ),
    (
        &["require-content-md5", "sign-accept-encoding"],
        Ignored(
            "has no effect; ignored, deletions always carry a Content-MD5, and no Accept-Encoding is sent",
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_both_honoured_and_disowned() {
        for level in LEVELS {
            for key in level.keys() {
                assert_eq!(verdict(level, key), None, "{key} at {level:?}");
            }
        }
        for secrets in [S3_SECRETS, GCS_SECRETS, ABS_SECRETS, SFTP_SECRETS] {
            for pair in secrets.chunks(2) {
                assert_eq!(Some(pair[0]), pair[1].strip_suffix("-file"));
            }
        }
        for key in OTHER_TYPES {
            assert!(LEVELS.iter().all(|level| !level.keys().contains(key)), "{key}");
        }
    }
}
