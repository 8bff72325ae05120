//! What a replica of LTX files has done for it: batches, copies, merges, deletions. Each a task that reports once.
//!
//! Pages are read on a blocking thread and handed over in pieces, so that memory does not follow the database; the
//! pin may move once all are read.

mod compact;
mod copy;
mod frames;
mod inspect;
mod merge;

pub(super) use inspect::Found;

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::flights::{Bytesource, Wing, fault};
use crate::format::ltx::{Encoder, HEADER_LEN, Header, Level, Name, PageEncoding, Refused, Trailer};
use crate::plan::database::Event;
use crate::plan::ltx::files::File;
use crate::plan::ltx::replica::{BatchJob, CopyJob, Done, Shipped};
use crate::plan::replica::{Fault, FaultKind};
use crate::source::files::Files;
use crate::source::tail::WalBytes;
use crate::store::{Kind, Store, StoreError, Upload};

impl Wing {
    /// Ships one batch.
    pub(super) async fn batch(self, job: BatchJob, source: Bytesource, files: Files, encoding: PageEncoding) {
        let name = Name { level: Level::ZERO, min: job.txid, max: job.txid };
        let result = self
            .ship(name, job.stamp, job.to - job.from, move |out| {
                frames::batch(&job, &source, &files.db, encoding, out)
            })
            .await;
        self.event(Event::LtxDone { replica: self.replica, done: Done::Batch(result) });
    }

    /// Ships a copy of the whole database.
    pub(super) async fn whole(self, job: CopyJob, wal: WalBytes, files: Files, encoding: PageEncoding) {
        let started = std::time::Instant::now();
        let len = files.db.metadata().map_or(0, |m| m.len()) + job.at;
        let result = self
            .ship(job.name, job.stamp, len, move |out| copy::whole(&job, &wal, &files.db, encoding, out))
            .await;
        if let Ok(Shipped { file, commit }) = &result {
            tracing::info!(
                db = self.db, replica = self.name, level = %file.name.level, txid = %file.name.max, pages = commit,
                size = file.size, elapsed = ?started.elapsed(), "copy written"
            );
        }
        self.event(Event::LtxDone { replica: self.replica, done: Done::Copy(result) });
    }

    /// Deletes files, in order.
    pub(super) async fn delete(self, names: Vec<Name>) {
        let layout = self.store.ltx_layout();
        let keys: Vec<String> = names.iter().map(|n| n.key(layout)).collect();
        let (mut gone, mut failed) = (Vec::with_capacity(names.len()), None);
        match self.store.delete(&keys).await {
            Ok(results) => {
                for (name, (_, result)) in names.iter().zip(results) {
                    match result {
                        Ok(()) => gone.push(*name),
                        Err(error) => failed = failed.or(Some(fault(error))),
                    }
                }
            }
            Err(error) => failed = Some(fault(error)),
        }
        let (db, replica, kept) = (&self.db, &self.name, names.len() - gone.len());
        match &failed {
            None => tracing::info!(db, replica, deleted = gone.len(), "retention enforced"),
            Some(error) => {
                let error = &error.message;
                tracing::warn!(
                    db,
                    replica,
                    deleted = gone.len(),
                    kept,
                    error,
                    "enforce retention; trying again"
                );
            }
        }
        self.event(Event::LtxDone { replica: self.replica, done: Done::Delete(gone, failed) });
    }

    /// Runs `encode`, on some `plain` bytes of pages, on a thread of its own and puts what it makes under `name`.
    async fn ship(
        &self,
        name: Name,
        stamp: Timestamp,
        plain: u64,
        encode: impl FnOnce(&mut Pieces) -> io::Result<Encoded> + Send + 'static,
    ) -> Result<Shipped, Fault> {
        let _passage = self.gate.pass(plain).await;
        let (send, mut receive) = mpsc::channel(AHEAD);
        let encoded = tokio::task::spawn_blocking(move || encode(&mut Pieces { send, piece: Vec::new() }));
        let key = name.key(self.store.ltx_layout());
        let mut object = Object::new(&self.store, key, plain, stamp);
        let mut written = Ok(());
        while let Some(piece) = receive.recv().await {
            written = object.write(piece).await;
            if written.is_err() {
                break;
            }
        }
        drop(receive);
        let encoded = encoded.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        if let Err(error) = written {
            object.abort().await;
            return Err(fault(error));
        }
        let local = |message: String| Fault { kind: FaultKind::Local, message };
        let encoded = match encoded {
            Ok(encoded) if !self.unpinned.load(Ordering::SeqCst) => encoded,
            Ok(_) => {
                object.abort().await;
                return Err(local(format!("copy {}: the database was let go meanwhile", self.db)));
            }
            Err(e) => {
                object.abort().await;
                return Err(local(format!("read {} for {name}: {e}", self.db)));
            }
        };
        match encoded.to {
            Some(to) => self.event(Event::Read { replica: self.replica, to }),
            None => self.event(Event::SnapshotRead { replica: self.replica }),
        }
        let commit = encoded.header.commit;
        match object.publish().await {
            Ok(()) => Ok(Shipped { file: File { name, created: stamp, size: encoded.trailer.size }, commit }),
            Err(e) if e.kind == Kind::Diverged && name.level == Level::SNAPSHOT => {
                match self.earlier(name, &encoded.header).await {
                    Ok(Some(file)) => Ok(Shipped { file, commit }),
                    Ok(None) => Err(fault(e)),
                    Err(error) => Err(fault(error)),
                }
            }
            Err(e) => Err(fault(e)),
        }
    }

