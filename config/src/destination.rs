//! What a replica is kept on, with all that takes. Values only.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use crate::secret::Secret;

/// What a replica is kept on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory. Absolute.
    File {
        path: PathBuf,
    },
    S3(S3),
    Gcs(Gcs),
    Abs(Abs),
    Sftp(Sftp),
}

/// A prefix in a bucket of S3 or of a service that speaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    pub bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    pub path: String,
    /// Never empty.
    pub region: String,
    /// `SCHEME://HOST[:PORT]`; `None` is AWS itself.
    pub endpoint: Option<String>,
    /// Bucket in the path, not in the host name. By default true if there is an endpoint.
    pub force_path_style: bool,
    /// Do not check the TLS certificate.
    pub skip_verify: bool,
    /// Keys from the configuration or the environment; `None` asks the platform (web identity, ECS, IMDS).
    pub credentials: Option<Credentials>,
    pub options: S3Options,
}

/// How objects are sent, and how they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// The least size of a part of a large upload. Default: 8 MiB.
    pub part_size: Option<u64>,
    /// Parts on their way at once. Default: 2.
    pub concurrency: Option<u32>,
    /// `STANDARD_IA` and the like. Default: the bucket's.
    pub storage_class: Option<String>,
    /// Whether the signature covers what is sent, not only where to. Default: true.
    pub sign_payload: bool,
    /// Default: the bucket's.
    pub encryption: Option<Encryption>,
}

/// How the service encrypts objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With a key it keeps for us.
    Kms { key_id: String },
    /// With a key we send along with every request, which it does not keep: AES-256, 32 bytes in base64.
    Customer(Secret<String>),
}

/// A prefix in a bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gcs {
    pub bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    pub path: String,
    /// `SCHEME://HOST[:PORT]`; `None` is Google itself.
    pub endpoint: Option<String>,
    pub credentials: GcsCredentials,
}

/// Who asks Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcsCredentials {
    /// The key of a service account, as JSON.
    Key(Secret<String>),
    /// The file that holds such a key, or what `gcloud auth application-default login` wrote. Absolute.
    File(PathBuf),
    /// What `gcloud` left in the home directory, else the machine's own account (workload identity).
    Platform,
}

/// A prefix in a container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abs {
    pub account: String,
    pub container: String,
    /// Without a slash at either end; empty for the whole container.
    pub path: String,
    /// `SCHEME://HOST[:PORT][/PATH]`; `None` is `https://ACCOUNT.blob.core.windows.net`.
    pub endpoint: Option<String>,
    pub credentials: AbsCredentials,
}

/// Who asks Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbsCredentials {
    /// A key of the account, base64.
    Key(Secret<String>),
    /// The query of a shared access signature.
    Sas(Secret<String>),
    /// Workload identity, a service principal of the environment, else the machine's managed identity.
    Platform,
}

/// A directory on a server that speaks SFTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sftp {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Absolute, or from the login directory on, which is `.` itself. Without a slash at its end, but for `/`.
    pub path: String,
    /// The private key's file. Absolute.
    pub key_path: Option<PathBuf>,
    pub password: Option<Secret<String>>,
    /// The only key the server may have, as `TYPE BASE64`; `None` asks the files of known hosts.
    pub host_key: Option<String>,
    /// Whether several writes may be under way in a file.
    pub concurrent_writes: bool,
    /// Where `.ssh` lies, with the hosts that are known and the keys that are tried if there is neither key nor password.
    pub home: Option<PathBuf>,
}

/// A key pair. `Debug` shows the first four characters of the key's id.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: Secret<String>,
    pub session_token: Option<Secret<String>>,
}

impl Default for S3Options {
    fn default() -> Self {
        Self { part_size: None, concurrency: None, storage_class: None, sign_payload: true, encryption: None }
    }
}

