//! Why there was no answer, for a reader. Values only.

use object_store::client::{HttpError, HttpErrorKind, HttpRequest};

use super::http::innermost;

/// `minio:9000: Connection refused`
pub(super) fn unanswered(place: &str, e: &HttpError) -> String {
    let why = match e.kind() {
        HttpErrorKind::Timeout => "timed out".to_owned(),
        _ => plainly(&innermost(e)),
    };
    if place.is_empty() { why } else { format!("{place}: {why}") }
}

/// `HOST:PORT`, as the request names it.
pub(super) fn place(request: &HttpRequest) -> String {
    request.uri().authority().map_or_else(String::new, ToString::to_string)
}

/// An answer that began and did not end.
pub(super) fn broken_off(e: &(dyn std::error::Error + 'static)) -> String {
    match plainly(&innermost(e)).as_str() {
        "operation timed out" => "timed out in the middle of the answer".into(),
        why => why.into(),
    }
}

/// Without what helps nobody, and with what to do about it where somebody can.
fn plainly(text: &str) -> String {
    // `Connection refused (os error 111)`: the number helps nobody.
    let text = text.split(" (os error").next().unwrap_or(text);
    let hint = HINTS.iter().find(|(part, _)| text.contains(part));
    hint.map_or_else(|| text.to_owned(), |(_, hint)| format!("{text}: {hint}"))
}

/// What the libraries say, and what it means.
const HINTS: [(&str, &str); 5] = [
    (
        "invalid HTTP version parsed",
        "the server may speak TLS only, and the endpoint would begin with https://",
    ),
    (
        "received corrupt message of type InvalidContentType",
        "the server may not speak TLS, and the endpoint would begin with http://",
    ),
    ("UnknownIssuer", "SSL_CERT_FILE names a file of authorities to trust"),
    ("certificate expired", "renew the server's, or set this machine's clock right"),
    ("not valid for name", "the endpoint has to be a name in the server's certificate"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_has_no_number_and_a_hint_where_there_is_something_to_do() {
        assert_eq!(plainly("Connection refused (os error 111)"), "Connection refused");
        assert_eq!(
            plainly("received corrupt message of type InvalidContentType"),
            "received corrupt message of type InvalidContentType: \
             the server may not speak TLS, and the endpoint would begin with http://"
        );
    }

    #[test]
    fn the_server_that_did_not_answer_is_named() {
        let error = |kind| HttpError::new(kind, std::io::Error::other("broken pipe (os error 32)"));
        assert_eq!(unanswered("minio:9000", &error(HttpErrorKind::Request)), "minio:9000: broken pipe");
        assert_eq!(unanswered("minio:9000", &error(HttpErrorKind::Timeout)), "minio:9000: timed out");
        assert_eq!(unanswered("", &error(HttpErrorKind::Timeout)), "timed out");
        let late = std::io::Error::other("operation timed out");
        assert_eq!(broken_off(&late), "timed out in the middle of the answer");
    }
}
