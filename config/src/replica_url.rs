//! Replica URLs: `file:///backup/db`, `s3://BUCKET/PATH?endpoint=…`, `gs://BUCKET/PATH` (also `gcs://`),
//! `abs://ACCOUNT@CONTAINER/PATH`, `sftp://USER@HOST/PATH`. Values only.
//!
//! A file URL follows [`crate::file_url`]. An S3 URL's path is decoded; its host follows [`crate::host`].

use std::path::PathBuf;

use url::Url;

use crate::abs;
use crate::advice::nearest;
use crate::destination::Destination;
use crate::env::Env;
use crate::error::{ConfigError, Place, Warning};
use crate::file_url::{self, decoded};
use crate::gcs;
use crate::host;
use crate::model::Replica;
use crate::reader::parse_switch;
use crate::s3::{self, Flaw, Parts};
use crate::s3_options;
use crate::secret::Secret;
use crate::sftp;
use crate::url_notice;

/// The replica a URL of the command line names, with Litestream 0.3.13's defaults and the environment's keys.
///
/// The query of an S3 URL may hold `endpoint`, `region`, `force-path-style`, `skip-verify` and the keys of
/// [`s3_options`] (also in 0.5's camelCase), that of the others `endpoint`. Errors show the URL without user, password and query.
pub fn replica_from_url(url: &str, env: &Env) -> Result<Replica, ConfigError> {
    let fail =
        |flaw: Flaw| ConfigError::new(Place::Url(redacted(url)), flaw.field, flaw.problem).fix(flaw.fix);
    let destination = match parse(url, env).map_err(fail)? {
        Target::File(path) => Destination::File { path },
        Target::S3(parts) => Destination::S3(s3::assemble(parts, env).map_err(fail)?.0),
        Target::Gcs(parts) => Destination::Gcs(gcs::assemble(parts, env).map_err(fail)?),
        Target::Abs(parts) => Destination::Abs(abs::assemble(parts, env).map_err(fail)?.0),
        Target::Sftp(parts) => Destination::Sftp(sftp::assemble(parts, env).map_err(fail)?),
    };
    Ok(Replica::to(destination))
}

/// What to say of `url` before it is used: how it is read, where that may surprise. For the command line; in a file
/// these are warnings of its key.
pub fn url_warnings(url: &str, env: &Env) -> Vec<Warning> {
    let Ok(target) = parse(url, env) else { return Vec::new() };
    let place = || Place::Url(redacted(url));
    url_notice::of(url, &target).into_iter().map(|text| Warning::new(place(), "", text, None)).collect()
}

/// What a URL says.
pub(crate) enum Target {
    File(PathBuf),
    S3(Parts),
    Gcs(gcs::Parts),
    Abs(abs::Parts),
    Sftp(sftp::Parts),
}

impl Target {
    /// The keys of the file that the URL says.
    pub(crate) fn says(&self) -> Vec<&'static str> {
        let mut keys = vec!["type", "bucket", "path"];
        let mut part = |key, given: bool| keys.extend(Some(key).filter(|_| given));
        match self {
            Self::File(_) => {}
            Self::S3(parts) => {
                part("region", parts.region.is_some());
                part("endpoint", parts.endpoint.is_some());
                part("force-path-style", parts.force_path_style.is_some());
                part("skip-verify", parts.skip_verify);
            }
            Self::Gcs(parts) => part("endpoint", parts.endpoint.is_some()),
            Self::Abs(parts) => {
                part("account-name", parts.account.is_some());
                part("endpoint", parts.endpoint.is_some());
            }
            Self::Sftp(parts) => {
                part("host", parts.host.is_some());
                part("user", parts.user.is_some());
                part("password", parts.password.is_some());
            }
        }
        keys
    }
}

/// Reads a replica URL; the parts of an S3 one are not checked yet.
pub(crate) fn parse(url: &str, env: &Env) -> Result<Target, Flaw> {
    match scheme(url) {
        None => Err(Flaw::new(
            "url",
            "it has no scheme",
            "start it with file://, s3://, gs://, abs:// or sftp://",
        )),
        Some(("file", rest)) => {
            let path = file_url::path(rest)?;
            let path =
                env.absolute(&path).map_err(|e| Flaw::new("path", e.to_string(), "write file:///PATH"))?;
            Ok(Target::File(path))
        }
        Some(("s3", _)) => s3_parts(url).map(Target::S3),
        Some(("gs" | "gcs", _)) => gcs_parts(url).map(Target::Gcs),
        Some(("abs", _)) => abs_parts(url).map(Target::Abs),
        Some(("sftp", _)) => sftp_parts(url).map(Target::Sftp),
        Some((other, _)) => Err(refused("url", other)),
    }
}

