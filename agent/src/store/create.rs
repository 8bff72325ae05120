//! Creating objects of a bucket and never replacing one: by the condition on the request, or, where a server does not
//! keep to it, by looking. Touches the network.
//!
//! # The condition
//!
//! Every put and every end of an upload in parts says "only if there is none". That is how a second writer is noticed:
//! both continue from the same state, so they meet at the first key they write. Some servers ignore the condition and
//! answer 200 (Garage, `rclone serve s3`, Ceph in a versioned bucket), some refuse every request that has one.
//!
//! # The question
//!
//! [`Remote::learn`] asks: it creates [`PROBE`] and, if that succeeded, creates it again; one of the two must be
//! refused. The object stays: the next start takes one request, a bucket with versions gets no version more for it
//! unless the condition is ignored, and a credential that may not delete is enough. It lies where neither Litestream
//! looks. While the answer is out, whoever creates something looks.
//!
//! # Looking
//!
//! Before a put: is the key free, and is what we created last in the same folder still what we created? After it: is
//! what is there ours? That takes three requests more for each put, and none is as good as the condition:
//!
//! | two writers | what happens |
//! | --- | --- |
//! | one is done before the other looks | the other notices, and replaces nothing |
//! | both look, then both put | one replaces the other's object; who was replaced notices at its second look if the other was done by then, else with its next put in that folder |
//!
//! So at least one of them notices, and begins anew with a copy of its whole database. Not guaranteed: that the object of
//! the one who notices is still there; and that it notices if it never writes again. The agent that starts next compares
//! the replica's end with its WAL, and then does.
//!
//! Where an object must not be looked at, for want of a permission, the put goes ahead as if the key were free.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutResult};

use super::http::{Answer, Refusal};
use super::probe::Remark;
use super::remote::{Remote, Service};
use super::{Kind, Put, StoreError};

/// What a destination makes of "create only if there is none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalCreate {
    /// It refuses to create what there is.
    Honoured,
    /// It replaces what there is, and says nothing.
    Ignored,
    /// It refuses any request that says so.
    Unsupported,
}

/// What is known of it, and what was created last.
#[derive(Debug, Default)]
pub(super) struct Creation {
    answer: Arc<Mutex<Asked>>,
    /// One question at a time.
    asking: Arc<tokio::sync::Mutex<()>>,
    /// The latest of each folder, the longest untouched first.
    made: Mutex<Vec<Made>>,
}

/// How far the question has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Asked {
    /// Nobody wants to know: the condition is relied on. Commands that only read never ask.
    #[default]
    Not,
    Out,
    Answered(ConditionalCreate),
    /// There will be no answer, for this reason.
    Refused(String),
}

/// An object we created.
#[derive(Debug, Clone)]
struct Made {
    key: String,
    tag: Option<String>,
}

impl Creation {
    /// Of another folder in the same bucket, whose server answers for both.
    pub(super) fn elsewhere(&self) -> Self {
        let (answer, asking) = (self.answer.clone(), self.asking.clone());
        Self { answer, asking, made: Mutex::default() }
    }

    pub(super) fn asked(&self) -> Asked {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, asked: Asked) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Vec<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What we created last in the folder of `key`.
    fn latest(&self, key: &str) -> Option<Made> {
        self.made().iter().find(|made| folder(&made.key) == folder(key)).cloned()
    }

    fn remember(&self, key: &str, tag: Option<String>) {
        let mut all = self.made();
        all.retain(|made| folder(&made.key) != folder(key));
        if all.len() == FOLDERS {
            all.remove(0);
        }
        all.push(Made { key: key.to_owned(), tag });
    }

    fn forget(&self, key: &str) {
        self.made().retain(|made| made.key != key);
    }
}

impl Remote {
    /// Asks once what the destination makes of the condition. An error that may pass leaves the question open: the next
    /// put asks again.
    pub(super) async fn learn(&self) -> Result<ConditionalCreate, StoreError> {
        if self.creation.asked() == Asked::Not {
            self.creation.set(Asked::Out);
        }
        let _turn = self.creation.asking.lock().await;
        if let Asked::Answered(answer) = self.creation.asked() {
            return Ok(answer);
        }
        match self.ask().await {
            Ok(answer) => {
                self.known.on_condition_refused(answer == ConditionalCreate::Unsupported);
                self.creation.set(Asked::Answered(answer));
                Ok(answer)
            }
            Err(e) => {
                if e.kind != Kind::Unavailable {
                    self.creation.set(Asked::Refused(e.to_string()));
                }
                Err(e)
            }
        }
    }