impl Destination {
    /// `file`, `s3`, `gcs`, `abs` or `sftp`: the type as the configuration writes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::S3(_) => "s3",
            Self::Gcs(_) => "gcs",
            Self::Abs(_) => "abs",
            Self::Sftp(_) => "sftp",
        }
    }

    /// Where in the bucket or file system it lies.
    fn folder(&self) -> Cow<'_, str> {
        match self {
            Self::File { path } => path.to_string_lossy(),
            Self::S3(S3 { path, .. }) | Self::Gcs(Gcs { path, .. }) | Self::Abs(Abs { path, .. }) => {
                path.into()
            }
            // The login directory is in front of every path that starts there.
            Self::Sftp(Sftp { path, .. }) => {
                if path == "." {
                    "".into()
                } else {
                    path.into()
                }
            }
        }
    }

    /// The folder of this name in it, which may be several levels down: `a/b.db`.
    #[must_use]
    pub fn below(&self, relative: &str) -> Self {
        let mut below = self.clone();
        match &mut below {
            Self::File { path } => path.push(relative),
            Self::S3(S3 { path, .. }) | Self::Gcs(Gcs { path, .. }) | Self::Abs(Abs { path, .. }) => {
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(relative);
            }
            Self::Sftp(Sftp { path, .. }) => match path.as_str() {
                "." => *path = relative.to_owned(),
                "/" => path.push_str(relative),
                _ => *path = format!("{path}/{relative}"),
            },
        }
        below
    }

    /// The bucket as a whole, with the same credentials, and the folder in it; `None` for a directory, also by SFTP.
    pub fn in_bucket(&self) -> Option<(Self, String)> {
        let mut root = self.clone();
        let folder = match &mut root {
            Self::File { .. } | Self::Sftp(_) => return None,
            Self::S3(S3 { path, .. }) | Self::Gcs(Gcs { path, .. }) | Self::Abs(Abs { path, .. }) => {
                std::mem::take(path)
            }
        };
        Some((root, folder))
    }

    /// Do both write to one and the same place?
    pub fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path: a }, Self::File { path: b }) => a == b,
            (Self::S3(a), Self::S3(b)) => {
                (&a.endpoint, &a.bucket, &a.path) == (&b.endpoint, &b.bucket, &b.path)
            }
            // One place may have two spellings: with its endpoint and without.
            (Self::Gcs(a), Self::Gcs(b)) => (&a.bucket, &a.path) == (&b.bucket, &b.path),
            (Self::Abs(a), Self::Abs(b)) => {
                (&a.account, &a.container, &a.path) == (&b.account, &b.container, &b.path)
            }
            // Users may have the same files before them, or each their own.
            (Self::Sftp(a), Self::Sftp(b)) => {
                (&a.host, a.port, &a.user, &a.path) == (&b.host, b.port, &b.user, &b.path)
            }
            (Self::File { .. } | Self::S3(_) | Self::Gcs(_) | Self::Abs(_) | Self::Sftp(_), _) => false,
        }
    }

    /// How `other` lies below this one: what [`Destination::below`] would make it of. Empty if they are one place.
    pub fn leads_to(&self, other: &Self) -> Option<String> {
        if self.is_at(other) {
            return Some(String::new());
        }
        let (own, theirs) = (self.folder(), other.folder());
        let rest = theirs.strip_prefix(&*own)?;
        let rest = if own.is_empty() || own.ends_with('/') { rest } else { rest.strip_prefix('/')? };
        (!rest.is_empty() && self.below(rest).is_at(other)).then(|| rest.to_owned())
    }

    fn endpoint(&self) -> Option<&str> {
        match self {
            Self::File { .. } | Self::Sftp(_) => None,
            Self::S3(S3 { endpoint, .. })
            | Self::Gcs(Gcs { endpoint, .. })
            | Self::Abs(Abs { endpoint, .. }) => endpoint.as_deref(),
        }
    }
}

/// A directory's path, `s3://BUCKET/PATH`, `gs://BUCKET/PATH` or `abs://ACCOUNT@CONTAINER/PATH`, with ` at ENDPOINT` if
/// there is one, or as [`Sftp`]. Never holds credentials.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => return write!(f, "{}", path.display()),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.path)?,
            Self::Gcs(gcs) => write!(f, "gs://{}/{}", gcs.bucket, gcs.path)?,
            Self::Abs(abs) => write!(f, "abs://{}@{}/{}", abs.account, abs.container, abs.path)?,
            Self::Sftp(sftp) => sftp.fmt(f)?,
        }
        self.endpoint().map_or(Ok(()), |e| write!(f, " at {e}"))
    }
}

/// `sftp://USER@HOST[:PORT]/PATH`, with `/~/PATH` for one from the login directory on.
impl fmt::Display for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, path, .. } = self;
        write!(f, "sftp://{user}@")?;
        if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
        if *port != 22 {
            write!(f, ":{port}")?;
        }
        match path.as_str() {
            "." => f.write_str("/~"),
            path if path.starts_with('/') => f.write_str(path),
            path => write!(f, "/~/{path}"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id: String = self.access_key_id.chars().take(4).chain(['…']).collect();
        f.debug_struct("Credentials")
            .field("access_key_id", &id)
            .field("secret_access_key", &self.secret_access_key)
            .field("session_token", &self.session_token)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_lies_below_another_by_whole_names() {
        let file = |path: &str| Destination::File { path: path.into() };
        let s3 = |bucket: &str, path: &str| {
            Destination::S3(S3 {
                bucket: bucket.into(),
                path: path.into(),
                region: "r".into(),
                endpoint: None,
                force_path_style: false,
                skip_verify: false,
                credentials: None,
                options: S3Options::default(),
            })
        };
        for (above, below, want) in [
            (file("/b"), file("/b/x.db"), Some("x.db")),
            (file("/b"), file("/b"), Some("")),
            (file("/b"), file("/bx"), None),
            (file("/b/x"), file("/b"), None),
            (file("/"), file("/b"), Some("b")),
            (s3("b", ""), s3("b", "t/x.db"), Some("t/x.db")),
            (s3("b", "t"), s3("b", "t/x.db"), Some("x.db")),
            (s3("b", "t"), s3("c", "t/x.db"), None),
            (s3("b", "t"), file("t/x.db"), None),
        ] {
            assert_eq!(above.leads_to(&below).as_deref(), want, "{above} {below}");
        }
        assert_eq!(s3("b", "").below("t/x.db").to_string(), "s3://b/t/x.db");
    }

    #[test]
    fn keys_do_not_print() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI".into()),
            session_token: Some(Secret::new("FwoGZXIvYXdzE".into())),
        };
        let printed = format!("{credentials:?}");
        assert_eq!(
            printed,
            r#"Credentials { access_key_id: "AKIA…", secret_access_key: ***, session_token: Some(***) }"#
        );
        let secret = || Secret::new("hunter2".to_string());
        assert_eq!(format!("{:?}", GcsCredentials::Key(secret())), "Key(***)");
        assert_eq!(format!("{:?}", AbsCredentials::Key(secret())), "Key(***)");
        assert_eq!(format!("{:?}", AbsCredentials::Sas(secret())), "Sas(***)");
    }
}
