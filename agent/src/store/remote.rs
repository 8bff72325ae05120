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

use super::http::{Answer, Refusal, innermost, observed};
use super::resumable::Sessions;
use super::{Kind, Object, Put, StoreError};
use crate::format::ltx::Layout;

pub(super) struct Remote {
    pub(super) bucket: Arc<dyn ObjectStore>,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) prefix: String,
    /// `s3://bucket`
    pub(super) place: String,
    pub(super) service: Service,
}

/// Whose bucket it is, where that makes a difference.
pub(super) enum Service {
    S3,
    Gcs(Sessions),
    Abs,
}

impl Service {
    /// How both Litestreams name LTX files here (spec/litestream-v05.md §2.1).
    pub(super) const fn layout(&self) -> Layout {
        match self {
            Self::S3 => Layout::Hex,
            Self::Gcs(_) | Self::Abs => Layout::Folders,
        }
    }

    /// The metadata an LTX file's date is kept in: `x-amz-meta-litestream-timestamp`. Azure takes no hyphens.
    const fn date(&self) -> &'static str {
        match self {
            Self::S3 | Self::Gcs(_) => DATE,
            Self::Abs => "litestreamtimestamp",
        }
    }
}

impl Remote {
    pub(super) fn in_memory() -> Self {
        let bucket = Arc::new(object_store::memory::InMemory::new());
        Self { bucket, prefix: String::new(), place: "memory:".into(), service: Service::S3 }
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
            // A folder that is not there lists as empty; what is not found is the bucket, or the service at this endpoint.
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
        let date = found.attributes.get(&Attribute::Metadata(self.service.date().into()));
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
        let attributes = self.dated(date);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
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
        match &self.service {
            Service::Gcs(sessions) => self.call("upload", key, sessions.start(&path, date)).await,
            Service::S3 | Service::Abs => {
                let attributes = self.dated(date);
                let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
                self.call("upload", key, self.bucket.put_multipart_opts(&path, options)).await
            }
        }
    }