    /// The snapshot that stands where one with this `header` was to go, if it is of the same state: an attempt's whose
    /// answer was lost, with another date. Were it not known, a database at rest would be copied again and again.
    async fn earlier(&self, name: Name, header: &Header) -> Result<Option<File>, StoreError> {
        let key = name.key(self.store.ltx_layout());
        let (head, size) = futures_util::try_join!(
            self.store.get(&key, Some(0..HEADER_LEN as u64)),
            compact::listed(&self.store, &key)
        )?;
        let Some(Ok(found)) = head.first_chunk().map(Header::parse) else { return Ok(None) };
        let created = Timestamp::from_millisecond(found.timestamp).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(found.same_state(header).then_some(File { name, created, size }))
    }
}

/// What became of a job's pages.
struct Encoded {
    header: Header,
    trailer: Trailer,
    /// Where a batch ends in the WAL.
    to: Option<u64>,
}

/// Pages on their way from the thread that reads them.
struct Pieces {
    send: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Pieces {
    /// Begins a file.
    fn begin(&mut self, header: Header, encoding: PageEncoding) -> io::Result<Encoder> {
        Encoder::new(header, encoding, &mut self.piece).map_err(refused)
    }

    fn page(&mut self, encoder: &mut Encoder, number: u32, image: &[u8]) -> io::Result<()> {
        encoder.push(number, image, &mut self.piece).map_err(refused)?;
        self.hand_over(PIECE)
    }

    fn finish(&mut self, encoder: Encoder) -> io::Result<Trailer> {
        let mut tail = encoder.tail(None).map_err(refused)?;
        loop {
            let done = tail.write(&mut self.piece);
            self.hand_over(if done.is_some() { 0 } else { PIECE })?;
            if let Some(trailer) = done {
                return Ok(trailer);
            }
        }
    }

    fn hand_over(&mut self, from: usize) -> io::Result<()> {
        if self.piece.len() <= from {
            return Ok(());
        }
        let full =
            std::mem::replace(&mut self.piece, Vec::with_capacity(if from == 0 { 0 } else { from + 4096 }));
        // Whoever took them has given up, and says why itself.
        self.send.blocking_send(full.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// An object whose size shows as it comes: one put while it is small, an upload once it is not.
struct Object<'a> {
    store: &'a Store,
    key: String,
    at_most: u64,
    stamp: Timestamp,
    small: Vec<u8>,
    large: Option<Upload>,
}

impl<'a> Object<'a> {
    /// Of at most about `plain` bytes of pages.
    fn new(store: &'a Store, key: String, plain: u64, stamp: Timestamp) -> Self {
        // What is random does not compress, and every page has a header and an entry of the index.
        let at_most = plain + plain / 16;
        Self { store, key, at_most, stamp, small: Vec::new(), large: None }
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), StoreError> {
        if let Some(upload) = &mut self.large {
            return upload.write(piece).await;
        }
        self.small.extend_from_slice(&piece);
        // A directory takes a piece at no cost; to a bucket it would be a request.
        let most = if self.store.is_local() { PIECE } else { SMALL };
        if self.small.len() > most {
            let upload = self.store.upload_dated(&self.key, self.at_most, self.stamp).await?;
            let small = std::mem::take(&mut self.small);
            self.large.insert(upload).write(small.into()).await?;
        }
        Ok(())
    }

    async fn publish(self) -> Result<(), StoreError> {
        match self.large {
            Some(upload) => upload.publish().await.map(|_| ()),
            None => self.store.put_dated(&self.key, self.small.into(), self.stamp).await.map(|_| ()),
        }
    }

    async fn abort(self) {
        if let Some(upload) = self.large {
            upload.abort().await;
        }
    }
}

/// A file of ours that is there already, as it was sent or by an attempt whose answer was lost.
fn is_there(result: &Result<(), StoreError>) -> bool {
    result.as_ref().is_err_and(|e| e.kind == Kind::Diverged)
}

fn refused(e: Refused) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

/// Encoded bytes handed over at a time, and how many of those may wait.
const PIECE: usize = 1 << 20;
const AHEAD: usize = 2;
/// Up to here an object is put at once; a request more would cost as much as the bytes do.
const SMALL: usize = 6 << 20;
