//! What to say of a replica URL that is read as something its writer may not have meant. Values only.
//!
//! | written | read as |
//! | --- | --- |
//! | `file://backup/db` | `/backup/db`: what looks like a host is the first directory |
//! | `file:backup/db` | below the working directory |
//! | `file:///my%20dir`, `file:///my dir`, `file:///a?b` | a directory whose name has these signs in it, as Litestream has it |
//! | `s3://my.bucket.com/db` | a bucket of AWS, though it looks like a service's address |
//! | `s3://bucket.host:9000/db` | `bucket` at `http://host:9000`, as Litestream 0.5 has it |

use std::path::Path;

use crate::destination::Destination;
use crate::replica_url::{Target, scheme};

/// What to say of `url`, of which `target` was made.
pub(crate) fn of(url: &str, target: &Target) -> Vec<String> {
    match target {
        Target::File(path) => file(url, path).into_iter().collect(),
        Target::S3(parts) => {
            let host = authority(url);
            let bucket = parts.bucket.as_deref().unwrap_or_default();
            let notice = match &parts.endpoint {
                None if bucket.contains('.') && bucket == host => Some(format!(
                    "is read as the bucket {bucket} of AWS; if that is the address of a service, write \
                     s3://BUCKET/PATH?endpoint=https://{bucket}"
                )),
                Some(endpoint) if is_guessed(host, endpoint) => {
                    Some(format!("is read as the bucket {bucket} at {endpoint}"))
                }
                _ => None,
            };
            notice
                .into_iter()
                .chain(parts.without_effect.iter().map(|p| format!("`{p}` has no effect")))
                .collect()
        }
        Target::Gcs(_) | Target::Abs(_) | Target::Sftp(_) => Vec::new(),
    }
}

/// The bucket's host was taken apart by its port alone.
fn is_guessed(host: &str, endpoint: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    let local = name == "localhost" || name.ends_with(".localhost");
    host.contains(':') && !local && endpoint.strip_prefix("http://").is_some_and(|rest| host.ends_with(rest))
}

fn file(url: &str, path: &Path) -> Option<String> {
    let (_, rest) = scheme(url)?;
    let shown = Destination::File { path: path.into() };
    if let Some(full) = rest.strip_prefix("//").filter(|full| !full.starts_with('/')) {
        return Some(match full.starts_with('~') {
            true => {
                format!("is read as the directory {shown}; `~` means nothing in a URL, write it under `path`")
            }
            false => format!("is read as the directory {shown}; write file://{shown}"),
        });
    }
    if !rest.starts_with('/') {
        return Some(format!("is read as {shown}, below the working directory; write file://{shown}"));
    }
    let strange = rest.contains(['%', '?', '#']) || shown.to_string().contains('%');
    strange.then(|| {
        format!("is read as the directory {shown}, letter by letter, as Litestream has it; write it under `path` if \
                 another is meant")
    })
}

/// Host and port as the URL has them.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::replica_url::parse;

    fn said(url: &str) -> Vec<String> {
        of(url, &parse(url, &Env::default().with_cwd("/work")).unwrap())
    }

    #[test]
    fn a_url_that_surprises_says_how_it_is_read() {
        for (url, want) in [
            ("file://backup/db", "is read as the directory /backup/db; write file:///backup/db"),
            (
                "file://~/db",
                "is read as the directory /~/db; `~` means nothing in a URL, write it under `path`",
            ),
            (
                "file:backup/db",
                "is read as /work/backup/db, below the working directory; write file:///work/backup/db",
            ),
            (
                "file:///my dir",
                "is read as the directory /my%20dir, letter by letter, as Litestream has it; write it under `path` if \
                 another is meant",
            ),
            (
                "s3://minio.example.com/bucket",
                "is read as the bucket minio.example.com of AWS; if that is the address of a service, write \
                 s3://BUCKET/PATH?endpoint=https://minio.example.com",
            ),
            ("s3://b.minio:9000/db", "is read as the bucket b at http://minio:9000"),
            ("s3://b.10.0.0.1:9000/db", "is read as the bucket b at http://10.0.0.1:9000"),
            ("s3://b/db?sign-accept-encoding=false", "`sign-accept-encoding` has no effect"),
            ("s3://b/db?requireContentMD5=true", "`requireContentMD5` has no effect"),
        ] {
            assert_eq!(said(url), [want], "{url}");
        }
    }

    #[test]
    fn a_url_that_means_what_it_says_is_silent() {
        for url in [
            "file:///backup/db",
            "file:/backup/db",
            "s3://b/db",
            "s3://b.localhost:9000/db",
            "s3://b.nyc3.digitaloceanspaces.com/db",
            "s3://b.s3.us-west-1.amazonaws.com/db",
            "s3://b.c/db?endpoint=http://minio:9000",
            "s3://b/db?sign-payload=true",
            "gs://b.example.com/db",
            "abs://a@c/db",
        ] {
            assert_eq!(said(url), [""; 0], "{url}");
        }
    }
}