/// The error for a replica type that is not read: known to Litestream, or to nobody.
pub(crate) fn refused(field: &'static str, kind: &str) -> Flaw {
    if LATER.contains(&kind) {
        return Flaw::new(
            field,
            format!("replicas of type {kind} are not available yet"),
            "use type s3, gcs, abs, sftp or file",
        );
    }
    if matches!(kind, "http" | "https") {
        let fix = format!("write s3://BUCKET/PATH?endpoint={kind}://HOST for a service that speaks S3");
        return Flaw::new(field, "a replica has no web address", fix);
    }
    let fix = match nearest(
        kind,
        ["file", "s3", "gcs", "gs", "abs", "sftp"].into_iter().chain(LATER.iter().copied()),
    ) {
        Some(name) => format!("did you mean {name}? The types are s3, gcs, abs, sftp and file"),
        None => "the types are s3, gcs, abs, sftp and file".into(),
    };
    Flaw::new(field, format!("unknown replica type {kind:?}"), fix)
}

/// Types Litestream 0.3.13 or 0.5 knows.
const LATER: &[&str] = &["webdav", "webdavs", "nats", "oss"];

/// Scheme and what follows its colon.
pub(crate) fn scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(letters))
        .then_some((scheme, rest))
}

/// `name://`: a URL where a path is expected.
pub(crate) fn looks_like_url(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// The URL without user, password, query and fragment: fit for a log.
pub(crate) fn redacted(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.into(),
    }
}

fn s3_parts(text: &str) -> Result<Parts, Flaw> {
    let (url, path) = bucket_url(text, "write s3://BUCKET/PATH")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new(
            "url",
            "it holds a user or password",
            "remove them; keys go into access-key-id and secret-access-key, or into the environment",
        ));
    }
    let host = host::parse(url.host_str().unwrap_or_default(), url.port());
    if let Some(endpoint) = host.endpoint.as_deref().filter(|_| host.bucket.is_empty()) {
        let fix = format!("write s3://BUCKET/PATH?endpoint={endpoint}");
        return Err(Flaw::new("bucket", "it is missing: the host of the URL is that of a service", fix));
    }
    let mut parts = Parts {
        bucket: Some(host.bucket),
        path,
        region: host.region,
        endpoint: host.endpoint,
        ..Parts::default()
    };
    for (name, value) in url.query_pairs() {
        let flag = |field| {
            parse_switch(&value).ok_or_else(|| {
                Flaw::new(field, format!("{value:?} is not true or false"), "write true or false")
            })
        };
        match &*name {
            "endpoint" => parts.endpoint = Some(value.into_owned()),
            "region" => parts.region = Some(value.into_owned()),
            "force-path-style" | "forcePathStyle" => parts.force_path_style = Some(flag("force-path-style")?),
            "skip-verify" | "skipVerify" => parts.skip_verify = flag("skip-verify")?,
            "require-content-md5" | "requireContentMD5" | "sign-accept-encoding" | "signAcceptEncoding" => {
                parts.without_effect.push(name.into_owned());
            }
            other => match s3_options::key_of(other) {
                Some(key) => parts.options.set(key, value.into_owned()),
                None => return Err(unknown_parameter(other, &[&QUERY, s3_options::KEYS].concat())),
            },
        }
    }
    Ok(parts)
}

fn gcs_parts(text: &str) -> Result<gcs::Parts, Flaw> {
    let fix = "write gs://BUCKET/PATH";
    let (url, path) = bucket_url(text, fix)?;
    if !url.username().is_empty() || url.password().is_some() {
        let keys = "remove them; the key goes into service-account-json-path, or into GOOGLE_APPLICATION_CREDENTIALS";
        return Err(Flaw::new("url", "it holds a user or password", keys));
    }
    let bucket = Some(bucket_host(&url, fix)?);
    if let Some(host) = bucket.as_deref().filter(|host| host.ends_with(".googleapis.com")) {
        return Err(Flaw::new("url", format!("{host} stands where the bucket's name does"), fix));
    }
    Ok(gcs::Parts { bucket, path, endpoint: only_endpoint(&url)?, ..gcs::Parts::default() })
}

