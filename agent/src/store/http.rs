//! Between `object_store` and the network: keeps what the server really answered, and asks for one thing more.
//!
//! `object_store` folds a failed list or delete into one opaque error. The service's own error code is what tells
//! a missing bucket from a missing key and a wrong key from a wrong clock, so it is kept per task (see [`observed`]).

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_config::Secret;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, HeaderMap, HeaderValue};

use super::OpenOptions;
use super::answer::{passing_cause, throttled};
use super::known::Known;
use super::listing::{listing, whole_listing};
use super::persist::is_part;
use super::pulse::Call;
use super::requests::{Outcome, Verb};
use super::words::{place, unanswered};
use crate::plan::retry::Class;

/// The last request of the current call that was not answered with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) answer: Answer,
    /// The host that was asked for credentials, if it was not the bucket that refused.
    pub(super) credentials_from: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// HTTP status and the service's `<Code>`, which is empty for answers without one (HEAD on S3, proxies).
    Status { status: u16, code: String, message: String, clocks: Clocks, retry_after: Option<Duration> },
    /// No answer.
    None { text: String },
}

/// What two clocks said when the request was made and answered, as far as they said it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clocks {
    /// This machine's, as the request was signed with.
    pub(super) ours: Option<Timestamp>,
    /// The service's.
    pub(super) theirs: Option<Timestamp>,
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
    /// The call the request is for, to [`super::pulse`].
    pub(super) static ASKED: Call;
}

/// Why the last request failed, if it may succeed the next time, and how soon that is worth trying.
fn passing() -> Option<(String, Class)> {
    let refusal = SEEN.try_with(|seen| seen.borrow().clone()).ok().flatten()?;
    let class = throttled(Some(&refusal)).map_or(Class::Passing, |t| Class::Throttled(t.retry_after));
    Some((passing_cause(&refusal)?, class))
}

fn note(refusal: Option<Refusal>) {
    // Outside of `observed` there is nobody to tell.
    let _ = SEEN.try_with(|seen| *seen.borrow_mut() = refusal);
}

/// Connects as `object_store` does by itself, and observes.
#[derive(Debug)]
pub(super) struct Connector {
    inner: ReqwestConnector,
    bucket: Arc<str>,
    dialect: Dialect,
    known: Arc<Known>,
    options: OpenOptions,
}

impl Connector {
    pub(super) fn new(bucket: &str, dialect: Dialect, known: &Arc<Known>, options: &OpenOptions) -> Self {
        let (inner, options) = (ReqwestConnector::default(), options.clone());
        Self { inner, bucket: bucket.into(), dialect, known: known.clone(), options }
    }
}

/// How the end of an upload in parts says that it must not replace what is there, which `object_store` has no way to
/// say.
#[derive(Debug, Clone)]
pub(super) enum Dialect {
    /// The same condition as on a put. It need not be signed: SigV4 requires that only of `host` and `x-amz-*`.
    S3,
    /// There is none; see [`super::resumable`].
    Gcs,
    /// The same condition as on a put. A shared key's signature covers it, so the request is signed again; the other
    /// credentials sign nothing.
    Abs(Option<Arc<SharedKey>>),
}

/// An account of Azure and its key.
#[derive(Debug)]
pub(super) struct SharedKey {
    pub(super) account: String,
    pub(super) key: Secret<AzureCredential>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let (bucket, dialect, known) = (self.bucket.clone(), self.dialect.clone(), self.known.clone());
        // The client's clock runs while it sends, too.
        let sender = self.inner.connect(&options.clone().with_read_timeout(self.options.request_timeout))?;
        let (client, timeout) = (self.inner.connect(options)?, self.options.read_timeout);
        let patience = self.options.patience;
        Ok(HttpClient::new(Observer { client, sender, timeout, patience, bucket, dialect, known }))
    }
}

#[derive(Debug)]
struct Observer {
    client: HttpClient,
    /// For large bodies, which take their time.
    sender: HttpClient,
    /// Of silence.
    timeout: Duration,
    /// With an upload of which nothing gets through.
    patience: Duration,
    bucket: Arc<str>,
    dialect: Dialect,
    known: Arc<Known>,
}

