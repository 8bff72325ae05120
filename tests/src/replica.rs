//! Where a backup goes: a directory or a prefix of a bucket, written the way each program's configuration wants it. Values only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::azurite::Azurite;
use crate::ceph::Ceph;
use crate::gcs::Gcs;
use crate::moto::{Moto, User};
use crate::rclone::Rclone;
use crate::sshd::Sshd;

/// A place replicas are written to.
#[derive(Debug, Clone)]
pub enum Replica {
    File(PathBuf),
    S3 {
        server: Arc<Ceph>,
        prefix: String,
    },
    /// Any server that speaks S3, as one user of it.
    S3At {
        endpoint: String,
        bucket: String,
        access_key: String,
        secret_key: String,
        prefix: String,
    },
    /// The key's file is read when a program starts.
    Gcs {
        bucket: String,
        endpoint: String,
        key: PathBuf,
        prefix: String,
    },
    Abs {
        account: String,
        key: String,
        container: String,
        endpoint: String,
        prefix: String,
    },
    Sftp {
        port: u16,
        user: String,
        path: PathBuf,
        /// More keys: those that say who we are and who the server is.
        keys: Vec<String>,
    },
}

impl Replica {
    /// A prefix on `server`, whose key is written to `key`.
    pub fn on_gcs(server: &Gcs, key: &Path, prefix: &str) -> Self {
        server.write_key(key);
        Self::Gcs {
            bucket: server.bucket.clone(),
            endpoint: server.endpoint(),
            key: key.into(),
            prefix: prefix.into(),
        }
    }

    /// A prefix on `server`, as `user`.
    pub fn on_moto(server: &Moto, user: &User, prefix: &str) -> Self {
        Self::S3At {
            endpoint: server.endpoint.clone(),
            bucket: server.bucket.clone(),
            access_key: user.access_key.clone(),
            secret_key: user.secret_key.clone(),
            prefix: prefix.into(),
        }
    }

    /// A prefix on `server`, which ignores conditions.
    pub fn on_rclone(server: &Rclone, prefix: &str) -> Self {
        Self::S3At {
            endpoint: server.endpoint.clone(),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
            prefix: prefix.into(),
        }
    }

    /// A prefix on `server`.
    pub fn on_abs(server: &Azurite, prefix: &str) -> Self {
        Self::Abs {
            account: server.account.clone(),
            key: server.key.clone(),
            container: server.container.clone(),
            endpoint: server.endpoint(),
            prefix: prefix.into(),
        }
    }

    /// A directory on `server`, with the key of this kind.
    pub fn on_sftp(server: &Sshd, name: &str, kind: &str) -> Self {
        Self::Sftp {
            port: server.port,
            user: server.user.clone(),
            path: server.root().join(name),
            keys: vec![
                format!("key-path: {}", server.key(kind).display()),
                format!("host-key: {}", server.host_key()),
            ],
        }
    }

    /// The replica's block in a `litestream.yml`, with `extra` keys (`"sync-interval: 50ms"`).
    pub fn yaml(&self, extra: &[&str]) -> String {
        let mut lines = match self {
            Self::File(path) => vec!["type: file".to_owned(), format!("path: {}", path.display())],
            Self::S3 { server, prefix } => vec![
                "type: s3".to_owned(),
                format!("bucket: {}", server.bucket),
                format!("path: {prefix}"),
                format!("endpoint: {}", server.endpoint),
                "region: us-east-1".to_owned(),
                "force-path-style: true".to_owned(),
                format!("access-key-id: {}", server.access_key),
                format!("secret-access-key: {}", server.secret_key),
            ],
            Self::S3At { endpoint, bucket, access_key, secret_key, prefix } => vec![
                "type: s3".to_owned(),
                format!("bucket: {bucket}"),
                format!("path: {prefix}"),
                format!("endpoint: {endpoint}"),
                "region: us-east-1".to_owned(),
                format!("access-key-id: {access_key}"),
                format!("secret-access-key: {secret_key}"),
            ],
            Self::Gcs { bucket, endpoint, key, prefix } => vec![
                "type: gcs".to_owned(),
                format!("bucket: {bucket}"),
                format!("path: {prefix}"),
                format!("endpoint: {endpoint}"),
                format!("service-account-json-path: {}", key.display()),
            ],
            Self::Abs { account, key, container, endpoint, prefix } => vec![
                "type: abs".to_owned(),
                format!("account-name: {account}"),
                format!("account-key: {key}"),
                format!("bucket: {container}"),
                format!("path: {prefix}"),
                format!("endpoint: {endpoint}"),
            ],
            Self::Sftp { port, user, path, keys } => {
                let mut lines = vec![
                    "type: sftp".to_owned(),
                    format!("host: 127.0.0.1:{port}"),
                    format!("user: {user}"),
                    format!("path: {}", path.display()),
                ];
                lines.extend(keys.iter().cloned());
                lines
            }
        };
        lines.extend(extra.iter().map(|line| (*line).to_owned()));
        format!("      - {}\n", lines.join("\n        "))
    }
}

/// A `litestream.yml` with one database and one replica, and more keys on either.
pub fn config(db: &Path, on_db: &[&str], replica: &Replica, on_replica: &[&str]) -> String {
    let on_db: String = on_db.iter().map(|line| format!("    {line}\n")).collect();
    format!("dbs:\n  - path: {}\n{on_db}    replicas:\n{}", db.display(), replica.yaml(on_replica))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_what_the_real_programs_read() {
        let text = config(
            Path::new("/d/app.db"),
            &["monitor-interval: 2s"],
            &Replica::File("/d/replica".into()),
            &["sync-interval: 50ms"],
        );
        assert_eq!(
            text,
            "dbs:\n  - path: /d/app.db\n    monitor-interval: 2s\n    replicas:\n      - type: file\n        path: /d/replica\n        sync-interval: 50ms\n"
        );
    }
}
