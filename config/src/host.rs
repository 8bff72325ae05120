//! What the host of an `s3://` URL stands for. Values only.
//!
//! | host | bucket | region | endpoint | style |
//! | --- | --- | --- | --- | --- |
//! | `[B.]localhost[:P]` | B | us-east-1 | `http://localhost[:P]` | path |
//! | `B.s3.R.backblazeb2.com` | B | R | `https://s3.R.backblazeb2.com` | path |
//! | `B.s3.filebase.com` | B | | `https://s3.filebase.com` | path |
//! | `B.R.digitaloceanspaces.com` | B | R | `https://R.digitaloceanspaces.com` | path |
//! | `B.s3.R.scw.cloud` | B | R | `https://s3.R.scw.cloud` | path |
//! | `B.R.linodeobjects.com` | B | R | `https://R.linodeobjects.com` | path |
//! | `B.s3[.R].amazonaws.com` (0.5) | B | R | | host |
//! | `B.H:P` (0.5) | B | us-east-1 | `http://H:P` | path |
//! | anything else | the host | | | host |
//!
//! The first six are Litestream 0.3.13's rules, in its order. A port is kept where there is an endpoint. Of a host with
//! a port and no dot there is no bucket: it is the service itself.

/// A host taken apart. An empty bucket is a URL without one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) bucket: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

/// Takes the host of an `s3://` URL apart.
pub(crate) fn parse(host: &str, port: Option<u16>) -> Host {
    let at = |scheme: &str, name: &str| match port {
        Some(port) => Some(format!("{scheme}://{name}:{port}")),
        None => Some(format!("{scheme}://{name}")),
    };
    if let Some(bucket) = before(host, "localhost") {
        return Host { bucket, region: Some("us-east-1".into()), endpoint: at("http", "localhost") };
    }
    for (domain, with_s3) in PROVIDERS {
        let Some((front, region)) = before(host, domain).and_then(|f| last_label(&f)) else { continue };
        let (bucket, name) = if with_s3 {
            let Some(bucket) = before(&front, "s3") else { continue };
            (bucket, format!("s3.{region}.{domain}"))
        } else {
            (front, format!("{region}.{domain}"))
        };
        return Host { bucket, region: Some(region), endpoint: at("https", &name) };
    }
    if let Some(bucket) = before(host, "s3.filebase.com") {
        return Host { bucket, region: None, endpoint: at("https", "s3.filebase.com") };
    }
    if let Some(bucket) = before(host, "s3.amazonaws.com") {
        return Host { bucket, ..Host::default() };
    }
    if let Some((front, region)) = before(host, "amazonaws.com").and_then(|f| last_label(&f))
        && let Some(bucket) = before(&front, "s3")
    {
        return Host { bucket, region: Some(region), endpoint: None };
    }
    // A port is no part of a bucket's name: this is a service of one's own.
    match (port, host.split_once('.')) {
        (None, _) => Host { bucket: host.into(), ..Host::default() },
        (Some(_), Some((bucket, name))) => {
            Host { bucket: bucket.into(), region: Some("us-east-1".into()), endpoint: at("http", name) }
        }
        (Some(_), None) => Host { bucket: String::new(), region: None, endpoint: at("http", host) },
    }
}

/// Domain of a provider, and whether `s3` stands before the region.
const PROVIDERS: [(&str, bool); 4] = [
    ("backblazeb2.com", true),
    ("digitaloceanspaces.com", false),
    ("scw.cloud", true),
    ("linodeobjects.com", false),
];

/// What stands before `.domain`; empty if `host` is the domain itself.
fn before(host: &str, domain: &str) -> Option<String> {
    match host.strip_suffix(domain)? {
        "" => Some(String::new()),
        front => front.strip_suffix('.').filter(|f| !f.is_empty()).map(Into::into),
    }
}

/// `a.b.c` as `a.b` and `c`; `c` as nothing and `c`.
fn last_label(front: &str) -> Option<(String, String)> {
    let (rest, last) = front.rsplit_once('.').unwrap_or(("", front));
    if last.is_empty() { None } else { Some((rest.into(), last.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_reads_as_it_says() {
        let cases = [
            ("localhost", Some(9000), "", "us-east-1", "http://localhost:9000"),
            ("b.localhost", None, "b", "us-east-1", "http://localhost"),
            ("my.b.localhost", Some(1), "my.b", "us-east-1", "http://localhost:1"),
            (
                "b.s3.us-west-004.backblazeb2.com",
                None,
                "b",
                "us-west-004",
                "https://s3.us-west-004.backblazeb2.com",
            ),
            ("s3.r.backblazeb2.com", None, "", "r", "https://s3.r.backblazeb2.com"),
            ("b.s3.filebase.com", None, "b", "", "https://s3.filebase.com"),
            ("b.nyc3.digitaloceanspaces.com", None, "b", "nyc3", "https://nyc3.digitaloceanspaces.com"),
            ("nyc3.digitaloceanspaces.com", None, "", "nyc3", "https://nyc3.digitaloceanspaces.com"),
            ("a.b.s3.fr-par.scw.cloud", Some(444), "a.b", "fr-par", "https://s3.fr-par.scw.cloud:444"),
            (
                "b.eu-central-1.linodeobjects.com",
                None,
                "b",
                "eu-central-1",
                "https://eu-central-1.linodeobjects.com",
            ),
            ("b.s3.amazonaws.com", None, "b", "", ""),
            ("b.s3.eu-west-1.amazonaws.com", None, "b", "eu-west-1", ""),
            ("my.bucket.com", None, "my.bucket.com", "", ""),
            ("localhost.example", None, "localhost.example", "", ""),
            ("b.minio", Some(9000), "b", "us-east-1", "http://minio:9000"),
            ("b.s3.example.com", Some(9000), "b", "us-east-1", "http://s3.example.com:9000"),
            ("minio", Some(9000), "", "", "http://minio:9000"),
            ("mylocalhost", None, "mylocalhost", "", ""),
            ("b.r.scw.cloud", None, "b.r.scw.cloud", "", ""),
        ];
        for (host, port, bucket, region, endpoint) in cases {
            let some = |t: &str| Some(t.to_string()).filter(|t| !t.is_empty());
            let want = Host { bucket: bucket.into(), region: some(region), endpoint: some(endpoint) };
            assert_eq!(parse(host, port), want, "{host}");
        }
    }
}