    async fn ask(&self) -> Result<ConditionalCreate, StoreError> {
        let path = self.path("put", PROBE)?;
        // Two are enough: a first one whose answer was lost has created it, and the second is refused.
        for _ in 0..2 {
            let attributes = self.attributes(None);
            let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
            let put = self.bucket.put_opts(&path, Bytes::from_static(PROBE_TEXT).into(), options);
            let (result, refusal) = self.heard("put", PROBE, put).await;
            match result {
                Ok(_) => {}
                Err(_) if is_unsupported(refusal.as_ref()) => return Ok(ConditionalCreate::Unsupported),
                Err(e) => {
                    return match self.explained("put", PROBE, &e, refusal.as_ref()) {
                        e if e.kind == Kind::Diverged => Ok(ConditionalCreate::Honoured),
                        e => Err(e),
                    };
                }
            }
        }
        Ok(ConditionalCreate::Ignored)
    }

    pub(super) fn remarks(&self) -> Vec<Remark> {
        let creation = match self.creation.asked() {
            Asked::Not | Asked::Out | Asked::Answered(ConditionalCreate::Honoured) => None,
            Asked::Answered(how) => Some(Remark::NotCreateOnly(how)),
            Asked::Refused(why) => Some(Remark::CreateOnlyUntold(why)),
        };
        creation.into_iter().chain(self.known.undead().map(Remark::KeepsDeleted)).collect()
    }

    /// Whether it takes looking to create an object.
    async fn looks(&self) -> bool {
        match self.creation.asked() {
            Asked::Not | Asked::Answered(ConditionalCreate::Honoured) => false,
            Asked::Answered(_) | Asked::Refused(_) => true,
            Asked::Out => !matches!(self.learn().await, Ok(ConditionalCreate::Honoured)),
        }
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
        let looks = self.looks().await;
        if looks {
            let (there, ()) = futures_util::try_join!(self.look("put", key), self.look_back("put", key))?;
            if there.is_some() {
                return self.ours_or_diverged(key, &body).await;
            }
        }
        let mode = if self.known.refuses_conditions() { PutMode::Overwrite } else { PutMode::Create };
        let path = self.path("put", key)?;
        let options = PutOptions { mode, attributes: self.attributes(date), ..PutOptions::default() };
        let call = self.bucket.put_opts(&path, body.clone().into(), options);
        match self.call("put", key, call).await {
            Ok(created) if looks => {
                if self.stays("put", key, created).await? {
                    return Ok(Put::Created);
                }
                self.ours_or_diverged(key, &body).await.map(|_| Put::Created)
            }
            Ok(_) => Ok(Put::Created),
            Err(e) if e.kind == Kind::Diverged => self.ours_or_diverged(key, &body).await,
            Err(e) => Err(e),
        }
    }

