//! Uploads in parts that create and never replace, on Google Cloud Storage. Touches the network.
//!
//! Its multipart uploads, which `object_store` uses, replace what is there and take no condition: "Preconditions are not
//! supported in the requests" (cloud.google.com/storage/docs/multipart-uploads). A resumable upload takes one when it
//! starts, and keeps it to the end (docs/xml-api/post-object-resumable). Its parts go one after the other:
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /BUCKET/KEY`, `x-goog-resumable: start`, `x-goog-if-generation-match: 0` | 201, `Location: SESSION`; 412 if the key exists |
//! | `PUT SESSION`, `Content-Range: bytes 0-8388607/*` | 308, `Range: bytes=0-8388607` |
//! | `PUT SESSION`, `Content-Range: bytes 8388608-9000000/9000001` | 200; 412 if the key has come to exist |
//! | `DELETE SESSION` | 499 |

use std::fmt;
use std::pin::Pin;

use holdfast_config::Secret;
use jiff::Timestamp;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
};
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use object_store::{Error, HeaderValue, MultipartUpload, PutPayload, PutResult, UploadPart};
use tokio::sync::oneshot;

/// Starts sessions in one bucket.
#[derive(Clone)]
pub(super) struct Sessions {
    client: HttpClient,
    credentials: GcpCredentialProvider,
    /// `https://storage.googleapis.com/BUCKET`
    bucket: String,
}

impl Sessions {
    pub(super) fn new(client: HttpClient, credentials: GcpCredentialProvider, bucket: String) -> Self {
        Self { client, credentials, bucket }
    }

    /// Starts an upload to `path`. Where the key exists already, it takes the parts all the same and fails at the end,
    /// as those of the other services do: whoever asked then looks whether the object is its own.
    pub(super) async fn start(
        &self,
        path: &Path,
        date: Option<Timestamp>,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let mut start = request("POST", &format!("{}/{}", self.bucket, escaped(path.as_ref())))?;
        let bearer = format!("Bearer {}", self.credentials.get_credential().await?.bearer);
        for (name, text) in [
            ("authorization", bearer.as_str()),
            ("content-length", "0"),
            ("content-type", "application/octet-stream"),
            ("x-goog-resumable", "start"),
            ("x-goog-if-generation-match", "0"),
        ] {
            start.headers_mut().insert(name, value(text)?);
        }
        if let Some(date) = date {
            start.headers_mut().insert(DATE_HEADER, value(&date.to_string())?);
        }
        let answer = self.client.execute(start).await.map_err(generic)?;
        let state = match answer.status().as_u16() {
            200 | 201 => {
                let location = answer.headers().get("location").and_then(|l| l.to_str().ok());
                State::Open(Secret::new(location.ok_or_else(|| generic(Odd::NoSession))?.to_owned()))
            }
            412 => State::Taken,
            other => return Err(generic(Odd::Status(other))),
        };
        let client = self.client.clone();
        Ok(Box::new(Session { client, state, path: path.to_string(), held: None, sent: 0, turn: None }))
    }
}

/// Prints no credentials.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sessions").field(&self.bucket).finish()
    }
}

struct Session {
    client: HttpClient,
    state: State,
    path: String,
    /// The latest part: only when the next one comes is it known not to be the last, which is sent differently.
    held: Option<PutPayload>,
    /// Bytes of the parts before it.
    sent: u64,
    /// Comes when the part before it has been taken.
    turn: Option<oneshot::Receiver<()>>,
}

#[derive(Debug)]
enum State {
    /// Whoever knows its address may write to it.
    Open(Secret<String>),
    Taken,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("path", &self.path).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Session {
    /// The request that sends `part` behind what has been sent; `total` with the last one.
    fn chunk(&self, uri: &str, part: PutPayload, total: Option<u64>) -> object_store::Result<HttpRequest> {
        let len = part.content_length() as u64;
        let total = total.map_or("*".to_owned(), |total| total.to_string());
        let range = match len.checked_sub(1) {
            Some(last) => format!("bytes {}-{}/{total}", self.sent, self.sent + last),
            None => format!("bytes */{total}"),
        };
        let mut put = request("PUT", uri)?;
        put.headers_mut().insert("content-length", value(&len.to_string())?);
        put.headers_mut().insert("content-range", value(&range)?);
        *put.body_mut() = part.into();
        Ok(put)
    }
}