    /// Makes a multipart upload visible unless the key exists; `size` and `tail` tell whether that is ours.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &mut Box<dyn MultipartUpload>,
        size: u64,
        tail: &[u8],
    ) -> Result<Put, StoreError> {
        // Of the services that speak S3 some ignore the condition on this request, Ceph 16 for one: look before. What
        // cannot be looked at, for want of a permission, is left to the condition.
        if matches!(self.service, Service::S3)
            && let Ok(Some(size_there)) = self.size_of(key).await
        {
            return match size_there == size && self.ends_with(key, size, tail).await? {
                true => Ok(Put::AlreadyThere),
                false => Err(self.error(Kind::Diverged, "upload", key, "")),
            };
        }
        match self.call("upload", key, upload.complete()).await {
            Ok(_) => Ok(Put::Created),
            // An upload that is not known any more has been completed by an attempt whose answer was lost.
            Err(e) if matches!(e.kind, Kind::Diverged | Kind::NotFound) => {
                match self.size_of(key).await? == Some(size) && self.ends_with(key, size, tail).await? {
                    true => Ok(Put::AlreadyThere),
                    false => Err(e),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// The size of an object, if it exists.
    async fn size_of(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let path = self.path("upload", key)?;
        match self.call("upload", key, self.bucket.head(&path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(e) if e.kind == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether an object of this size ends so. The end of an LZ4 frame is the checksum of its whole content.
    async fn ends_with(&self, key: &str, size: u64, tail: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(key, Some(size - tail.len() as u64..size)).await? == tail)
    }

    pub(super) async fn delete(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        let mut done = Vec::with_capacity(keys.len());
        let at_once = match self.service {
            Service::S3 => 1000,
            Service::Abs => 256,
            // Each key is a request of its own.
            Service::Gcs(_) => return self.delete_singly(keys).await,
        };
        for keys in keys.chunks(at_once) {
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

    /// One request for each key, a few at a time; they are begun in order.
    async fn delete_singly(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        let mut keyed = Vec::with_capacity(keys.len());
        for key in keys {
            keyed.push((key.clone(), self.path("delete", key)?));
        }
        let requests = keyed.into_iter().map(|(key, path)| async move {
            let done = match self.call("delete", &key, self.bucket.delete(&path)).await {
                Err(e) if e.kind == Kind::NotFound => Ok(()),
                done => done,
            };
            (key, done)
        });
        Ok(futures_util::stream::iter(requests).buffered(DELETES_FLYING).collect().await)
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
            Some(Refusal { answer: Answer::Status { status, code, message }, credentials_from }) => {
                let mut cause = match (code.is_empty(), message.is_empty()) {
                    (true, true) => format!("HTTP {status}"),
                    (true, false) => format!("HTTP {status}: {message}"),
                    (false, true) => format!("{code} (HTTP {status})"),
                    (false, false) => format!("{code} (HTTP {status}): {message}"),
                };
                let mut kind = status_kind(*status, code);
                if let Some(host) = credentials_from {
                    cause = format!("no credentials from {host}: {cause}");
                    kind = if kind == Kind::Unavailable { kind } else { Kind::Denied };
                }
                // A refused condition needs no more words than its kind has.
                self.error(kind, verb, key, if kind == Kind::Diverged { String::new() } else { cause })
            }
            Some(Refusal { answer: Answer::None { kind, text }, credentials_from }) => {
                let mut cause = match kind {
                    HttpErrorKind::Timeout => format!("timed out: {text}"),
                    _ => text.clone(),
                };
                if let Some(host) = credentials_from {
                    cause = format!("no credentials from {host}: {cause}");
                }
                self.error(Kind::Unavailable, verb, key, cause)
            }
            None => match by_error {
                Some(kind @ (Kind::NotFound | Kind::Diverged)) => self.error(kind, verb, key, ""),
                Some(kind) => self.error(kind, verb, key, e),
                // One key of a bulk delete.
                None if let Some(code) = bulk_code(e) => {
                    let status = code.parse().unwrap_or(200);
                    self.error(status_kind(status, &code), verb, key, code)
                }
                None if broke_off(e) => self.error(Kind::Unavailable, verb, key, innermost(e)),
                // A success that says nothing we understand: not a bucket, or one that cannot do what is asked.
                None => self.error(Kind::Invalid, verb, key, innermost(e)),
            },
        }
    }

    /// The date of an object as its metadata says it, with as many digits as it needs: `2026-11-21T07:46:47.26Z`.
    fn dated(&self, date: Option<Timestamp>) -> Attributes {
        let name = Attribute::Metadata(self.service.date().into());
        date.iter().map(|date| (name.clone(), date.to_string())).collect()
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

/// As it is displayed: the clients below would print their credentials.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.to_string()).finish()
    }
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

/// What an HTTP status and a service's error code mean for the caller.
fn status_kind(status: u16, code: &str) -> Kind {
    match (status, code) {
        (_, "NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName") => {
            Kind::BucketMissing
        }
        (_, "ContainerNotFound" | "ContainerBeingDeleted" | "InvalidResourceName") => Kind::BucketMissing,
        (_, "QuotaExceeded" | "XMinioStorageFull" | "StorageFull") | (507, _) => Kind::Full,
        (_, "SlowDown" | "RequestTimeout" | "Throttling" | "RequestLimitExceeded") => Kind::Unavailable,
        (_, "RateLimitExceeded" | "UserRateLimitExceeded" | "ServerBusy" | "OperationTimedOut") => {
            Kind::Unavailable
        }
        (_, "ExpiredToken" | "InvalidToken" | "RequestTimeTooSkewed" | "InvalidAuthenticationInfo") => {
            Kind::Denied
        }
        // A token that may create and not overwrite met an object; blocks of an upload went with another's commit.
        (_, "UnauthorizedBlobOverwrite" | "InvalidBlockList") => Kind::Diverged,
        // What a rule of the container keeps from being deleted, or from being asked for by this account.
        (409, "BlobImmutableDueToPolicy" | "PublicAccessNotPermitted") => Kind::Denied,
        (301 | 307 | 308, _) => Kind::BucketMissing,
        (401 | 403, _) | (_, "AccessDenied") => Kind::Denied,
        (404, _) => Kind::NotFound,
        // Two creations at the same moment: the loser may find the key free again, or taken.
        (409, "ConditionalRequestConflict" | "OperationAborted") => Kind::Unavailable,
        (409 | 412, _) => Kind::Diverged,
        // 410: the session of a resumable upload is over.
        (408 | 410 | 425 | 429, _) | (500.., _) | (_, "InternalError") => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

/// RFC 3339, to the millisecond.
pub(super) const DATE: &str = "litestream-timestamp";
/// Deletions on the wire where each key is a request.
const DELETES_FLYING: usize = 10;

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
            // Google
            (403, "RateLimitExceeded", Kind::Unavailable),
            (401, "AuthenticationRequired", Kind::Denied),
            (400, "InvalidBucketName", Kind::BucketMissing),
            (412, "", Kind::Diverged),
            // Azure
            (404, "BlobNotFound", Kind::NotFound),
            (404, "ContainerNotFound", Kind::BucketMissing),
            (409, "ContainerBeingDeleted", Kind::BucketMissing),
            (409, "BlobAlreadyExists", Kind::Diverged),
            (412, "ConditionNotMet", Kind::Diverged),
            (403, "AuthenticationFailed", Kind::Denied),
            (403, "AuthorizationPermissionMismatch", Kind::Denied),
            (403, "UnauthorizedBlobOverwrite", Kind::Diverged),
            (409, "BlobImmutableDueToPolicy", Kind::Denied),
            (503, "ServerBusy", Kind::Unavailable),
        ] {
            assert_eq!(status_kind(status, code), kind, "{status} {code}");
        }
    }
}