    /// There is an object: an earlier attempt's if it has this content.
    async fn ours_or_diverged(&self, key: &str, body: &Bytes) -> Result<Put, StoreError> {
        match self.get(key, None).await? == *body {
            true => Ok(Put::AlreadyThere),
            false => Err(self.error(Kind::Diverged, "put", key, "")),
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
        let looks = self.looks().await;
        if looks {
            self.look_back("upload", key).await?;
        }
        // Of the services that speak S3 some ignore the condition on this request alone, Ceph 16 for one: look before.
        if (looks || matches!(self.service, Service::S3))
            && let Some(there) = self.look("upload", key).await?
        {
            return match there.size == size && self.ends_with(key, size, tail).await? {
                true => Ok(Put::AlreadyThere),
                false => Err(self.error(Kind::Diverged, "upload", key, "")),
            };
        }
        match self.call("upload", key, upload.complete()).await {
            Ok(created) => {
                let ours = !looks
                    || self.stays("upload", key, created).await?
                    || self.is_there(key, size, tail).await?;
                if ours { Ok(Put::Created) } else { Err(self.error(Kind::Diverged, "upload", key, "")) }
            }
            // An upload that is not known any more has been completed by an attempt whose answer was lost.
            Err(e) if matches!(e.kind, Kind::Diverged | Kind::NotFound) => {
                if self.is_there(key, size, tail).await? { Ok(Put::AlreadyThere) } else { Err(e) }
            }
            Err(e) => Err(e),
        }
    }

    /// What is there, as far as it may be looked at.
    async fn look(&self, verb: &'static str, key: &str) -> Result<Option<Seen>, StoreError> {
        let path = self.path(verb, key)?;
        match self.call(verb, key, self.bucket.head(&path)).await {
            Ok(meta) => Ok(Some(Seen { size: meta.size, tag: meta.e_tag })),
            // Without the permission to list, AWS answers 403 for an object that is not there.
            Err(e) if matches!(e.kind, Kind::NotFound | Kind::Denied) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What was created last in the folder of `key` has not been replaced since.
    async fn look_back(&self, verb: &'static str, key: &str) -> Result<(), StoreError> {
        let Some(Made { key: last, tag: Some(tag) }) = self.creation.latest(key) else { return Ok(()) };
        if last == key {
            return Ok(());
        }
        match self.look(verb, &last).await? {
            Some(Seen { tag: Some(now), .. }) if now != tag => {
                self.creation.forget(&last);
                Err(self.error(Kind::Diverged, verb, &last, "it was replaced after it was created"))
            }
            // Retention deletes; a server that tells no tags tells nothing.
            Some(_) | None => Ok(()),
        }
    }

    /// What was created a moment ago is what is there. `false` is no proof of the contrary: not every server tells the
    /// same tag both times.
    async fn stays(&self, verb: &'static str, key: &str, created: PutResult) -> Result<bool, StoreError> {
        let seen = self.look(verb, key).await?;
        let Some(seen) = seen else { return Ok(true) };
        let same = seen.tag.is_some() && seen.tag == created.e_tag;
        self.creation.remember(key, seen.tag);
        Ok(same)
    }

    /// An object of this size that ends so is there. The end of an LZ4 frame is the checksum of its whole content.
    async fn is_there(&self, key: &str, size: u64, tail: &[u8]) -> Result<bool, StoreError> {
        let seen = self.look("upload", key).await?;
        Ok(seen.is_some_and(|seen| seen.size == size) && self.ends_with(key, size, tail).await?)
    }

    async fn ends_with(&self, key: &str, size: u64, tail: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(key, Some(size - tail.len() as u64..size)).await? == tail)
    }
}

/// An object as a look shows it.
struct Seen {
    size: u64,
    tag: Option<String>,
}

fn is_unsupported(refusal: Option<&Refusal>) -> bool {
    match refusal {
        Some(Refusal { answer: Answer::Status { status, code, .. }, credentials_from: None }) => {
            *status == 501 || code == "NotImplemented"
        }
        _ => false,
    }
}

fn folder(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The object the question is asked with, relative to the replica's root. Outside of `generations/`, `ltx/` and
/// `0000/` to `0009/`, which is all that either Litestream lists.
pub(super) const PROBE: &str = "holdfast/create-only";
/// For whoever finds it.
pub(super) const PROBE_TEXT: &[u8] =
    b"Holdfast tests with this object that it cannot be replaced by accident. \
    It holds no data; it may be deleted at any time and comes back at the next start.\n";
/// Segments, snapshots and ten levels of LTX files; of earlier generations nothing is written any more.
const FOLDERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_folder_is_remembered_of_the_latest_folders() {
        let creation = Creation::default();
        let latest = |key: &str| creation.latest(key).map(|made| made.key);
        creation.remember("a/1", Some("x".into()));
        creation.remember("b/1", None);
        creation.remember("a/2", None);
        assert_eq!(latest("a/3"), Some("a/2".into()));
        assert_eq!(latest("b/9"), Some("b/1".into()));
        assert_eq!(latest("c/1"), None);
        for n in 0..FOLDERS {
            creation.remember(&format!("f{n}/1"), None);
        }
        assert_eq!(latest("a/3"), None);
        assert_eq!(creation.made().len(), FOLDERS);
        creation.forget("f3/1");
        assert_eq!(latest("f3/2"), None);
    }

    #[test]
    fn a_server_that_knows_no_conditions_is_told_from_one_that_is_busy() {
        let refusal = |status, code: &str| Refusal {
            answer: Answer::Status {
                status,
                code: code.into(),
                message: String::new(),
                clocks: Default::default(),
                retry_after: None,
            },
            credentials_from: None,
        };
        assert!(is_unsupported(Some(&refusal(501, ""))));
        assert!(is_unsupported(Some(&refusal(400, "NotImplemented"))));
        assert!(!is_unsupported(Some(&refusal(503, "SlowDown"))));
        assert!(!is_unsupported(Some(&refusal(412, "PreconditionFailed"))));
        assert!(!is_unsupported(None));
    }
}
