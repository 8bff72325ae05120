//! A replica below a prefix of a bucket, through `object_store`. Touches the network.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMultipartOptions,
};

use super::answer::{explain, throttled};
use super::create::Creation;
use super::http::{ASKED, Refusal, observed};
use super::known::Known;
use super::pulse::Pulse;
use super::resumable::Sessions;
use super::upload::Sending;
use super::whole::Streams;
use super::{Kind, Object, StoreError};
use crate::format::ltx::Layout;

pub(super) struct Remote {
    pub(super) bucket: Arc<dyn ObjectStore>,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) prefix: String,
    /// `s3://bucket`
    pub(super) place: String,
    pub(super) service: Service,
    pub(super) known: Arc<Known>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) creation: Creation,
    pub(super) sending: Sending,
    streams: Streams,
}

/// Whose bucket it is, where that makes a difference.
#[derive(Clone)]
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
    /// `path` may have slashes at its ends.
    pub(super) fn new(
        bucket: Arc<dyn ObjectStore>,
        path: &str,
        place: String,
        service: Service,
        known: Arc<Known>,
    ) -> Self {
        let prefix = path.trim_matches('/').to_owned();
        let (creation, streams) = (Creation::default(), Streams::default());
        let (pulse, sending) = (Arc::default(), Sending::default());
        Self { bucket, prefix, place, service, known, pulse, creation, sending, streams }
    }

    pub(super) fn sending(self, sending: Sending) -> Self {
        Self { sending, ..self }
    }

    /// The folder of this name, over the same connections; what is known of the server is known of it.
    pub(super) fn folder(&self, name: &str) -> Self {
        let prefix = format!("{}/{name}", self.prefix);
        let (bucket, place, service) = (self.bucket.clone(), self.place.clone(), self.service.clone());
        let creation = self.creation.elsewhere();
        let sending = self.sending.clone();
        Self { creation, sending, ..Self::new(bucket, &prefix, place, service, self.known.clone()) }
    }

    pub(super) fn in_memory() -> Self {
        let bucket = Arc::new(object_store::memory::InMemory::new());
        Self::new(bucket, "", "memory:".into(), Service::S3, Arc::default())
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
        self.known.on_listed(&self.prefix, objects.iter().map(|o| o.key.as_str()));
        Ok(objects)
    }

    pub(super) async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let path = self.path("get", key)?;
        let Some(range) = range else {
            return self.call("get", key, async { self.bucket.get(&path).await?.bytes().await }).await;
        };
        let expected = range.end.saturating_sub(range.start);
        let mut body = None;
        if !self.known.sends_whole_objects() {
            let options =
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            let call = async { self.bucket.get_opts(&path, options).await?.bytes().await };
            body = match self.call("get", key, call).await {
                Ok(bytes) => Some(bytes),
                Err(e) if e.kind == Kind::Invalid && self.known.sends_whole_objects() => None,
                Err(e) => return Err(e),
            };
        }
        let body = match body {
            Some(body) => body,
            None => {
                let open = || async { Ok(self.bucket.get(&path).await?.into_stream()) };
                self.call("get", key, self.streams.read(key, range, open)).await?
            }
        };
        if body.len() as u64 != expected {
            let cause = format!("{} bytes instead of {expected}", body.len());
            return Err(self.error(Kind::Invalid, "get", key, cause));
        }
        Ok(body)
    }

    /// The date in the metadata of an object, if there is one.
    pub(super) async fn date(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let path = self.path("head", key)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.call("head", key, self.bucket.get_opts(&path, options)).await?;
        let date = found.attributes.get(&Attribute::Metadata(self.service.date().into()));
        Ok(date.and_then(|date| date.parse().ok()))
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
                let attributes = self.attributes(date);
                let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
                self.call("upload", key, self.bucket.put_multipart_opts(&path, options)).await
            }
        }
    }

    pub(super) async fn delete(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        let done = match self.service {
            Service::S3 => self.delete_in_bulk(keys, 1000).await?,
            Service::Abs => self.delete_in_bulk(keys, 256).await?,
            Service::Gcs(_) => self.delete_singly(keys).await?,
        };
        let gone = done.iter().filter(|(_, result)| result.is_ok()).map(|(key, _)| key.as_str());
        self.known.on_deleted(&self.prefix, gone);
        Ok(done)
    }

    /// So many keys to a request.
    async fn delete_in_bulk(
        &self,
        keys: &[String],
        at_once: usize,
    ) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        let mut done = Vec::with_capacity(keys.len());
        for keys in keys.chunks(at_once) {
            let paths = keys.iter().map(|key| self.path("delete", key)).collect::<Result<Vec<_>, _>>()?;
            let stream = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
            let deleting = async { Ok(self.bucket.delete_stream(stream).collect::<Vec<_>>().await) };
            let (results, refusal) = self.heard("delete", &keys[0], deleting).await;
            let results = results.unwrap_or_default();
            for (i, key) in keys.iter().enumerate() {
                // One error stands for the whole request when it got no answer for each key.
                let result = match results.get(i).or(results.last()) {
                    Some(Ok(_)) | Some(Err(Error::NotFound { .. })) => Ok(()),
                    Some(Err(e)) => Err(self.explained("delete", key, e, refusal.as_ref())),
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
        let (result, refusal) = self.heard(verb, key, call).await;
        result.map_err(|e| self.explained(verb, key, &e, refusal.as_ref()))
    }

    /// Runs one call, and keeps what the server answered.
    pub(super) async fn heard<T>(
        &self,
        verb: &'static str,
        key: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> (object_store::Result<T>, Option<Refusal>) {
        let asked = self.pulse.begin(verb, &self.object(key));
        let (result, refusal) = ASKED.scope(asked.call(), observed(call)).await;
        let told = result.as_ref().map_err(|e| self.explained(verb, key, e, refusal.as_ref()));
        asked.done(&told);
        (result, refusal)
    }

    pub(super) fn explained(
        &self,
        verb: &'static str,
        key: &str,
        e: &Error,
        refusal: Option<&Refusal>,
    ) -> StoreError {
        let (kind, cause) = explain(e, refusal);
        StoreError { throttled: throttled(refusal), ..self.error(kind, verb, key, cause) }
    }

    /// What an object is created with: its storage class, and its date as its metadata says it, with as many digits as
    /// it needs: `2026-11-21T07:46:47.26Z`.
    pub(super) fn attributes(&self, date: Option<Timestamp>) -> Attributes {
        let name = Attribute::Metadata(self.service.date().into());
        let class = self.sending.storage_class.clone();
        let date = date.map(|date| (name, date.to_string()));
        class.map(|class| (Attribute::StorageClass, class)).into_iter().chain(date).collect()
    }

    pub(super) fn error(
        &self,
        kind: Kind,
        verb: &'static str,
        key: &str,
        cause: impl ToString,
    ) -> StoreError {
        StoreError::new(kind, verb, self.object(key), cause)
    }

    fn object(&self, key: &str) -> String {
        if key.is_empty() { self.to_string() } else { format!("{self}/{key}") }
    }

    pub(super) fn path(&self, verb: &'static str, key: &str) -> Result<Path, StoreError> {
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

/// RFC 3339, to the millisecond.
pub(super) const DATE: &str = "litestream-timestamp";
/// Deletions on the wire where each key is a request.
const DELETES_FLYING: usize = 10;
