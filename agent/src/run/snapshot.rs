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
use crate::format::note::Note;
use crate::store::{StoreError, Upload};

/// One block of the file, as it is and compressed. Its buffers go back to where they came from.
#[derive(Default)]
struct Piece {
    plain: Vec<u8>,
    /// The first `len` bytes are the block.
    block: Vec<u8>,
    len: usize,
}

/// Streams `db` as one LZ4 frame into `upload`, behind `note`; returns its plain length and that of the frame.
///
/// The length is what the file has now. A file that shrinks meanwhile is filled up with zeros: the commit that shrank
/// it is in the WAL and cuts the restored one.
pub(super) async fn stream(
    db: Arc<File>,
    note: Option<Note>,
    upload: &mut Upload,
) -> Result<(u64, u64), Failure> {
    let len = db.metadata().map_err(Failure::Read)?.len();
    let blocks = len.div_ceil(BLOCK as u64);
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(WORKERS).min(blocks);
    let mut lanes: Vec<_> = (0..workers)
        .map(|first| {
            let (send, receive) = mpsc::channel(AHEAD);
            let (done, used) = std::sync::mpsc::channel();
            let db = db.clone();
            tokio::task::spawn_blocking(move || lane(&db, len, first, workers, &send, &used));
            (receive, done)
        })
        .collect();
    let mut encoder = note.map_or_else(lz4::Encoder::new, lz4::Encoder::with_note);
    let mut out = Vec::with_capacity(PART + 2 * BLOCK);
    let mut stored = 0;
    for n in 0..blocks {
        let (lane, done) = &mut lanes[(n % workers) as usize];
        let piece = lane
            .recv()
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(Failure::Read)?;
        encoder.write_block(&piece.plain, &piece.block[..piece.len], &mut out);
        // A lane that has ended needs none.
        let _ = done.send(piece);
        if out.len() >= PART {
            let full = std::mem::replace(&mut out, Vec::with_capacity(PART + 2 * BLOCK));
            stored += full.len() as u64;
            upload.write(Bytes::from(full)).await.map_err(Failure::Write)?;
        }
    }
    encoder.finish(&mut out);
    stored += out.len() as u64;
    upload.write(Bytes::from(out)).await.map_err(Failure::Write)?;
    Ok((len, stored))
}

/// Reads and compresses every `step`-th block from `first` on. Ends when nobody takes them any more.
fn lane(
    db: &File,
    len: u64,
    first: u64,
    step: u64,
    send: &mpsc::Sender<io::Result<Piece>>,
    used: &std::sync::mpsc::Receiver<Piece>,
) {
    let mut at = first * BLOCK as u64;
    while at < len {
        let mut piece = used.try_recv().unwrap_or_default();
        let plain = (len - at).min(BLOCK as u64) as usize;
        piece.plain.resize(plain, 0);
        piece.block.resize(lz4::room(plain), 0);
        let read = read_block(db, at, &mut piece.plain).map(|()| {
            piece.len = lz4::compress_block_into(&piece.plain, &mut piece.block);
            piece
        });
        if send.blocking_send(read).is_err() {
            return;
        }
        at += step * BLOCK as u64;
    }
}

/// Fills `plain`; with zeros behind the end of the file.
fn read_block(db: &File, at: u64, plain: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < plain.len() {
        match db.read_at(&mut plain[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    plain[filled..].fill(0);
    Ok(())
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
