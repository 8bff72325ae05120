//! What each request of the XML API does to the bucket. The objects are in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyMode, CopyOptions, Error, GetOptions, GetRange, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};

use super::token::PublicKey;
use super::wire::{Answer, Request, decoded};

pub(super) struct Objects {
    bucket: String,
    key: PublicKey,
    store: InMemory,
    uploads: Mutex<Uploads>,
}

#[derive(Default)]
struct Uploads {
    next: u64,
    parts: BTreeMap<String, (Attributes, BTreeMap<u32, Bytes>)>,
    sessions: BTreeMap<String, (Attributes, PutMode, Vec<u8>)>,
}

impl Objects {
    pub(super) fn new(bucket: &str, key: PublicKey) -> Self {
        Self { bucket: bucket.into(), key, store: InMemory::new(), uploads: Mutex::default() }
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        let path = request.path();
        let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        // Who knows a session's address may write to it.
        if let Some(session) = request.parameter("upload_id") {
            return self.session(request, key, &session);
        }
        if !self.key.accepts(request.header("authorization")) {
            return failure(401, "AuthenticationRequired", "Authentication required.");
        }
        if bucket != self.bucket {
            return failure(404, "NoSuchBucket", "The specified bucket does not exist.");
        }
        let upload = request.parameter("uploadId");
        match (request.method.as_str(), key.is_empty(), upload) {
            ("GET", true, _) => self.list(request),
            ("GET" | "HEAD", false, _) => self.get(request, key),
            ("POST", false, None) if request.parameter("uploads").is_some() => self.initiate(request, key),
            ("POST", false, None) if request.header("x-goog-resumable") == Some("start") => {
                self.start(request, key)
            }
            (_, false, Some(_)) if request.header("x-goog-if-generation-match").is_some() => {
                failure(400, "InvalidArgument", "Preconditions are not supported in multipart uploads.")
            }
            ("PUT", false, Some(id)) => self.part(request, &id),
            ("POST", false, Some(id)) => self.complete(request, key, &id),
            ("DELETE", false, Some(id)) => {
                self.uploads().parts.remove(&id);
                Answer::new(204, "")
            }
            ("PUT", false, None) if request.header("x-goog-copy-source").is_some() => self.copy(request, key),
            ("PUT", false, None) => {
                self.put(key, request.body.clone().into(), attributes(request), mode(request))
            }
            ("DELETE", false, None) => match self.meta(key) {
                Ok(_) => {
                    now(self.store.delete(&place(key))).expect("it is there");
                    Answer::new(204, "")
                }
                Err(e) => failed(&e),
            },
            _ => failure(405, "MethodNotAllowed", "No."),
        }
    }

    fn put(&self, key: &str, body: Bytes, attributes: Attributes, mode: PutMode) -> Answer {
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        match now(self.store.put_opts(&place(key), body.into(), options)) {
            Ok(result) => {
                let tag = result.e_tag.unwrap_or_default();
                Answer::new(200, "").header("etag", &tag).header("x-goog-generation", generation(&tag))
            }
            Err(e) => failed(&e),
        }
    }