impl HttpService for Observer {
    fn call<'a, 'b>(
        &'a self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            if !self.known.refuses_conditions() {
                create_only(&mut request, &self.dialect)?;
            }
            if !is_part(&request, &self.dialect) {
                return self.exchange(request).await;
            }
            loop {
                let result = self.exchange(request.clone()).await;
                let Some((cause, class)) = passing() else {
                    self.known.persistence.succeeded();
                    return result;
                };
                let Some(pause) = self.known.persistence.failed(Instant::now(), class, self.patience) else {
                    return result;
                };
                let _ = ASKED.try_with(|call| call.failed(&cause));
                tokio::time::sleep(pause).await;
            }
        })
    }
}

impl Observer {
    /// One request and its answer.
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let _ = ASKED.try_with(|call| call.sent(request.body().content_length() as u64));
        let root = listing(&request, &self.dialect);
        let credentials_from =
            (!is_for(&request, &self.bucket)).then(|| request.uri().host().unwrap_or("nowhere").to_owned());
        let verb = verb(&request, root.is_some(), credentials_from.is_some());
        let count = |outcome| self.known.requests.count(verb, outcome);
        let ours = signed_at(request.headers());
        let ranged = request.headers().contains_key("range");
        let place = if credentials_from.is_some() { String::new() } else { place(&request) };
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(e) => {
                count(Outcome::Failed);
                let answer = Answer::None { text: unanswered(&place, &e) };
                note(Some(Refusal { answer, credentials_from }));
                return Err(e);
            }
        };
        let theirs = answered_at(response.headers());
        if let (Some(date), None) = (theirs, &credentials_from) {
            self.known.on_date(date);
        }
        let status = response.status();
        // A part of a resumable upload was taken, and more may come.
        let taken = status.as_u16() == 308 && matches!(self.dialect, Dialect::Gcs);
        count(if status.is_success() || taken { Outcome::Ok } else { Outcome::Refused });
        if status.is_success() {
            note(None);
            if ranged && status.as_u16() == 200 {
                self.known.on_whole_object();
            }
            return match root {
                Some(root) => whole_listing(response, root).await,
                None => Ok(response),
            };
        }
        if taken {
            note(None);
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let (mut code, message) = said(&String::from_utf8_lossy(&body));
        if code.is_empty()
            && let Some(header) = parts.headers.get("x-ms-error-code")
        {
            code = header.to_str().unwrap_or_default().to_owned();
        }
        let clocks = Clocks { ours, theirs };
        let retry_after = retry_after(&parts.headers, theirs);
        let answer = Answer::Status { status: status.as_u16(), code, message, clocks, retry_after };
        note(Some(Refusal { answer, credentials_from }));
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

impl Observer {
    /// Sends a request, a large one at the pace of a slow line.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let bytes = request.body().content_length() as u64;
        if bytes < LARGE {
            return self.client.execute(request).await;
        }
        let limit = self.timeout + Duration::from_secs(bytes / SLOWEST);
        match tokio::time::timeout(limit, self.sender.execute(request)).await {
            Ok(result) => result,
            Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
        }
    }
}

/// A body that may take longer to send than a silence may last.
const LARGE: u64 = 256 << 10;
/// Bytes a second of the slowest line there is patience with: a part of 8 MiB takes two minutes.
const SLOWEST: u64 = 64 << 10;

/// What every client of a bucket has in common.
pub(super) fn client_options(options: &OpenOptions, endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(options.connect_timeout)
        .with_read_timeout(options.read_timeout)
        .with_timeout(options.request_timeout)
        .with_allow_http(endpoint.is_some_and(|e| e.starts_with("http://")))
        .with_user_agent(HeaderValue::from_static(concat!("holdfast/", env!("CARGO_PKG_VERSION"))))
}

fn create_only(request: &mut HttpRequest, dialect: &Dialect) -> Result<(), HttpError> {
    let completes = match dialect {
        Dialect::S3 => request.method().as_str() == "POST" && has_parameter(request, "uploadId="),
        Dialect::Gcs => false,
        Dialect::Abs(_) => request.method().as_str() == "PUT" && has_parameter(request, "comp=blocklist"),
    };
    if !completes {
        return Ok(());
    }
    request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
    if let Dialect::Abs(Some(shared)) = dialect {
        request.headers_mut().remove("authorization");
        AzureAuthorizer::new(shared.key.expose(), &shared.account)
            .try_authorize(request)
            .map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
    }
    Ok(())
}

fn verb(request: &HttpRequest, lists: bool, credentials: bool) -> Verb {
    match request.method().as_str() {
        _ if credentials => Verb::Credentials,
        _ if lists => Verb::List,
        "GET" => Verb::Get,
        "HEAD" => Verb::Head,
        "PUT" => Verb::Put,
        "DELETE" => Verb::Delete,
        // Deletion in bulk: of S3, and of Azure.
        _ if has_parameter(request, "delete") || has_parameter(request, "comp=batch") => Verb::Delete,
        _ => Verb::Post,
    }
}

