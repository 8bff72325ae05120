//! What a destination puts into the files of `init`: its keys, the secrets that open it, and what a network or a volume
//! has to let through. Values only.

use std::path::PathBuf;

use holdfast_config::{Abs, Destination, Encryption, Gcs, S3, S3Options, Sftp};

/// A destination as the files need to know it.
pub(super) struct Place {
    /// The replica's keys in `litestream.yml`, in order, without a secret.
    pub keys: Vec<(&'static str, String)>,
    pub secrets: &'static [Secret],
    /// The TCP port of the service.
    pub port: Option<u16>,
    /// A directory on the machine itself.
    pub directory: Option<PathBuf>,
    /// A key that is still to be written into `litestream.yml`.
    pub wanted: Option<String>,
}

/// What has to be filled in before anything runs.
pub(super) struct Secret {
    /// The name of the file it is handed over in.
    pub file: &'static str,
    /// The variable that names this file.
    pub file_variable: &'static str,
    /// The variable that may hold the secret itself; a key file of several lines has none.
    pub variable: Option<&'static str>,
    /// What it is, and where it comes from.
    pub what: &'static str,
}

impl Place {
    pub(super) fn of(destination: &Destination) -> Self {
        match destination {
            Destination::File { path } => Self {
                keys: keys("file", [("path", Some(path.to_string_lossy().into_owned()))]),
                secrets: &[],
                port: None,
                directory: Some(path.clone()),
                wanted: None,
            },
            Destination::S3(s3) => Self::of_s3(s3),
            Destination::Gcs(Gcs { bucket, path, endpoint, .. }) => Self {
                keys: keys(
                    "gcs",
                    [("bucket", given(bucket)), ("path", given(path)), ("endpoint", endpoint.clone())],
                ),
                secrets: &GCS,
                port: port(endpoint.as_deref()),
                directory: None,
                wanted: None,
            },
            Destination::Abs(Abs { account, container, path, endpoint, .. }) => Self {
                keys: keys(
                    "abs",
                    [
                        ("account-name", given(account)),
                        ("bucket", given(container)),
                        ("path", given(path)),
                        ("endpoint", endpoint.clone()),
                    ],
                ),
                secrets: &ABS,
                port: port(endpoint.as_deref()),
                directory: None,
                wanted: None,
            },
            Destination::Sftp(sftp) => Self::of_sftp(sftp),
        }
    }

    fn of_s3(s3: &S3) -> Self {
        let S3 { bucket, path, region, endpoint, force_path_style, skip_verify, credentials: _, options } =
            s3;
        let S3Options { part_size, concurrency, storage_class, sign_payload, encryption } = options;
        let kms = match encryption {
            Some(Encryption::Kms { key_id }) => Some(key_id.clone()),
            // A secret: `init` has refused it.
            Some(Encryption::Customer(_)) | None => None,
        };
        // By default true with an endpoint and false without.
        let style = (*force_path_style != endpoint.is_some()).then(|| force_path_style.to_string());
        Self {
            keys: keys(
                "s3",
                [
                    ("bucket", given(bucket)),
                    ("path", given(path)),
                    ("region", given(region)),
                    ("endpoint", endpoint.clone()),
                    ("force-path-style", style),
                    ("skip-verify", skip_verify.then(|| true.to_string())),
                    ("part-size", part_size.map(|bytes| bytes.to_string())),
                    ("concurrency", concurrency.map(|parts| parts.to_string())),
                    ("storage-class", storage_class.clone()),
                    ("sign-payload", (!sign_payload).then(|| false.to_string())),
                    ("sse-kms-key-id", kms),
                ],
            ),
            secrets: &S3_KEYS,
            port: port(endpoint.as_deref()),
            directory: None,
            wanted: None,
        }
    }

    fn of_sftp(sftp: &Sftp) -> Self {
        let host = if sftp.host.contains(':') { format!("[{}]", sftp.host) } else { sftp.host.clone() };
        Self {
            keys: keys(
                "sftp",
                [
                    ("host", Some(format!("{host}:{}", sftp.port))),
                    ("user", given(&sftp.user)),
                    ("path", given(&sftp.path)),
                    ("host-key", sftp.host_key.clone()),
                ],
            ),
            secrets: &SFTP,
            port: Some(sftp.port),
            directory: None,
            wanted: sftp.host_key.is_none().then(|| {
                format!(
                    "host-key: as `ssh-keyscan -t ed25519 -p {} {}` prints it, without the host",
                    sftp.port, sftp.host
                )
            }),
        }
    }
}

fn keys<const N: usize>(
    kind: &str,
    rest: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
    let kind = ("type", Some(kind.to_owned()));
    std::iter::once(kind).chain(rest).filter_map(|(key, value)| Some((key, value?))).collect()
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The port of `SCHEME://HOST[:PORT][/PATH]`; that of HTTPS without an endpoint.
fn port(endpoint: Option<&str>) -> Option<u16> {
    let Some((scheme, rest)) = endpoint.and_then(|e| e.split_once("://")) else { return Some(443) };
    let host = rest.split('/').next().unwrap_or(rest);
    let said = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Some(said.unwrap_or(if scheme == "http" { 80 } else { 443 }))
}

const S3_KEYS: [Secret; 2] = [
    Secret {
        file: "access-key-id",
        file_variable: "LITESTREAM_ACCESS_KEY_ID_FILE",
        variable: Some("LITESTREAM_ACCESS_KEY_ID"),
        what: "may list, read, write and delete below the replica's path; without a key the machine's own role is used",
    },
    Secret {
        file: "secret-access-key",
        file_variable: "LITESTREAM_SECRET_ACCESS_KEY_FILE",
        variable: Some("LITESTREAM_SECRET_ACCESS_KEY"),
        what: "the key's secret",
    },
];

const GCS: [Secret; 1] = [Secret {
    file: "gcs-service-account.json",
    file_variable: "GOOGLE_APPLICATION_CREDENTIALS",
    variable: None,
    what: "the key of a service account with the role storage.objectUser; with workload identity leave it out",
}];

const ABS: [Secret; 1] = [Secret {
    file: "account-key",
    file_variable: "LITESTREAM_AZURE_ACCOUNT_KEY_FILE",
    variable: Some("LITESTREAM_AZURE_ACCOUNT_KEY"),
    what: "a key of the storage account; without one the machine's managed identity is used",
}];

const SFTP: [Secret; 1] = [Secret {
    file: "id_ed25519",
    file_variable: "LITESTREAM_SFTP_KEY_PATH",
    variable: None,
    what: "a private key without a passphrase, whose public half the server knows",
}];
