//! The endpoint of a bucket's service. Values only.

use url::{ParseError, Url};

use crate::s3::Flaw;

/// What to tell whoever wrote one that is no use.
pub(crate) struct Advice {
    /// What one looks like.
    pub(crate) form: &'static str,
    /// Where keys go instead.
    pub(crate) keys: &'static str,
}

/// An endpoint with its scheme and without a slash at the end. Without a scheme it is https, as the AWS library has
/// it; on the loopback http, where https never works.
pub(crate) fn clean(text: &str, advice: &Advice) -> Result<String, Flaw> {
    let full = match text.split_once("://") {
        Some(_) => text.to_string(),
        None if on_loopback(text) => format!("http://{text}"),
        None => format!("https://{text}"),
    };
    let fix = advice.form;
    // The text may hold a password, so no message shows it.
    let url = Url::parse(&full).map_err(|e| match e {
        // Its tables would be a twentieth of PID 1 (`idna_adapter` in Cargo.toml).
        ParseError::IdnaError if !full.is_ascii() => {
            Flaw::new("endpoint", "its host is not plain ASCII", PUNYCODE)
        }
        e => Flaw::new("endpoint", format!("it is not a URL: {e}"), fix),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Flaw::new("endpoint", format!("its scheme is {}, not http or https", url.scheme()), fix));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new("endpoint", "it holds a user or password", advice.keys));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Flaw::new("endpoint", "it has a query or fragment", fix));
    }
    Ok(url.as_str().trim_end_matches('/').into())
}

const PUNYCODE: &str = "write the host in Punycode, like xn--bcher-kva.example";

fn on_loopback(host: &str) -> bool {
    let name = host.split(['/', ':']).next().unwrap_or_default();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.starts_with("127.")
        || host.starts_with("[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVICE: Advice = Advice { form: "write a URL", keys: "remove them" };

    #[test]
    fn endpoints_get_their_scheme_and_lose_their_slash() {
        for (given, want) in [
            ("https://s3.example.com/", "https://s3.example.com"),
            ("s3.us-west-000.backblazeb2.com", "https://s3.us-west-000.backblazeb2.com"),
            ("minio:9000", "https://minio:9000"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://minio:9000", "http://minio:9000"),
            ("localhost:9000", "http://localhost:9000"),
            ("127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("127.0.0.1:10000/devstoreaccount1/", "http://127.0.0.1:10000/devstoreaccount1"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("https://x.example/storage/v1/s3/", "https://x.example/storage/v1/s3"),
        ] {
            assert_eq!(clean(given, &ADVICE), Ok(want.to_string()), "{given}");
        }
        for given in
            ["ftp://x", "https://user:hunter2@x", "https://x?a=hunter2", "https://", "http://x:hunter2"]
        {
            let flaw = clean(given, &ADVICE).unwrap_err();
            assert!(!format!("{flaw:?}").contains("hunter2"), "{given}: {flaw:?}");
        }
        let flaw = clean("https://b\u{fc}cher.example", &ADVICE).unwrap_err();
        assert!(format!("{flaw:?}").contains("xn--bcher-kva.example"), "{flaw:?}");
    }
}
