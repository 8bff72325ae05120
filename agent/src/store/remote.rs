//! A replica below a prefix of a bucket, through `object_store`. Touches the network.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions,
};

use super::http::{Refusal, innermost, observed};
use super::{Kind, Object, Put, StoreError};

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) bucket: Arc<dyn ObjectStore>,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) prefix: String,
    /// `s3://bucket`
    pub(super) place: String,
}

impl Remote {
    pub(super) fn in_memory() -> Self {
        let bucket = Arc::new(object_store::memory::InMemory::new());
        Self { bucket, prefix: String::new(), place: "memory:".into() }
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let folder = self.path("list", prefix.trim_end_matches('/'))?;
        let call = async {
            let mut objects = Vec::new();
            let mut pages = self.bucket.list(Some(&folder));
            while let Some(meta) = pages.try_next().await? {
                let date = meta.last_modified;
                let nanos = i32::try_from(date.timestamp_subsec_nanos()).unwrap_or_default();
                objects.push((meta.location, meta.size, Timestamp::new(date.timestamp(), nanos)));
            }
            Ok(objects)
        };
        let listed = self.call("list", prefix, call).await.map_err(|e| match e.kind {
            // A folder that is not there lists as empty; what is not found is the bucket, or S3 at this endpoint.
            Kind::NotFound => StoreError { kind: Kind::BucketMissing, ..e },
            _ => e,
        })?;
        let mut objects = Vec::with_capacity(listed.len());
        for (location, size, created) in listed {
            let created = created.map_err(|e| self.error(Kind::Invalid, "list", location.as_ref(), e))?;
            let key = location.as_ref().strip_prefix(&self.prefix).unwrap_or(location.as_ref());
            objects.push(Object { key: key.trim_start_matches('/').to_owned(), size, created });
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    pub(super) async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let path = self.path("get", key)?;
        let expected = range.as_ref().map(|r| r.end.saturating_sub(r.start));
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let call = async { self.bucket.get_opts(&path, options).await?.bytes().await };
        let body = self.call("get", key, call).await?;
        match expected {
            Some(expected) if expected != body.len() as u64 => {
                let cause = format!("{} bytes instead of {expected}", body.len());
                Err(self.error(Kind::Invalid, "get", key, cause))
            }
            _ => Ok(body),
        }
    }

    /// The date in the metadata of an object, if there is one.
    pub(super) async fn date(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let path = self.path("head", key)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.call("head", key, self.bucket.get_opts(&path, options)).await?;
        let date = found.attributes.get(&Attribute::Metadata(DATE.into()));
        Ok(date.and_then(|date| date.parse().ok()))
    }

    pub(super) async fn put(&self, key: &str, body: Bytes) -> Result<Put, StoreError> {
        self.put_dated(key, body, None).await
    }

    pub(super) async fn put_dated(
        &self,
        key: &str,
        body: Bytes,
        date: Option<Timestamp>,
    ) -> Result<Put, StoreError> {
        let path = self.path("put", key)?;
        let options = PutOptions { mode: PutMode::Create, attributes: dated(date), ..PutOptions::default() };
        let call = self.bucket.put_opts(&path, body.clone().into(), options);
        match self.call("put", key, call).await {
            Ok(_) => Ok(Put::Created),
            Err(e) if e.kind == Kind::Diverged && self.get(key, None).await? == body => Ok(Put::AlreadyThere),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn start_multipart(
        &self,
        key: &str,
        date: Option<Timestamp>,
    ) -> Result<Box<dyn MultipartUpload>, StoreError> {
        let path = self.path("upload", key)?;
        let options = PutMultipartOptions { attributes: dated(date), ..PutMultipartOptions::default() };
        self.call("upload", key, self.bucket.put_multipart_opts(&path, options)).await
    }

    /// Makes a multipart upload visible unless the key exists; `size` and `tail` tell whether that is ours.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &mut Box<dyn MultipartUpload>,
        size: u64,
        tail: &[u8],
    ) -> Result<Put, StoreError> {
        match self.call("upload", key, upload.complete()).await {
            Ok(_) => Ok(Put::Created),
            // An upload that is not known any more has been completed by an attempt whose answer was lost.
            Err(e) if matches!(e.kind, Kind::Diverged | Kind::NotFound) => {
                match self.holds(key, size, tail).await? {
                    true => Ok(Put::AlreadyThere),
                    false => Err(e),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// Same size and same end. The end of an LZ4 frame is the checksum of its whole content.
    async fn holds(&self, key: &str, size: u64, tail: &[u8]) -> Result<bool, StoreError> {
        let path = self.path("upload", key)?;
        match self.call("upload", key, self.bucket.head(&path)).await {
            Ok(meta) if meta.size == size => {
                Ok(self.get(key, Some(size - tail.len() as u64..size)).await? == tail)
            }
            Ok(_) => Ok(false),
            Err(e) if e.kind == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn delete(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        let mut done = Vec::with_capacity(keys.len());
        for keys in keys.chunks(DELETE_AT_ONCE) {
            let paths = keys.iter().map(|key| self.path("delete", key)).collect::<Result<Vec<_>, _>>()?;
            let stream = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
            let (results, refusal) = observed(self.bucket.delete_stream(stream).collect::<Vec<_>>()).await;
            for (i, key) in keys.iter().enumerate() {
                // One error stands for the whole request when it got no answer for each key.
                let result = match results.get(i).or(results.last()) {
                    Some(Ok(_)) | Some(Err(Error::NotFound { .. })) => Ok(()),
                    Some(Err(e)) => Err(self.explain("delete", key, e, refusal.as_ref())),
                    None => Err(self.error(Kind::Unavailable, "delete", key, "no answer")),
                };
                done.push((key.clone(), result));
            }
        }
        Ok(done)
    }

    /// Runs one call and explains its failure by what the server answered.
    pub(super) async fn call<T>(
        &self,
        verb: &'static str,
        key: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let (result, refusal) = observed(call).await;
        result.map_err(|e| self.explain(verb, key, &e, refusal.as_ref()))
    }

    fn explain(&self, verb: &'static str, key: &str, e: &Error, refusal: Option<&Refusal>) -> StoreError {
        let by_error = match e {
            Error::NotFound { .. } => Some(Kind::NotFound),
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Some(Kind::Diverged),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Some(Kind::Denied),
            Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
                Some(Kind::Invalid)
            }
            _ => None,
        };
        match refusal {
            Some(Refusal::Status { status, code, message }) => {
                let kind = status_kind(*status, code);
                let cause = match (code.is_empty(), message.is_empty()) {
                    (true, _) => format!("HTTP {status}"),
                    (false, true) => format!("{code} (HTTP {status})"),
                    (false, false) => format!("{code} (HTTP {status}): {message}"),
                };
                // A refused condition needs no more words than its kind has.
                self.error(kind, verb, key, if kind == Kind::Diverged { String::new() } else { cause })
            }
            Some(Refusal::Transport { kind, text }) => {
                let cause = match kind {
                    HttpErrorKind::Timeout => format!("timed out: {text}"),
                    _ => text.clone(),
                };
                self.error(Kind::Unavailable, verb, key, cause)
            }
            None => match by_error {
                Some(kind @ (Kind::NotFound | Kind::Diverged)) => self.error(kind, verb, key, ""),
                Some(kind) => self.error(kind, verb, key, e),
                // One key of a bulk delete.
                None if let Some(code) = bulk_code(e) => self.error(status_kind(200, &code), verb, key, code),
                None if broke_off(e) => self.error(Kind::Unavailable, verb, key, innermost(e)),
                // A success that says nothing we understand: not a bucket, or one that cannot do what is asked.
                None => self.error(Kind::Invalid, verb, key, innermost(e)),
            },
        }
    }

    fn error(&self, kind: Kind, verb: &'static str, key: &str, cause: impl ToString) -> StoreError {
        let object = if key.is_empty() { self.to_string() } else { format!("{self}/{key}") };
        StoreError::new(kind, verb, object, cause)
    }

    fn path(&self, verb: &'static str, key: &str) -> Result<Path, StoreError> {
        let joined = match (self.prefix.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}/{key}", self.prefix),
        };
        Path::parse(joined).map_err(|e| self.error(Kind::Invalid, verb, key, e))
    }
}

/// `s3://bucket/prefix`
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.is_empty() {
            true => f.write_str(&self.place),
            false => write!(f, "{}/{}", self.place, self.prefix),
        }
    }
}

/// The date of an object as its metadata says it, with as many digits as it needs: `2026-11-21T07:46:47.26Z`.
fn dated(date: Option<Timestamp>) -> Attributes {
    date.iter().map(|date| (Attribute::Metadata(DATE.into()), date.to_string())).collect()
}

/// The error code of one key in the answer to a bulk delete, which `object_store` gives as text only.
fn bulk_code(e: &Error) -> Option<String> {
    let text = e.to_string();
    let (_, code) = text.rsplit_once("(code: ")?;
    Some(code.trim_end_matches(')').to_owned())
}

/// The connection failed while the answer was being read, as opposed to an answer that makes no sense.
fn broke_off(e: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<HttpError>() {
            return e.kind() != HttpErrorKind::Decode;
        }
        cause = e.source();
    }
    false
}

/// What an HTTP status and an S3 error code mean for the caller.
fn status_kind(status: u16, code: &str) -> Kind {
    match (status, code) {
        (_, "NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName") => {
            Kind::BucketMissing
        }
        (_, "QuotaExceeded" | "XMinioStorageFull" | "StorageFull") | (507, _) => Kind::Full,
        (_, "SlowDown" | "RequestTimeout" | "Throttling" | "RequestLimitExceeded") => Kind::Unavailable,
        (_, "ExpiredToken" | "InvalidToken" | "RequestTimeTooSkewed") => Kind::Denied,
        (301 | 307 | 308, _) => Kind::BucketMissing,
        (401 | 403, _) | (_, "AccessDenied") => Kind::Denied,
        (404, _) => Kind::NotFound,
        // Two creations at the same moment: the loser may find the key free again, or taken.
        (409, "ConditionalRequestConflict" | "OperationAborted") => Kind::Unavailable,
        (409 | 412, _) => Kind::Diverged,
        (408 | 425 | 429, _) | (500.., _) | (_, "InternalError") => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

/// RFC 3339, to the millisecond; the header is `x-amz-meta-litestream-timestamp`.
pub(super) const DATE: &str = "litestream-timestamp";
/// What one DeleteObjects request takes.
const DELETE_AT_ONCE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_call_for_different_actions_have_different_kinds() {
        for (status, code, kind) in [
            (404, "NoSuchKey", Kind::NotFound),
            (404, "", Kind::NotFound),
            (404, "NoSuchBucket", Kind::BucketMissing),
            (301, "PermanentRedirect", Kind::BucketMissing),
            (403, "AccessDenied", Kind::Denied),
            (403, "SignatureDoesNotMatch", Kind::Denied),
            (400, "ExpiredToken", Kind::Denied),
            (412, "PreconditionFailed", Kind::Diverged),
            (409, "ConditionalRequestConflict", Kind::Unavailable),
            (503, "SlowDown", Kind::Unavailable),
            (429, "", Kind::Unavailable),
            (507, "", Kind::Full),
            (400, "InvalidArgument", Kind::Invalid),
        ] {
            assert_eq!(status_kind(status, code), kind, "{status} {code}");
        }
    }
}
