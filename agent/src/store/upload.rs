//! Creating one object from a stream of unknown length. Memory: three parts for a bucket, or one more than are configured
//! to be on their way, four for one of Google's, a megabyte for an SFTP server, nothing for a file.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use object_store::{MultipartUpload, PutPayload};
use tokio::task::JoinHandle;

use super::remote::Remote;
use super::{Kind, Put, StoreError, file, sftp};

/// An object on its way. Visible only after [`Upload::publish`]; dropped or aborted, it leaves nothing behind.
///
/// In a bucket what fits one part (8 MiB by default) is a single put; more is an upload in parts with two of them by
/// default on the wire while the next one fills (Google takes one after the other). Dropping an unfinished one aborts it in the background, which
/// needs the runtime to live on; after a crash the bucket's own lifecycle rule for incomplete uploads has to do it on
/// S3, and Google and Azure forget the parts after a week.
pub struct Upload {
    sink: Sink,
}

enum Sink {
    File(Option<file::Writer>),
    Remote(Box<Parts>),
    Sftp(Box<sftp::Writer>),
}

struct Parts {
    remote: Arc<Remote>,
    key: String,
    part: usize,
    date: Option<Timestamp>,
    buffer: BytesMut,
    size: u64,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// Oldest first.
    flying: VecDeque<JoinHandle<Result<(), StoreError>>>,
    /// The last bytes written.
    tail: Vec<u8>,
}

impl Upload {
    pub(super) fn to_file(writer: file::Writer) -> Self {
        Self { sink: Sink::File(Some(writer)) }
    }

    pub(super) fn to_server(writer: sftp::Writer) -> Self {
        Self { sink: Sink::Sftp(Box::new(writer)) }
    }

    pub(super) fn to_remote(remote: Arc<Remote>, key: &str, at_most: u64) -> Self {
        let least = at_most.div_ceil(PARTS);
        let part = match remote.sending.part {
            part if part < least => least.next_multiple_of(1 << 20),
            part => part,
        };
        Self {
            sink: Sink::Remote(Box::new(Parts {
                remote,
                key: key.to_owned(),
                part: usize::try_from(part).unwrap_or(usize::MAX),
                date: None,
                buffer: BytesMut::new(),
                size: 0,
                multipart: None,
                flying: VecDeque::new(),
                tail: Vec::new(),
            })),
        }
    }

    /// Its own date, which [`Upload::publish`] gives it.
    pub(super) fn dated(mut self, date: Timestamp) -> Self {
        match &mut self.sink {
            Sink::File(writer) => {
                if let Some(writer) = writer {
                    writer.date = Some(date);
                }
            }
            Sink::Remote(parts) => parts.date = Some(date),
            Sink::Sftp(writer) => writer.date = Some(date),
        }
        self
    }

    /// Appends `body`. Waits while enough is on its way.
    pub async fn write(&mut self, body: Bytes) -> Result<(), StoreError> {
        match &mut self.sink {
            Sink::File(writer) => {
                let Some(mut open) = writer.take() else { return Err(over()) };
                let (open, result) = tokio::task::spawn_blocking(move || {
                    let result = open.write(&body);
                    (open, result)
                })
                .await
                .map_err(|_| over())?;
                *writer = Some(open);
                result
            }
            Sink::Remote(parts) => parts.write(body).await,
            Sink::Sftp(writer) => writer.write(body).await,
        }
    }

    /// Makes the object durable and visible, dated now unless it has a date of its own. [`Kind::Diverged`] if the key exists with other content.
    pub async fn publish(self) -> Result<Put, StoreError> {
        match self.sink {
            Sink::File(mut writer) => {
                let Some(open) = writer.take() else { return Err(over()) };
                tokio::task::spawn_blocking(move || open.publish()).await.map_err(|_| over())?
            }
            Sink::Remote(mut parts) => parts.publish().await,
            Sink::Sftp(writer) => writer.publish().await,
        }
    }

    /// Leaves nothing behind, and waits until that is so.
    pub async fn abort(self) {
        match self.sink {
            Sink::File(_) => {}
            Sink::Remote(mut parts) => {
                if let Some(upload) = parts.stop() {
                    discard(upload).await;
                }
            }
            Sink::Sftp(writer) => writer.abort().await,
        }
    }
}

impl Parts {
    async fn write(&mut self, mut body: Bytes) -> Result<(), StoreError> {
        self.size += body.len() as u64;
        self.tail.extend_from_slice(&body[body.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        while self.buffer.len() + body.len() > self.part {
            let rest = body.split_off(self.part - self.buffer.len());
            self.buffer.extend_from_slice(&body);
            let full = self.buffer.split().freeze();
            self.send(full).await?;
            body = rest;
        }
        self.buffer.extend_from_slice(&body);
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<(), StoreError> {
        if self.flying.len() >= self.remote.sending.flying {
            self.land().await?;
        }
        let upload = match &mut self.multipart {
            Some(upload) => upload,
            none => none.insert(self.remote.start_multipart(&self.key, self.date).await?),
        };
        let put = upload.put_part(PutPayload::from_bytes(part));
        let (remote, key) = (self.remote.clone(), self.key.clone());
        self.flying.push_back(tokio::spawn(async move { remote.call("upload", &key, put).await }));
        Ok(())
    }

    /// Waits for the oldest part on its way.
    async fn land(&mut self) -> Result<(), StoreError> {
        match self.flying.pop_front() {
            Some(part) => part.await.map_err(|_| over())?,
            None => Ok(()),
        }
    }

    async fn publish(&mut self) -> Result<Put, StoreError> {
        let last = self.buffer.split().freeze();
        if self.multipart.is_none() {
            return self.remote.put_dated(&self.key, last, self.date).await;
        }
        if !last.is_empty() {
            self.send(last).await?;
        }
        while !self.flying.is_empty() {
            self.land().await?;
        }
        let Some(mut upload) = self.multipart.take() else { return Err(over()) };
        let done = self.remote.complete(&self.key, &mut upload, self.size, &self.tail).await;
        if !matches!(done, Ok(Put::Created)) {
            discard(upload).await;
        }
        done
    }

    fn stop(&mut self) -> Option<Box<dyn MultipartUpload>> {
        for part in self.flying.drain(..) {
            part.abort();
        }
        self.multipart.take()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(upload) = self.stop()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(discard(upload));
        }
    }
}

/// A failure leaves parts that nobody sees; the bucket's lifecycle rule takes them away.
async fn discard(mut upload: Box<dyn MultipartUpload>) {
    let _ = upload.abort().await;
}

fn over() -> StoreError {
    StoreError::new(Kind::Unavailable, "upload", "object", "the upload was given up")
}

/// The least size of a part, a multiple of the 256 KiB Google asks for. Large enough that a request's fixed cost does not matter, small enough that a lost
/// connection loses little.
const PART: u64 = 8 << 20;
/// S3 allows 10,000 parts; Azure 50,000, Google any number.
const PARTS: u64 = 9_900;
/// Parts on the wire while the next one fills.
const FLYING: usize = 2;
/// How objects are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sending {
    /// The least size of a part.
    pub(super) part: u64,
    /// Parts on the wire while the next one fills.
    pub(super) flying: usize,
    pub(super) storage_class: Option<String>,
}

impl Default for Sending {
    fn default() -> Self {
        Self { part: PART, flying: FLYING, storage_class: None }
    }
}

/// Enough of the end of an LZ4 frame to hold its content checksum.
const TAIL: usize = 16;