fn abs_parts(text: &str) -> Result<abs::Parts, Flaw> {
    let fix = "write abs://ACCOUNT@CONTAINER/PATH";
    let (url, path) = bucket_url(text, fix)?;
    if url.password().is_some() {
        let keys = "remove it; keys go into account-key or sas-token, or into LITESTREAM_AZURE_ACCOUNT_KEY";
        return Err(Flaw::new("url", "it holds a password", keys));
    }
    let account = Some(url.username().to_string()).filter(|a| !a.is_empty());
    let bucket = Some(bucket_host(&url, fix)?);
    if let Some(host) = bucket.as_deref().filter(|host| host.contains('.')) {
        // No container's name has a dot.
        return Err(Flaw::new("url", format!("{host} stands where the container's name does"), fix));
    }
    Ok(abs::Parts { account, bucket, path, endpoint: only_endpoint(&url)?, ..abs::Parts::default() })
}

fn sftp_parts(text: &str) -> Result<sftp::Parts, Flaw> {
    let fix = "write sftp://USER@HOST/PATH";
    let (url, path) = bucket_url(text, fix)?;
    if let Some((name, _)) = url.query_pairs().next() {
        let fix = "remove it; keys go into key-path and host-key, or into LITESTREAM_SFTP_KEY_PATH and LITESTREAM_SFTP_HOST_KEY";
        return Err(Flaw::new("url", format!("the query parameter `{name}` is not available"), fix));
    }
    let plain = |what: &'static str, text: &str| {
        decoded(text)
            .ok_or_else(|| Flaw::new("url", format!("its {what} is not UTF-8 with %XX sequences"), fix))
    };
    let user = plain("user", url.username())?;
    let password = url.password().map(|password| plain("password", password)).transpose()?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(sftp::Parts {
        host: Some(host).filter(|host| !host.is_empty()).map(|host| format!("{host}{port}")),
        user: Some(user).filter(|user| !user.is_empty()),
        password: password.map(Secret::new),
        path: sftp::path_of_url(&path),
        ..sftp::Parts::default()
    })
}

/// A URL of a bucket, and its path decoded.
fn bucket_url(text: &str, fix: &'static str) -> Result<(Url, String), Flaw> {
    if text.starts_with("s3://arn:") {
        let problem = "access points are not available";
        return Err(Flaw::new("url", problem, "write the name of the bucket, s3://BUCKET/PATH"));
    }
    let url = Url::parse(text).map_err(|e| Flaw::new("url", format!("it is not a URL: {e}"), fix))?;
    if url.fragment().is_some() {
        return Err(Flaw::new("url", "it has a #fragment", "write %23 for a # in the path"));
    }
    if url.cannot_be_a_base() {
        return Err(Flaw::new("url", "it has no host", fix));
    }
    let path = decoded(url.path())
        .ok_or_else(|| Flaw::new("url", "its path is not UTF-8 with %XX sequences", fix))?;
    Ok((url, path))
}

/// The host, which is the bucket and nothing else: these services have no port.
fn bucket_host(url: &Url, fix: &'static str) -> Result<String, Flaw> {
    match url.port() {
        Some(port) => Err(Flaw::new(
            "url",
            format!("it has a port, {port}, where the bucket's name stands"),
            format!("{fix}?endpoint=http://HOST:{port}"),
        )),
        None => Ok(url.host_str().unwrap_or_default().to_string()),
    }
}

/// The query of a URL that may hold an endpoint and nothing else.
fn only_endpoint(url: &Url) -> Result<Option<String>, Flaw> {
    let mut endpoint = None;
    for (name, value) in url.query_pairs() {
        match &*name {
            "endpoint" => endpoint = Some(value.into_owned()),
            other => return Err(unknown_parameter(other, &["endpoint"])),
        }
    }
    Ok(endpoint)
}

