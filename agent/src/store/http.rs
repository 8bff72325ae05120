//! Between `object_store` and the network: keeps what the server really answered, and asks for one thing more.
//!
//! `object_store` folds a failed list or delete into one opaque error. The S3 error code in the body is what tells
//! a missing bucket from a missing key and a wrong key from a wrong clock, so it is kept per task (see [`observed`]).

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

use object_store::ClientOptions;
use object_store::HeaderValue;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// The last request of the current call that was not answered with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// HTTP status and S3's `<Code>`, which is empty for answers without a body (HEAD, proxies).
    Status { status: u16, code: String, message: String },
    /// No answer.
    Transport { kind: HttpErrorKind, text: String },
}

/// Runs one call of `object_store`, and says what the server refused last, if anything.
pub(super) async fn observed<T>(call: impl Future<Output = T>) -> (T, Option<Refusal>) {
    SEEN.scope(RefCell::new(None), async {
        let result = call.await;
        (result, SEEN.with(|seen| seen.take()))
    })
    .await
}

tokio::task_local! {
    static SEEN: RefCell<Option<Refusal>>;
}

fn note(refusal: Option<Refusal>) {
    // Outside of `observed` there is nobody to tell.
    let _ = SEEN.try_with(|seen| *seen.borrow_mut() = refusal);
}

/// Connects as `object_store` does by itself, and observes.
#[derive(Debug, Default)]
pub(super) struct Connector(ReqwestConnector);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Observer(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Observer(HttpClient);

impl HttpService for Observer {
    fn call<'a, 'b>(
        &'a self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        create_only(&mut request);
        let listing = has_parameter(&request, "list-type=");
        Box::pin(async move {
            let response = match self.0.execute(request).await {
                Ok(response) => response,
                Err(e) => {
                    note(Some(Refusal::Transport { kind: e.kind(), text: innermost(&e) }));
                    return Err(e);
                }
            };
            let status = response.status();
            if status.is_success() {
                note(None);
                return if listing { whole_listing(response).await } else { Ok(response) };
            }
            let (parts, body) = response.into_parts();
            let body = body.bytes().await?;
            let text = String::from_utf8_lossy(&body);
            note(Some(Refusal::Status {
                status: status.as_u16(),
                code: element(&text, "Code"),
                message: element(&text, "Message"),
            }));
            Ok(HttpResponse::from_parts(parts, body.into()))
        })
    }
}

/// Completing a multipart upload replaces what is there, and `object_store` has no way to say that it must not.
/// S3 takes the same condition on this request as on a put. It need not be signed: SigV4 requires that only of
/// `host` and `x-amz-*`.
fn create_only(request: &mut HttpRequest) {
    if request.method().as_str() == "POST" && has_parameter(request, "uploadId=") {
        request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
    }
}

fn has_parameter(request: &HttpRequest, start: &str) -> bool {
    request.uri().query().is_some_and(|q| q.split('&').any(|p| p.starts_with(start)))
}

/// Passes a listing on only if it is one, and whole.
///
/// `object_store` reads any XML, an HTML page too, as a listing of nothing. A proxy's or a captive portal's page would
/// then be the proof that there never was a backup.
async fn whole_listing(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let body = body.bytes().await?;
    match fault(&String::from_utf8_lossy(&body)) {
        None => Ok(HttpResponse::from_parts(parts, body.into())),
        Some(what) => Err(HttpError::new(HttpErrorKind::Decode, NoListing(what))),
    }
}

/// What keeps `body` from being a page of a listing.
fn fault(body: &str) -> Option<&'static str> {
    if !body.contains("<ListBucketResult") || !body.trim_end().ends_with("</ListBucketResult>") {
        return Some("it is not a listing; is there an S3 server at this endpoint?");
    }
    // Only the page's own elements: those of an object lie deeper, and hold no such names.
    let truncated = element(body, "IsTruncated");
    if truncated == "true" && element(body, "NextContinuationToken").is_empty() {
        return Some("there is more, but not how to ask for it");
    }
    None
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is no use: {0}")]
struct NoListing(&'static str);

/// The text of `<name>…</name>`, from an error body of a few hundred bytes.
fn element(xml: &str, name: &str) -> String {
    let text = || {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(text.trim().to_owned())
    };
    text().unwrap_or_default()
}

/// `tcp connect error: Connection refused (os error 111)`: what is at the bottom of a chain of wrappers.
pub(super) fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = e;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_s3_code_is_found_in_an_error_body() {
        let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
        assert_eq!(element(body, "Code"), "NoSuchBucket");
        assert_eq!(element(body, "Message"), "gone");
        assert_eq!(element("<html>502 Bad Gateway</html>", "Code"), "");
    }

    #[test]
    fn only_a_whole_listing_is_a_listing() {
        let page =
            |inside: &str| format!("<?xml version=\"1.0\"?><ListBucketResult>{inside}</ListBucketResult>\n");
        assert_eq!(fault(&page("<IsTruncated>false</IsTruncated>")), None);
        let next = "<NextContinuationToken>t</NextContinuationToken>";
        assert_eq!(fault(&page(&format!("<IsTruncated>true</IsTruncated>{next}"))), None);
        assert!(fault(&page("<IsTruncated>true</IsTruncated>")).is_some());
        assert!(fault("<html>welcome</html>").is_some());
        assert!(fault("").is_some());
        assert!(fault("<ListBucketResult><Contents>").is_some());
    }

    #[test]
    fn only_the_completion_of_a_multipart_upload_gets_the_condition() {
        for (method, uri, expected) in [
            ("POST", "http://h/b/k?uploadId=abc", true),
            ("POST", "http://h/b/k?uploads=", false),
            ("PUT", "http://h/b/k?partNumber=1&uploadId=abc", false),
            ("DELETE", "http://h/b/k?uploadId=abc", false),
            ("POST", "http://h/b?delete", false),
        ] {
            let mut request = HttpRequest::new(object_store::client::HttpRequestBody::empty());
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = uri.parse().unwrap();
            create_only(&mut request);
            assert_eq!(request.headers().contains_key("if-none-match"), expected, "{method} {uri}");
        }
    }
}