    fn get(&self, request: &Request, key: &str) -> Answer {
        let tag_in = |name| request.header(name).map(str::to_owned);
        let meta = match self.meta(key) {
            Ok(meta) => meta,
            Err(e) => return failed(&e),
        };
        let date = |name| {
            let text = request.header(name)?;
            jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp().as_second())
        };
        let at = modified(&meta).as_second();
        if request.header("if-match").is_none() && date("if-unmodified-since").is_some_and(|date| at > date) {
            return failure(412, "PreconditionFailed", "It has been modified.");
        }
        if request.header("if-none-match").is_none()
            && date("if-modified-since").is_some_and(|date| at <= date)
        {
            return Answer::new(304, "");
        }
        let options = GetOptions {
            head: request.method == "HEAD",
            range: request.header("range").and_then(range),
            if_match: tag_in("if-match"),
            if_none_match: tag_in("if-none-match"),
            ..GetOptions::default()
        };
        let partial = options.range.is_some();
        let found = match now(self.store.get_opts(&place(key), options)) {
            Ok(found) => found,
            Err(e) => return failed(&e),
        };
        let tag = found.meta.e_tag.clone().unwrap_or_default();
        if request.parameter("generation").is_some_and(|g| g != generation(&tag)) {
            return failure(404, "NoSuchKey", "The specified key does not exist.");
        }
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let mut answer = Answer::new(if partial { 206 } else { 200 }, "")
            .header("etag", &tag)
            .header("x-goog-generation", generation(&tag))
            .header("last-modified", http_date(&meta));
        for (name, value) in &found.attributes {
            let name = match name {
                Attribute::ContentType => "content-type".to_owned(),
                Attribute::CacheControl => "cache-control".to_owned(),
                Attribute::ContentDisposition => "content-disposition".to_owned(),
                Attribute::ContentEncoding => "content-encoding".to_owned(),
                Attribute::ContentLanguage => "content-language".to_owned(),
                Attribute::StorageClass => "x-goog-storage-class".to_owned(),
                Attribute::Metadata(name) => format!("x-goog-meta-{name}"),
                _ => continue,
            };
            answer = answer.header(&name, value.as_ref());
        }
        if partial {
            answer = answer
                .header("content-range", format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size));
        }
        answer.length = Some(range.end - range.start);
        if request.method == "GET" {
            answer.body = now(found.bytes()).expect("bytes in memory").to_vec();
        }
        answer
    }

    fn list(&self, request: &Request) -> Answer {
        let parameter = |name| request.parameter(name).unwrap_or_default();
        let (prefix, delimiter) = (parameter("prefix"), parameter("delimiter"));
        let most = parameter("max-keys").parse().unwrap_or(1000).min(1000);
        // A continuation names the last entry of the page before.
        let after = request.parameter("continuation-token").unwrap_or_else(|| parameter("start-after"));
        let mut all: Vec<_> = now(self.store.list(None).try_collect::<Vec<_>>()).expect("a list in memory");
        all.sort_by(|a, b| a.location.cmp(&b.location));
        let mut entries: Vec<(String, Option<ObjectMeta>)> = Vec::new();
        for meta in all {
            let key = meta.location.to_string();
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            match rest.find(&delimiter).filter(|_| !delimiter.is_empty()) {
                Some(at) => {
                    let folder = format!("{prefix}{}", &rest[..at + delimiter.len()]);
                    if entries.last().is_none_or(|(last, _)| *last != folder) {
                        entries.push((folder, None));
                    }
                }
                None => entries.push((key, Some(meta))),
            }
        }
        entries.retain(|(name, _)| *name > after);
        let truncated = entries.len() > most;
        entries.truncate(most);
        let mut xml = format!("<Name>{}</Name><IsTruncated>{truncated}</IsTruncated>", self.bucket);
        if truncated && let Some((last, _)) = entries.last() {
            xml.push_str(&format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(last)));
        }
        for (name, meta) in &entries {
            let name = escaped(name);
            match meta {
                None => xml.push_str(&format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")),
                Some(meta) => xml.push_str(&format!(
                    "<Contents><Key>{name}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                    modified(meta),
                    meta.e_tag.as_deref().unwrap_or_default(),
                    meta.size
                )),
            }
        }
        let body = format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>{xml}</ListBucketResult>"
        );
        Answer::new(200, body).header("content-type", "application/xml; charset=UTF-8")
    }

    fn copy(&self, request: &Request, key: &str) -> Answer {
        let source = decoded(request.header("x-goog-copy-source").unwrap_or_default());
        let from = source.trim_start_matches('/').split_once('/').map_or("", |(_, from)| from);
        let mode = match mode(request) {
            PutMode::Create => CopyMode::Create,
            _ => CopyMode::Overwrite,
        };
        let options = CopyOptions { mode, ..CopyOptions::default() };
        match now(self.store.copy_opts(&place(from), &place(key), options)) {
            Ok(()) => Answer::new(200, "<CopyObjectResult></CopyObjectResult>"),
            Err(e) => failed(&e),
        }
    }

    fn initiate(&self, request: &Request, key: &str) -> Answer {
        let mut uploads = self.uploads();
        uploads.next += 1;
        let id = format!("multipart-{}", uploads.next);
        uploads.parts.insert(id.clone(), (attributes(request), BTreeMap::new()));
        Answer::new(
            200,
            format!(
                "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
                self.bucket,
                escaped(key)
            ),
        )
    }

    fn part(&self, request: &Request, id: &str) -> Answer {
        let number = request.parameter("partNumber").and_then(|n| n.parse().ok()).unwrap_or(0);
        match self.uploads().parts.get_mut(id) {
            Some((_, parts)) => {
                parts.insert(number, request.body.clone().into());
                Answer::new(200, "").header("etag", format!("\"part-{number}\""))
            }
            None => failure(404, "NoSuchUpload", "The requested upload was not found."),
        }
    }

    fn complete(&self, request: &Request, key: &str, id: &str) -> Answer {
        let Some((attributes, parts)) = self.uploads().parts.remove(id) else {
            return failure(404, "NoSuchUpload", "The requested upload was not found.");
        };
        let listed = String::from_utf8_lossy(&request.body).into_owned();
        let numbers = listed.split("<PartNumber>").skip(1);
        let numbers = numbers.filter_map(|n| n.split('<').next().and_then(|n| n.parse::<u32>().ok()));
        let whole: Vec<u8> = numbers.flat_map(|n| parts.get(&n).cloned().unwrap_or_default()).collect();
        let put = self.put(key, whole.into(), attributes, PutMode::Overwrite);
        let tag = put.headers.iter().find(|(n, _)| n == "etag").map(|(_, v)| v.clone()).unwrap_or_default();
        Answer {
            body: format!(
                "<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
            )
            .into(),
            ..put
        }
    }

    fn start(&self, request: &Request, key: &str) -> Answer {
        if mode(request) == PutMode::Create && self.meta(key).is_ok() {
            return failure(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold.",
            );
        }
        let mut uploads = self.uploads();
        uploads.next += 1;
        let id = format!("session-{}", uploads.next);
        uploads.sessions.insert(id.clone(), (attributes(request), mode(request), Vec::new()));
        let host = request.header("host").unwrap_or_default();
        let path = request.target.split('?').next().unwrap_or_default();
        Answer::new(201, "").header("location", format!("http://{host}{path}?upload_id={id}"))
    }

    /// A part of a resumable upload: `bytes A-B/*`, or `bytes A-B/N` with the last one.
    fn session(&self, request: &Request, key: &str, id: &str) -> Answer {
        let mut uploads = self.uploads();
        if request.method == "DELETE" {
            return Answer::new(if uploads.sessions.remove(id).is_some() { 499 } else { 404 }, "");
        }
        let Some((_, _, bytes)) = uploads.sessions.get_mut(id) else {
            return failure(404, "NoSuchUpload", "The session does not exist.");
        };
        let range =
            request.header("content-range").and_then(|r| r.strip_prefix("bytes ")).unwrap_or_default();
        let (span, total) = range.split_once('/').unwrap_or_default();
        let first = span.split('-').next().and_then(|n| n.parse::<usize>().ok());
        let last = total != "*";
        if first.is_some_and(|first| first > bytes.len())
            || !(last || request.body.len().is_multiple_of(256 << 10))
        {
            return failure(503, "Unavailable", "Parts come in order, and in multiples of 256 KiB.");
        }
        // Bytes that are there already are ignored (docs/performing-resumable-uploads).
        let known = first.map_or(0, |first| bytes.len() - first).min(request.body.len());
        bytes.extend_from_slice(&request.body[known..]);
        if !last {
            let end = bytes.len() - 1;
            return Answer::new(308, "").header("range", format!("bytes=0-{end}"));
        }
        if total.parse() != Ok(bytes.len()) {
            return failure(400, "InvalidArgument", "The total is another.");
        }
        let Some((attributes, mode, bytes)) = uploads.sessions.remove(id) else {
            return Answer::new(404, "");
        };
        self.put(key, bytes.into(), attributes, mode)
    }

    fn meta(&self, key: &str) -> object_store::Result<ObjectMeta> {
        now(self.store.head(&place(key)))
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store in memory answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory does not wait")
}