/// `20261121T074726Z` of AWS's signatures, `Sat, 21 Nov 2026 07:47:26 GMT` of Azure's.
fn signed_at(headers: &HeaderMap) -> Option<Timestamp> {
    if let Some(date) = headers.get("x-amz-date") {
        return date.to_str().ok()?.parse().ok();
    }
    http_date(headers.get("x-ms-date")?)
}

fn answered_at(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get("date")?)
}

/// What `Retry-After` asks for: seconds, or a date to be compared with the service's own clock.
fn retry_after(headers: &HeaderMap, now: Option<Timestamp>) -> Option<Duration> {
    let value = headers.get("retry-after")?;
    if let Some(seconds) = value.to_str().ok().and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_secs(seconds));
    }
    http_date(value)?.duration_since(now?).try_into().ok()
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(value.as_bytes()).ok()
}

/// The bucket stands in the host or in the path of every request for it, and in none for credentials.
fn is_for(request: &HttpRequest, bucket: &str) -> bool {
    let in_host = request.uri().host().and_then(|host| host.strip_prefix(bucket));
    in_host.is_some_and(|rest| rest.starts_with('.'))
        || request.uri().path().split('/').any(|part| unescaped(part) == bucket)
}

/// A bucket's name with its three characters that some clients write as percent sequences.
fn unescaped(part: &str) -> String {
    part.replace("%2D", "-").replace("%2E", ".").replace("%5F", "_")
}

pub(super) fn has_parameter(request: &HttpRequest, start: &str) -> bool {
    request.uri().query().is_some_and(|q| q.split('&').any(|p| p.starts_with(start)))
}

/// Code and message of an error: XML of the storage services, or JSON of those that give out credentials.
fn said(body: &str) -> (String, String) {
    if body.trim_start().starts_with('{')
        && let Ok(json) = serde_json::from_str::<serde_json::Value>(body)
    {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        return match &json["error"] {
            serde_json::Value::Object(error) => (
                error.get("status").map(text).unwrap_or_default(),
                error.get("message").map(text).unwrap_or_default(),
            ),
            error => (text(error), text(&json["error_description"])),
        };
    }
    // Azure appends the request's id and time, each on a line of its own.
    let message = element(body, "Message");
    (element(body, "Code"), message.lines().next().unwrap_or_default().to_owned())
}

