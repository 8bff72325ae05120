//! What works at a destination: each thing the agent asks of one, tried with an object of its own. Values, and one
//! function that touches the network.

use bytes::Bytes;
use jiff::Timestamp;

use super::create::{PROBE, PROBE_TEXT};
use super::{Backend, ConditionalCreate, Kind, Store, StoreError};

/// What was tried and how it went, in the order it was tried. What was not tried, because something before it failed,
/// has that failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub put: Result<(), StoreError>,
    pub conditional_create: Result<ConditionalCreate, StoreError>,
    pub get: Result<(), StoreError>,
    pub ranged_reads: Result<RangedReads, StoreError>,
    pub list: Result<Listed, StoreError>,
    pub delete: Result<Deleted, StoreError>,
    /// The service's own clock at its latest answer, if it says so. Compare it at once.
    pub server_time: Option<Timestamp>,
}

/// What a destination makes of a request for a part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangedReads {
    Honoured,
    /// It sends the whole object; what is not needed is read and dropped.
    Ignored,
}

/// What became of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    Complete,
    /// It lacks an object that is there.
    Incomplete,
}

/// What became of a deletion that was answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Gone,
    /// The object is still there: retention frees nothing.
    Kept,
}

/// What should be known of a destination that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Answers success and replaces, or refuses the condition.
    NotCreateOnly(ConditionalCreate),
    /// Could not be found out, for this reason.
    CreateOnlyUntold(String),
    /// Deletions are answered with success and this is still there.
    KeepsDeleted(String),
}

/// A sentence for the log and the status.
impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotCreateOnly(how) => {
                let how = match how {
                    ConditionalCreate::Unsupported => "refuses",
                    ConditionalCreate::Ignored | ConditionalCreate::Honoured => "ignores",
                };
                write!(
                    f,
                    "the destination {how} \"create only if absent\": a second writer is looked for before and after each \
                     upload instead, and may have replaced an object before it is noticed"
                )
            }
            Self::CreateOnlyUntold(why) => write!(
                f,
                "it is not known whether the destination honours \"create only if absent\"; a second writer is looked \
                 for before and after each upload, too: {why}"
            ),
            Self::KeepsDeleted(key) => write!(
                f,
                "the destination answers deletions with success and deletes nothing ({key} is still there): retention \
                 frees no space"
            ),
        }
    }
}

impl Store {
    /// Tries everything. Leaves nothing behind where it may delete; where it may not, one small object.
    pub async fn probe(&self) -> Probe {
        let body = Bytes::from_static(PROBE_TEXT);
        let put = self.put(PROBE, body.clone()).await.map(|_| ());
        let got = match &put {
            // A credential that may only read reads what an agent left there.
            Err(e) if !matches!(e.kind, Kind::Denied | Kind::Diverged) => Err(e.clone()),
            _ => self.get(PROBE, None).await,
        };
        let conditional_create = match &put {
            Ok(()) => self.learn().await,
            Err(e) => Err(e.clone()),
        };
        let ranged_reads = match &got {
            Ok(_) => self.get(PROBE, Some(3..7)).await.and_then(|part| self.judge_range(&part)),
            Err(e) => Err(e.clone()),
        };
        let list = self.list(FOLDER).await.map(|found| {
            match got.is_err() || found.iter().any(|o| o.key == PROBE && o.size == body.len() as u64) {
                true => Listed::Complete,
                false => Listed::Incomplete,
            }
        });
        let delete = match &put {
            Ok(()) => self.try_delete().await,
            Err(e) => Err(e.clone()),
        };
        let server_time = match &self.backend {
            Backend::File(_) | Backend::Sftp(_) => None,
            Backend::Remote(remote) => remote.known.server_time(),
        };
        Probe { put, conditional_create, get: got.map(|_| ()), ranged_reads, list, delete, server_time }
    }

    fn judge_range(&self, part: &[u8]) -> Result<RangedReads, StoreError> {
        if part != &PROBE_TEXT[3..7] {
            let object = format!("{self}/{PROBE}");
            return Err(StoreError::new(
                Kind::Invalid,
                "get",
                object,
                "a range holds other bytes than it should",
            ));
        }
        match &self.backend {
            Backend::Remote(remote) if remote.known.sends_whole_objects() => Ok(RangedReads::Ignored),
            Backend::Remote(_) | Backend::File(_) | Backend::Sftp(_) => Ok(RangedReads::Honoured),
        }
    }

    async fn try_delete(&self) -> Result<Deleted, StoreError> {
        let key = PROBE.to_owned();
        for (_, result) in self.delete(std::slice::from_ref(&key)).await? {
            result?;
        }
        match self.get(&key, None).await {
            Ok(_) => Ok(Deleted::Kept),
            // Without the right to list, S3 does not say that what is asked for is not there.
            Err(e) if matches!(e.kind, Kind::NotFound | Kind::Denied) => Ok(Deleted::Gone),
            Err(e) => Err(e),
        }
    }

    /// What should be known of this destination, as far as it has shown.
    pub fn remarks(&self) -> Vec<Remark> {
        match &self.backend {
            Backend::File(_) => Vec::new(),
            Backend::Remote(remote) => remote.remarks(),
            Backend::Sftp(sftp) => sftp.remarks(),
        }
    }
}

const FOLDER: &str = "holdfast/";