/// The key as it is: its percent signs are its own.
fn place(key: &str) -> Path {
    Path::parse(key).unwrap_or_else(|_| key.into())
}

fn mode(request: &Request) -> PutMode {
    match request.header("x-goog-if-generation-match") {
        None => PutMode::Overwrite,
        Some("0") => PutMode::Create,
        Some(generation) => {
            let tag = generation.parse::<u64>().ok().and_then(|g| g.checked_sub(1)).unwrap_or(u64::MAX);
            PutMode::Update(UpdateVersion { e_tag: Some(format!("\"{tag}\"")), version: None })
        }
    }
}

/// Generations are above zero; zero is that of an object that is not there.
fn generation(tag: &str) -> String {
    tag.trim_matches('"').parse::<u64>().map_or(0, |tag| tag + 1).to_string()
}

fn attributes(request: &Request) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, key) in [
        ("content-type", Attribute::ContentType),
        ("cache-control", Attribute::CacheControl),
        ("content-disposition", Attribute::ContentDisposition),
        ("content-encoding", Attribute::ContentEncoding),
        ("content-language", Attribute::ContentLanguage),
        ("x-goog-storage-class", Attribute::StorageClass),
    ] {
        if let Some(value) = request.header(name) {
            attributes.insert(key, value.to_owned().into());
        }
    }
    for (name, value) in request.headers_of("x-goog-meta-") {
        attributes.insert(Attribute::Metadata(name.into()), value.into());
    }
    attributes
}

/// `bytes=1-2`, `bytes=1-`, `bytes=-2`.
fn range(text: &str) -> Option<GetRange> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => Some(GetRange::Bounded(first..last + 1)),
        (Ok(first), Err(_)) => Some(GetRange::Offset(first)),
        (Err(_), Ok(last)) => Some(GetRange::Suffix(last)),
        (Err(_), Err(_)) => None,
    }
}

fn modified(meta: &ObjectMeta) -> Timestamp {
    let nanos = i32::try_from(meta.last_modified.timestamp_subsec_millis() * 1_000_000).unwrap_or_default();
    Timestamp::new(meta.last_modified.timestamp(), nanos).unwrap_or_default()
}

fn http_date(meta: &ObjectMeta) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&modified(meta)).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn failed(e: &Error) -> Answer {
    match e {
        Error::NotFound { .. } => failure(404, "NoSuchKey", "The specified key does not exist."),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => failure(
            412,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
        ),
        Error::NotModified { .. } => Answer::new(304, ""),
        other => failure(416, "InvalidRange", &other.to_string()),
    }
}

fn failure(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Answer::new(status, body).header("content-type", "application/xml; charset=UTF-8")
}