/// The text of `<name>…</name>`, from an error body of a few hundred bytes.
pub(super) fn element(xml: &str, name: &str) -> String {
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

/// Why a client of a bucket could not be made.
pub(super) fn unusable(e: &object_store::Error) -> String {
    let cause = innermost(e);
    match e.to_string().contains("builder error") {
        true => format!(
            "no HTTPS: {cause}; this machine has to have certificates of authorities (Debian: ca-certificates), or \
             SSL_CERT_FILE their file"
        ),
        false => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use object_store::azure::AzureAccessKey;

    use super::*;

    #[test]
    fn the_code_is_found_in_an_error_of_each_service() {
        let code = |body: &str| said(body);
        let pair = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        let s3 = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
        assert_eq!(code(s3), pair("NoSuchBucket", "gone"));
        let azure = "<Error><Code>BlobNotFound</Code><Message>It is not there.\nRequestId:1\nTime:2</Message></Error>";
        assert_eq!(code(azure), pair("BlobNotFound", "It is not there."));
        let oauth = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
        assert_eq!(code(oauth), pair("invalid_grant", "Invalid JWT Signature."));
        let google = r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#;
        assert_eq!(code(google), pair("PERMISSION_DENIED", "no"));
        assert_eq!(code("<html>502 Bad Gateway</html>"), pair("", ""));
    }

    fn request(method: &str, uri: &str) -> HttpRequest {
        let mut request = HttpRequest::new(object_store::client::HttpRequestBody::empty());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = uri.parse().unwrap();
        request
    }

    #[test]
    fn only_the_end_of_an_upload_in_parts_gets_the_condition() {
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new("a2V5").unwrap());
        let shared = SharedKey { account: "acct".into(), key: Secret::new(key) };
        let (signed, unsigned) = (Dialect::Abs(Some(Arc::new(shared))), Dialect::Abs(None));
        for (method, uri, dialect, expected) in [
            ("POST", "http://h/b/k?uploadId=abc", &Dialect::S3, true),
            ("POST", "http://h/b/k?uploads=", &Dialect::S3, false),
            ("PUT", "http://h/b/k?partNumber=1&uploadId=abc", &Dialect::S3, false),
            ("DELETE", "http://h/b/k?uploadId=abc", &Dialect::S3, false),
            ("POST", "http://h/b?delete", &Dialect::S3, false),
            ("POST", "http://h/b/k?uploadId=abc", &Dialect::Gcs, false),
            ("PUT", "http://h/b/k?comp=blocklist", &signed, true),
            ("PUT", "http://h/b/k?comp=blocklist", &unsigned, true),
            ("PUT", "http://h/b/k?comp=block&blockid=x", &signed, false),
        ] {
            let mut request = request(method, uri);
            request.headers_mut().insert("authorization", HeaderValue::from_static("before"));
            create_only(&mut request, dialect).unwrap();
            assert_eq!(request.headers().contains_key("if-none-match"), expected, "{method} {uri}");
            // One signature, which covers the condition.
            let again = expected && matches!(dialect, Dialect::Abs(Some(_)));
            let found: Vec<_> = request.headers().get_all("authorization").iter().collect();
            assert_eq!(found.len(), 1, "{method} {uri}");
            assert_eq!(found[0].to_str().unwrap().starts_with("SharedKey acct:"), again, "{method} {uri}");
        }
        assert!(!format!("{signed:?}").contains("107"), "the key's bytes: {signed:?}");
    }

    #[test]
    fn requests_are_counted_as_they_are_billed() {
        for (method, uri, expected) in [
            ("GET", "http://h/b/k", Verb::Get),
            ("HEAD", "http://h/b/k", Verb::Head),
            ("GET", "http://h/b?list-type=2&prefix=p", Verb::List),
            ("PUT", "http://h/b/k", Verb::Put),
            ("PUT", "http://h/b/k?partNumber=1&uploadId=u", Verb::Put),
            ("POST", "http://h/b/k?uploads=", Verb::Post),
            ("POST", "http://h/b/k?uploadId=u", Verb::Post),
            ("POST", "http://h/b?delete", Verb::Delete),
            ("POST", "http://h/c?restype=container&comp=batch", Verb::Delete),
            ("DELETE", "http://h/b/k?uploadId=u", Verb::Delete),
        ] {
            let request = request(method, uri);
            let lists = listing(&request, &Dialect::S3).is_some();
            assert_eq!(verb(&request, lists, false), expected, "{method} {uri}");
            assert_eq!(verb(&request, lists, true), Verb::Credentials);
        }
    }

    #[test]
    fn both_clocks_are_read_from_the_headers() {
        let headers = |name: &'static str, value| {
            HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))])
        };
        let time: Timestamp = "2026-11-21T07:47:26Z".parse().unwrap();
        assert_eq!(signed_at(&headers("x-amz-date", "20261121T074726Z")), Some(time));
        assert_eq!(signed_at(&headers("x-ms-date", "Sat, 21 Nov 2026 07:47:26 GMT")), Some(time));
        assert_eq!(answered_at(&headers("date", "Sat, 21 Nov 2026 07:47:26 GMT")), Some(time));
        assert_eq!(answered_at(&headers("date", "soon")), None);
        assert_eq!(retry_after(&headers("retry-after", "7"), None), Some(Duration::from_secs(7)));
        let later = headers("retry-after", "Sat, 21 Nov 2026 07:48:26 GMT");
        assert_eq!(retry_after(&later, Some(time)), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&later, None), None);
        assert_eq!(retry_after(&headers("retry-after", "soon"), Some(time)), None);
    }

    #[test]
    fn a_request_for_credentials_is_told_from_one_for_the_bucket() {
        for (uri, expected) in [
            ("http://127.0.0.1:9000/my-bucket/k", true),
            ("https://my-bucket.s3.eu-west-1.amazonaws.com/k", true),
            ("https://storage.googleapis.com/my%2Dbucket/k", true),
            ("http://127.0.0.1:10000/acct/my-bucket/k", true),
            ("http://169.254.169.254/latest/meta-data/iam", false),
            ("https://login.microsoftonline.com/tenant/oauth2/v2.0/token", false),
            ("https://my-bucket2.s3.amazonaws.com/k", false),
        ] {
            assert_eq!(is_for(&request("GET", uri), "my-bucket"), expected, "{uri}");
        }
    }
}
