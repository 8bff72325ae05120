//! Plain bytes to one LZ4 frame. No I/O.

use lz4::block::{CompressionMode, compress_to_buffer};
use xxhash_rust::xxh32::Xxh32;

use super::{MAGIC, NOTE, STORED};
use crate::format::note::{self, Note};

/// Plain bytes in a block. Litestream fills the 4 MiB the header allows; smaller blocks cost well under 1 % of
/// the ratio (LZ4 looks back 64 KiB at most), stay in a core's cache and let several threads share one snapshot.
pub const BLOCK: usize = 256 << 10;

/// Writes one frame, a piece at a time.
///
/// Whole blocks are compressed straight from the caller's bytes; what is left over waits in a buffer of at most
/// [`BLOCK`]. To share the work between threads, compress with [`compress_block`] anywhere and hand the results to
/// [`Encoder::write_block`] in order.
pub struct Encoder {
    content: Xxh32,
    pending: Vec<u8>,
    note: Option<Note>,
    started: bool,
}

impl Encoder {
    pub fn new() -> Self {
        Self { content: Xxh32::new(0), pending: Vec::new(), note: None, started: false }
    }

    /// With `note` in front of the frame.
    pub fn with_note(note: Note) -> Self {
        Self { note: Some(note), ..Self::new() }
    }

    /// Takes `plain` and appends the blocks that are complete to `out`.
    pub fn write(&mut self, mut plain: &[u8], out: &mut Vec<u8>) {
        self.start(out);
        self.content.update(plain);
        if !self.pending.is_empty() {
            let take = plain.len().min(BLOCK - self.pending.len());
            let (head, rest) = plain.split_at(take);
            self.pending.extend_from_slice(head);
            plain = rest;
            if self.pending.len() == BLOCK {
                compress_block(&self.pending, out);
                self.pending.clear();
            }
        }
        while let Some((block, rest)) = plain.split_at_checked(BLOCK) {
            compress_block(block, out);
            plain = rest;
        }
        self.pending.extend_from_slice(plain);
    }

    /// Appends a block that [`compress_block`] made of `plain`, after everything written so far.
    pub fn write_block(&mut self, plain: &[u8], block: &[u8], out: &mut Vec<u8>) {
        self.start(out);
        self.flush(out);
        self.content.update(plain);
        out.extend_from_slice(block);
    }

    /// Appends what is left over, the end mark and the content checksum.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.start(out);
        self.flush(out);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.content.digest().to_le_bytes());
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if !self.started {
            if let Some(note) = self.note {
                out.extend_from_slice(&NOTE.to_le_bytes());
                out.extend_from_slice(&(note::LEN as u32).to_le_bytes());
                out.extend_from_slice(&note.encode());
            }
            out.extend_from_slice(&MAGIC.to_le_bytes());
            out.extend_from_slice(&HEADER);
            self.started = true;
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            compress_block(&self.pending, out);
            self.pending.clear();
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// One whole frame around `plain`.
pub fn encode(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() / 2 + 64);
    let mut encoder = Encoder::new();
    encoder.write(plain, &mut out);
    encoder.finish(&mut out);
    out
}

/// Appends `plain`, at most 4 MiB, to `out` as one block: its length, then the compressed bytes, or the plain ones
/// where compression does not make them fewer. An empty `plain` adds nothing: a length of 0 is the end mark.
pub fn compress_block(plain: &[u8], out: &mut Vec<u8>) {
    let head = out.len();
    out.resize(head + room(plain.len()), 0);
    let len = compress_block_into(plain, &mut out[head..]);
    out.truncate(head + len);
}

/// As [`compress_block`], into the beginning of `out`, which has [`room`] for it; returns the block's length.
///
/// For a buffer that is used again and again: nothing has to be cleared before.
pub fn compress_block_into(plain: &[u8], out: &mut [u8]) -> usize {
    debug_assert!(plain.len() <= 4 << 20, "the header allows blocks of 4 MiB");
    if plain.is_empty() {
        return 0;
    }
    let (head, body) = out[..room(plain.len())].split_at_mut(4);
    // One byte less than plain: the library then gives up on what does not shrink.
    let end = body.len() - 1;
    let (len, mark) = match compress_to_buffer(plain, Some(CompressionMode::DEFAULT), false, &mut body[..end])
    {
        Ok(len) => (len, len as u32),
        Err(_) => {
            body.copy_from_slice(plain);
            (plain.len(), plain.len() as u32 | STORED)
        }
    };
    head.copy_from_slice(&mark.to_le_bytes());
    4 + len
}

/// The most a block of `plain` bytes can take.
pub const fn room(plain: usize) -> usize {
    4 + plain
}

/// FLG, BD and the header checksum; see the module's table.
const HEADER: [u8; 3] = [0x64, 0x70, 0xb9];
