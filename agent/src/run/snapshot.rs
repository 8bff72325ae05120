//! Copies the database file into one object while the pin holds it still. Reads the file, writes the upload.
//!
//! Blocks are read and compressed on as many threads as there are cores and joined in order; memory is a few blocks,
//! whatever the database's size. A backfill that runs meanwhile changes only pages that the WAL of the same index
//! replays, and everything it may write is replicated already: `plan` starts a snapshot under no other condition.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::format::lz4::{self, BLOCK};
use crate::store::{StoreError, Upload};

/// One block of the file, as it is and compressed.
struct Piece {
    plain: Vec<u8>,
    block: Vec<u8>,
}

/// Streams `db` as one LZ4 frame into `upload`; returns its plain length.
///
/// The length is what the file has now. A file that shrinks meanwhile is filled up with zeros: the commit that shrank
/// it is in the WAL and cuts the restored one.
pub(super) async fn stream(db: Arc<File>, upload: &mut Upload) -> Result<u64, Failure> {
    let len = db.metadata().map_err(Failure::Read)?.len();
    let blocks = len.div_ceil(BLOCK as u64);
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(WORKERS).min(blocks);
    let mut lanes: Vec<_> = (0..workers)
        .map(|first| {
            let (send, receive) = mpsc::channel(AHEAD);
            let db = db.clone();
            tokio::task::spawn_blocking(move || lane(&db, len, first, workers, &send));
            receive
        })
        .collect();
    let mut encoder = lz4::Encoder::new();
    let mut out = Vec::with_capacity(PART + 2 * BLOCK);
    for n in 0..blocks {
        let lane = &mut lanes[(n % workers) as usize];
        let piece = lane
            .recv()
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(Failure::Read)?;
        encoder.write_block(&piece.plain, &piece.block, &mut out);
        if out.len() >= PART {
            let full = std::mem::replace(&mut out, Vec::with_capacity(PART + 2 * BLOCK));
            upload.write(Bytes::from(full)).await.map_err(Failure::Write)?;
        }
    }
    encoder.finish(&mut out);
    upload.write(Bytes::from(out)).await.map_err(Failure::Write)?;
    Ok(len)
}

/// Reads and compresses every `step`-th block from `first` on. Ends when nobody takes them any more.
fn lane(db: &File, len: u64, first: u64, step: u64, send: &mpsc::Sender<io::Result<Piece>>) {
    let mut at = first * BLOCK as u64;
    while at < len {
        let piece = read_block(db, at, (len - at).min(BLOCK as u64) as usize).map(|plain| {
            let mut block = Vec::with_capacity(plain.len() / 2);
            lz4::compress_block(&plain, &mut block);
            Piece { plain, block }
        });
        if send.blocking_send(piece).is_err() {
            return;
        }
        at += step * BLOCK as u64;
    }
}

fn read_block(db: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut plain = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match db.read_at(&mut plain[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(plain)
}

/// Why a snapshot stopped.
#[derive(Debug)]
pub(super) enum Failure {
    Read(io::Error),
    Write(StoreError),
}

/// Compressed bytes handed to the store at a time.
const PART: usize = 1 << 20;
/// More threads than this only fill memory: the upload is slower than the compressor.
const WORKERS: u64 = 4;
/// Blocks a thread may be ahead of the upload.
const AHEAD: usize = 2;