impl MultipartUpload for Session {
    fn put_part(&mut self, next: PutPayload) -> UploadPart {
        let State::Open(uri) = &self.state else { return Box::pin(async { Ok(()) }) };
        let Some(part) = self.held.replace(next) else { return Box::pin(async { Ok(()) }) };
        let len = part.content_length() as u64;
        let put = self.chunk(uri.expose(), part, None);
        self.sent += len;
        let (client, upto) = (self.client.clone(), self.sent);
        let (done, next) = oneshot::channel();
        let before = self.turn.replace(next);
        Box::pin(async move {
            wait(before).await?;
            let answer = client.execute(put?).await.map_err(generic)?;
            taken(&answer, upto)?;
            // Nobody waits if the upload has been given up.
            let _ = done.send(());
            Ok(())
        })
    }

    fn complete<'a, 'b>(&'a mut self) -> Answer<'b, PutResult>
    where
        'a: 'b,
    {
        Box::pin(self.finish())
    }

    fn abort<'a, 'b>(&'a mut self) -> Answer<'b, ()>
    where
        'a: 'b,
    {
        Box::pin(self.give_up())
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

impl Session {
    async fn finish(&mut self) -> object_store::Result<PutResult> {
        let State::Open(uri) = &self.state else {
            return Err(Error::AlreadyExists { path: self.path.clone(), source: Box::new(Odd::Status(412)) });
        };
        wait(self.turn.take()).await?;
        let last = self.held.take().unwrap_or_default();
        let total = self.sent + last.content_length() as u64;
        let put = self.chunk(uri.expose(), last, Some(total))?;
        let answer = self.client.execute(put).await.map_err(generic)?;
        match answer.status().as_u16() {
            200 | 201 => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            other => Err(generic(Odd::Status(other))),
        }
    }

    async fn give_up(&mut self) -> object_store::Result<()> {
        let State::Open(uri) = &self.state else { return Ok(()) };
        // The answer, 499, says that there is no upload any more.
        self.client.execute(request("DELETE", uri.expose())?).await.map_err(generic)?;
        Ok(())
    }
}

/// The part before this one is in; it is not if that one failed.
async fn wait(before: Option<oneshot::Receiver<()>>) -> object_store::Result<()> {
    match before {
        Some(before) => before.await.map_err(|_| interrupted(Odd::Gap)),
        None => Ok(()),
    }
}

/// The server has everything up to `upto`. It may keep less of a part, and say so.
fn taken(answer: &HttpResponse, upto: u64) -> object_store::Result<()> {
    let status = answer.status().as_u16();
    if status != 308 {
        return Err(generic(Odd::Status(status)));
    }
    let range = answer.headers().get("range").and_then(|r| r.to_str().ok());
    let last = range.and_then(|r| r.rsplit_once('-')).and_then(|(_, last)| last.parse::<u64>().ok());
    match last.and_then(|last| last.checked_add(1)) {
        Some(end) if end == upto => Ok(()),
        end => Err(interrupted(Odd::Short { end: end.unwrap_or(0), upto })),
    }
}

/// An answer that does not belong to the protocol.
#[derive(Debug, thiserror::Error)]
enum Odd {
    #[error("HTTP {0}")]
    Status(u16),
    #[error("the upload has no address")]
    NoSession,
    #[error("the part before it was not taken")]
    Gap,
    #[error("{end} bytes were taken instead of {upto}")]
    Short { end: u64, upto: u64 },
}

/// Worth another try from the beginning.
fn interrupted(what: Odd) -> Error {
    generic(HttpError::new(HttpErrorKind::Interrupted, what))
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "GCS", source: Box::new(source) }
}

fn request(method: &str, uri: &str) -> object_store::Result<HttpRequest> {
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse().map_err(generic)?;
    *request.uri_mut() = uri.parse().map_err(generic)?;
    Ok(request)
}

fn value(text: &str) -> object_store::Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(generic)
}

/// A key as it stands in a URL.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for b in key.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(b))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

const DATE_HEADER: &str = "x-goog-meta-litestream-timestamp";