fn unknown_parameter(name: &str, known: &[&'static str]) -> Flaw {
    let fix = match nearest(name, known.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("remove it; known are {}", known.join(", ")),
    };
    Flaw::new("url", format!("the query parameter `{name}` is not available"), fix)
}

const QUERY: [&str; 4] = ["endpoint", "region", "force-path-style", "skip-verify"];

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        Env::from_pairs([("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")])
            .with_cwd("/work/dir")
    }

    #[test]
    fn file_urls_name_the_directory_litestream_would_use() {
        for (url, want) in [
            ("file:///backup/db", "/backup/db"),
            ("file:///backup//x/../db/", "/backup/db"),
            ("file:/backup/db", "/backup/db"),
            ("file://backup/db", "/backup/db"),
            ("file:backup/db", "/work/dir/backup/db"),
            ("file:///my%20dir", "/my%20dir"),
            ("file:///my dir", "/my%20dir"),
            ("file:///a%41", "/a%41"),
            ("file:///a%41 b", "/aA%20b"),
            ("file:///données", "/donn%C3%A9es"),
            ("file:///a?b#c", "/a?b#c"),
        ] {
            let replica = replica_from_url(url, &env()).unwrap();
            assert_eq!(replica.destination, Destination::File { path: want.into() }, "{url}");
            assert_eq!(replica.name, "file");
        }
    }

    #[test]
    fn s3_urls_name_bucket_prefix_and_service() {
        let shown = |url: &str| match replica_from_url(url, &env()).unwrap().destination {
            Destination::S3(s3) => {
                let style = if s3.force_path_style { "path" } else { "host" };
                let verify = if s3.skip_verify { " unverified" } else { "" };
                let endpoint = s3.endpoint.unwrap_or_default();
                format!("{}|{}|{}|{endpoint}|{style}{verify}", s3.bucket, s3.path, s3.region)
            }
            other => panic!("{url} is {other}"),
        };
        for (url, want) in [
            ("s3://b/p", "b|p|us-east-1||host"),
            ("s3://b", "b||us-east-1||host"),
            ("s3://My_Bucket.com//p/./q/", "My_Bucket.com|p/q|us-east-1||host"),
            ("s3://b/my%20dir/%23", "b|my dir/#|us-east-1||host"),
            ("s3://b.localhost:9000/p", "b|p|us-east-1|http://localhost:9000|path"),
            ("s3://b.nyc3.digitaloceanspaces.com/p", "b|p|nyc3|https://nyc3.digitaloceanspaces.com|path"),
            ("s3://b/p?region=eu-1&endpoint=http%3A%2F%2Fminio%3A9000", "b|p|eu-1|http://minio:9000|path"),
            (
                "s3://b/p?endpoint=http://minio:9000&force-path-style=false",
                "b|p|us-east-1|http://minio:9000|host",
            ),
            ("s3://b/p?forcePathStyle=true&skipVerify=true", "b|p|us-east-1||path unverified"),
        ] {
            assert_eq!(shown(url), want, "{url}");
        }
    }

    #[test]
    fn sftp_urls_name_user_server_and_path() {
        let shown = |url: &str| match replica_from_url(url, &env()).unwrap().destination {
            Destination::Sftp(sftp) => {
                let password = sftp.password.as_ref().map(|p| p.expose().clone()).unwrap_or_default();
                format!("{}|{}|{}|{}|{password}|{sftp}", sftp.user, sftp.host, sftp.port, sftp.path)
            }
            other => panic!("{url} is {other}"),
        };
        for (url, want) in [
            ("sftp://u@h/p", "u|h|22|/p||sftp://u@h/p"),
            ("sftp://u:p%40ss@h:2222//a/./b/", "u|h|2222|/a/b|p@ss|sftp://u@h:2222/a/b"),
            ("sftp://u@[::1]:2222/my%20dir", "u|::1|2222|/my dir||sftp://u@[::1]:2222/my dir"),
            ("sftp://u@h/~/p", "u|h|22|p||sftp://u@h/~/p"),
            ("sftp://u@h", "u|h|22|.||sftp://u@h/~"),
        ] {
            assert_eq!(shown(url), want, "{url}");
        }
    }

    #[test]
    fn a_bad_url_says_what_is_wrong_and_shows_no_secret() {
        for (url, want) in [
            (
                "/backup/db",
                "read replica URL /backup/db: url: it has no scheme; start it with file://, s3://, gs://, abs:// or sftp://",
            ),
            (
                "gs://b/p?region=eu",
                "read replica URL gs://b/p: url: the query parameter `region` is not available; remove it; known are endpoint",
            ),
            (
                "abs://c/p",
                "read replica URL abs://c/p: account-name: it is missing; name the storage account \
                 (abs://ACCOUNT@CONTAINER/PATH, or the key `account-name`)",
            ),
            (
                "abs://acct:hunter2@c/p",
                "read replica URL abs://c/p: url: it holds a password; remove it; keys go into account-key or \
                 sas-token, or into LITESTREAM_AZURE_ACCOUNT_KEY",
            ),
            (
                "webdav://u:hunter2@h/p",
                "read replica URL webdav://h/p: url: replicas of type webdav are not available yet; use type s3, gcs, abs, sftp or file",
            ),
            (
                "sftp://:hunter2@h/p",
                "read replica URL sftp://h/p: user: it is missing; name whom to log in as (sftp://USER@HOST/PATH, or the key `user`)",
            ),
            (
                "sftp://u:hunter2@h/p?hostkey=x",
                "read replica URL sftp://h/p: url: the query parameter `hostkey` is not available; remove it; keys go \
                 into key-path and host-key, or into LITESTREAM_SFTP_KEY_PATH and LITESTREAM_SFTP_HOST_KEY",
            ),
            (
                "s4://b/p",
                "read replica URL s4://b/p: url: unknown replica type \"s4\"; did you mean s3? The types are s3, gcs, abs, sftp and file",
            ),
            (
                "https://minio.example.com/b",
                "read replica URL https://minio.example.com/b: url: a replica has no web address; write \
                 s3://BUCKET/PATH?endpoint=https://HOST for a service that speaks S3",
            ),
            (
                "s3://minio:9000/b/p",
                "read replica URL s3://minio:9000/b/p: bucket: it is missing: the host of the URL is that of a service; \
                 write s3://BUCKET/PATH?endpoint=http://minio:9000",
            ),
            (
                "s3://arn:aws:s3:eu-1:1:accesspoint/a/p",
                "read replica URL s3://arn:aws:s3:eu-1:1:accesspoint/a/p: url: access points are not available; write the \
                 name of the bucket, s3://BUCKET/PATH",
            ),
            (
                "abs://acct.blob.core.windows.net/c/p",
                "read replica URL abs://acct.blob.core.windows.net/c/p: url: acct.blob.core.windows.net stands where the \
                 container's name does; write abs://ACCOUNT@CONTAINER/PATH",
            ),
            (
                "gs://storage.googleapis.com/b/p",
                "read replica URL gs://storage.googleapis.com/b/p: url: storage.googleapis.com stands where the bucket's \
                 name does; write gs://BUCKET/PATH",
            ),
            ("file://", "read replica URL file://: path: it is missing; write file:///PATH"),
            (
                "file:///a%zz",
                "read replica URL file:///a%zz: path: a % is not followed by two hexadecimal digits; write %25 for a %",
            ),
            (
                "s3:///db",
                "read replica URL s3:///db: bucket: it is missing; name the bucket (s3://BUCKET/PATH, or the key `bucket`)",
            ),
            (
                "s3://AKIA:hunter2@b/p",
                "read replica URL s3://b/p: url: it holds a user or password; remove them; keys go into access-key-id \
                 and secret-access-key, or into the environment",
            ),
            (
                "s3://b/p?endpont=x",
                "read replica URL s3://b/p: url: the query parameter `endpont` is not available; did you mean `endpoint`?",
            ),
            (
                "s3://b/p?acl=hunter2",
                "read replica URL s3://b/p: url: the query parameter `acl` is not available; remove it; known are \
                 endpoint, region, force-path-style, skip-verify, part-size, concurrency, storage-class, sign-payload, \
                 sse-kms-key-id, sse-customer-algorithm, sse-customer-key, sse-customer-key-path, sse-customer-key-md5",
            ),
            (
                "s3://b/p?sseCustomerKey=hunter2",
                "read replica URL s3://b/p: sse-customer-key: it is not 32 bytes in base64; make one with `openssl \
                 rand -base64 32`",
            ),
            (
                "s3://b/p?skip-verify=maybe",
                "read replica URL s3://b/p: skip-verify: \"maybe\" is not true or false; write true or false",
            ),
            (
                "s3://b/p#x",
                "read replica URL s3://b/p: url: it has a #fragment; write %23 for a # in the path",
            ),
            ("s3:b/p", "read replica URL s3:b/p: url: it has no host; write s3://BUCKET/PATH"),
        ] {
            let error = replica_from_url(url, &env()).unwrap_err();
            assert_eq!(error.to_string(), want, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
}
