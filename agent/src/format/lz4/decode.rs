//! One LZ4 frame to plain bytes. No I/O; memory is one block and what the caller has fed and not yet taken.
//!
//! [`Splitter`] cuts the stored bytes into blocks, [`Block::decode_into`] decodes one anywhere, [`Content`] checks
//! the sum of them in order. [`Decoder`] is the three in one for whoever needs no threads.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use lz4::block::decompress_to_buffer;
use xxhash_rust::xxh32::{Xxh32, xxh32};

use super::{Error, LEGACY_MAGIC, MAGIC, NOTE, SKIPPABLE, STORED, linked};
use crate::format::note::{self, Note};

/// Cuts a stored object into the blocks of its frame.
///
/// ```text
/// Magic ─▶ Header ─▶ Length ─▶ Body ─▶ Length … ─▶ Checksum ─▶ Done
///   └─▶ SkipLength ─▶ Skip or Note ─▶ Magic
/// ```
pub struct Splitter {
    input: Input,
    state: State,
    header: Header,
    blocks: u64,
}

/// What [`Splitter::cut`] found.
#[derive(Debug)]
pub enum Cut {
    /// Feed more, or [`Splitter::finish`] if there is no more.
    More,
    /// Something the object says about others. Before the first block.
    Note(Note),
    Block(Block),
    /// The frame is complete; the sum is missing where the writer left it out.
    End {
        checksum: Option<u32>,
        size: Option<u64>,
    },
}

impl Splitter {
    pub fn new() -> Self {
        Self { input: Input::default(), state: State::Magic, header: Header::default(), blocks: 0 }
    }

    pub fn feed(&mut self, stored: Bytes) {
        self.input.push(stored);
    }

    /// The next thing in what was fed.
    pub fn cut(&mut self) -> Result<Cut, Error> {
        loop {
            let at = self.input.at;
            match self.state {
                State::Magic => {
                    let Some(magic) = self.input.u32() else { return Ok(Cut::More) };
                    self.state = match magic {
                        MAGIC => State::Header,
                        LEGACY_MAGIC => {
                            return Err(Error::Header { at, what: "legacy frame, which has no checksum" });
                        }
                        m if m & !15 == SKIPPABLE => State::SkipLength { note: m == NOTE },
                        AGE if at == 0 => return Err(Error::Encrypted),
                        found => return Err(Error::Magic { at, found }),
                    };
                }
                State::SkipLength { note } => {
                    let Some(len) = self.input.u32() else { return Ok(Cut::More) };
                    let len = len as usize;
                    self.state = if note && len == note::LEN { State::Note } else { State::Skip(len) };
                }
                State::Note => {
                    let Some(bytes) = self.input.take(note::LEN) else { return Ok(Cut::More) };
                    self.state = State::Magic;
                    if let Some(note) = Note::parse(&bytes) {
                        return Ok(Cut::Note(note));
                    }
                }
                State::Skip(left) => {
                    let skipped = self.input.skip(left);
                    if skipped < left {
                        self.state = State::Skip(left - skipped);
                        return Ok(Cut::More);
                    }
                    self.state = State::Magic;
                }
                State::Header => {
                    let Some(flags) = self.input.peek() else { return Ok(Cut::More) };
                    let Some(bytes) = self.input.take(Header::len(flags)) else { return Ok(Cut::More) };
                    self.header = Header::parse(&bytes).map_err(|what| Error::Header { at, what })?;
                    self.state = State::Length;
                }
                State::Length => {
                    let Some(len) = self.input.u32() else { return Ok(Cut::More) };
                    if len == 0 {
                        self.state = State::Checksum;
                        continue;
                    }
                    self.state = State::Body { at, len: (len & !STORED) as usize, stored: len & STORED != 0 };
                    if (len & !STORED) as usize > self.header.block_max {
                        return Err(self.block_error(at, "longer than the frame header allows"));
                    }
                }
                State::Body { at, len, stored } => {
                    let sum = if self.header.block_checksums { 4 } else { 0 };
                    let Some(mut bytes) = self.input.take(len + sum) else { return Ok(Cut::More) };
                    let tail = bytes.split_off(len);
                    if self.header.block_checksums && tail[..] != xxh32(&bytes, 0).to_le_bytes() {
                        return Err(self.block_error(at, "checksum does not match"));
                    }
                    let number = self.blocks;
                    self.blocks += 1;
                    self.state = State::Length;
                    // What the header allows is 4 MiB, however small the object is.
                    let most = if stored { len } else { len * MOST_EXPANDED };
                    let (max, linked) = (self.header.block_max.min(most), self.header.linked);
                    return Ok(Cut::Block(Block { number, at, bytes, stored, max, linked }));
                }
                State::Checksum => {
                    let checksum = match self.header.content_checksum {
                        false => None,
                        true => match self.input.u32() {
                            None => return Ok(Cut::More),
                            some => some,
                        },
                    };
                    self.state = State::Done;
                    return Ok(Cut::End { checksum, size: self.header.content_size });
                }
                State::Done if self.input.is_empty() => return Ok(Cut::More),
                State::Done => return Err(Error::Trailing { at }),
            }
        }
    }

    /// To be called when the object has no more bytes and [`Splitter::cut`] asks for more.
    pub fn finish(&self) -> Result<(), Error> {
        let stored = self.input.at + self.input.len as u64;
        let inside = match self.state {
            State::Done if self.input.is_empty() => return Ok(()),
            State::Done => return Err(Error::Trailing { at: self.input.at }),
            State::Magic if stored == 0 => return Err(Error::Empty),
            State::Magic => "the magic number",
            State::SkipLength { .. } | State::Skip(_) | State::Note => "a skippable frame",
            State::Header => "the frame header",
            State::Length => "the block list: the end mark is missing",
            State::Body { .. } => "a block",
            State::Checksum => "the content checksum",
        };
        Err(Error::Truncated { stored, inside })
    }

    fn block_error(&self, at: u64, what: &'static str) -> Error {
        Error::Block { number: self.blocks, at, what }
    }
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

/// One block of a frame, still as stored.
#[derive(Debug)]
pub struct Block {
    number: u64,
    at: u64,
    bytes: Bytes,
    stored: bool,
    max: usize,
    linked: bool,
}

impl Block {
    /// The most plain bytes it may hold, by the frame header and by its own length.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The bytes it takes in the frame, without its length.
    pub fn stored_len(&self) -> usize {
        self.bytes.len()
    }

    /// It may refer to the 64 KiB before it: decode it in order, with [`Block::decode_linked`].
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// Decodes to the start of `out`, which holds at least [`Block::max`] bytes, and says how many it wrote.
    pub fn decode_into(&self, out: &mut [u8]) -> Result<usize, Error> {
        debug_assert!(!self.linked, "a linked block needs the one before it");
        if self.stored {
            let Some(room) = out.get_mut(..self.bytes.len()) else { return Err(self.error()) };
            room.copy_from_slice(&self.bytes);
            return Ok(self.bytes.len());
        }
        let max = i32::try_from(self.max).map_err(|_| self.error())?;
        decompress_to_buffer(&self.bytes, Some(max), out).map_err(|_| self.error())
    }

    /// Appends the content to `out`, whose last 64 KiB are the content before it.
    pub fn decode_linked(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.stored {
            out.extend_from_slice(&self.bytes);
            return Ok(());
        }
        linked::decode(&self.bytes, self.max, out).ok_or_else(|| self.error())
    }

    fn error(&self) -> Error {
        Error::Block { number: self.number, at: self.at, what: "does not decode" }
    }
}

/// The running sum over the content, in order.
pub struct Content {
    hash: Xxh32,
    size: u64,
}

impl Content {
    pub fn new() -> Self {
        Self { hash: Xxh32::new(0), size: 0 }
    }

    pub fn update(&mut self, plain: &[u8]) {
        self.hash.update(plain);
        self.size += plain.len() as u64;
    }

    /// Plain bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Compares with what [`Cut::End`] said.
    pub fn check(&self, checksum: Option<u32>, size: Option<u64>) -> Result<(), Error> {
        if let Some(expected) = size
            && expected != self.size
        {
            return Err(Error::Size { found: self.size, expected });
        }
        match (checksum, self.hash.digest()) {
            (Some(expected), found) if found != expected => Err(Error::Checksum { found, expected }),
            _ => Ok(()),
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads one frame, a piece at a time, on one thread.
///
/// Feeding `n` bytes appends at most `255 × n` bytes and one block (4 MiB) to the output.
pub struct Decoder {
    splitter: Splitter,
    content: Content,
    scratch: Vec<u8>,
    complete: bool,
}

impl Decoder {
    pub fn new() -> Self {
        Self { splitter: Splitter::new(), content: Content::new(), scratch: Vec::new(), complete: false }
    }

    /// Takes stored bytes and appends the content of the blocks that are complete to `out`.
    ///
    /// Nothing of it is proven before [`Decoder::finish`]: the content checksum stands at the end.
    pub fn write(&mut self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.splitter.feed(Bytes::copy_from_slice(stored));
        loop {
            match self.splitter.cut()? {
                Cut::More => return Ok(()),
                Cut::Note(_) => {}
                Cut::End { checksum, size } => {
                    self.content.check(checksum, size)?;
                    self.complete = true;
                }
                Cut::Block(block) => out.extend_from_slice(self.block(&block)?),
            }
        }
    }

    /// The object has ended: the length of the content, or what is missing.
    pub fn finish(self) -> Result<u64, Error> {
        self.splitter.finish()?;
        debug_assert!(self.complete, "a splitter finishes after its end mark");
        Ok(self.content.size())
    }

    /// The content of one block; `scratch` keeps the last 64 KiB for linked ones.
    fn block(&mut self, block: &Block) -> Result<&[u8], Error> {
        let plain = if block.is_linked() {
            let keep = self.scratch.len().min(64 << 10);
            self.scratch.drain(..self.scratch.len() - keep);
            block.decode_linked(&mut self.scratch)?;
            &self.scratch[keep..]
        } else {
            self.scratch.resize(block.max(), 0);
            let len = block.decode_into(&mut self.scratch)?;
            &self.scratch[..len]
        };
        self.content.update(plain);
        Ok(plain)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The content of one whole frame, if it is no longer than `limit` bytes.
pub fn decode(stored: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let mut decoder = Decoder::new();
    for part in stored.chunks(64 << 10) {
        decoder.write(part, &mut out)?;
        if out.len() > limit {
            return Err(Error::TooLarge { limit });
        }
    }
    decoder.finish()?;
    Ok(out)
}

#[derive(Debug, Clone, Copy)]
enum State {
    Magic,
    SkipLength { note: bool },
    Skip(usize),
    Note,
    Header,
    Length,
    Body { at: u64, len: usize, stored: bool },
    Checksum,
    Done,
}

#[derive(Default)]
struct Header {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_max: usize,
}

impl Header {
    /// FLG, BD, perhaps a content size, perhaps a dictionary id, header checksum.
    fn len(flags: u8) -> usize {
        3 + if flags & 0x08 != 0 { 8 } else { 0 } + if flags & 0x01 != 0 { 4 } else { 0 }
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let (&sum, descriptor) = bytes.split_last().ok_or("empty")?;
        let (&flags, rest) = descriptor.split_first().ok_or("empty")?;
        let (&bd, rest) = rest.split_first().ok_or("empty")?;
        if (xxh32(descriptor, 0) >> 8) as u8 != sum {
            return Err("checksum does not match");
        }
        if flags >> 6 != 1 {
            return Err("not version 1");
        }
        if flags & 0x02 != 0 || bd & 0x8f != 0 {
            return Err("reserved bits are set");
        }
        if flags & 0x01 != 0 {
            return Err("needs a dictionary");
        }
        let block_max = match bd >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err("invalid block size"),
        };
        Ok(Self {
            linked: flags & 0x20 == 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            content_size: rest.first_chunk().map(|size| u64::from_le_bytes(*size)),
            block_max,
        })
    }
}

/// Fed bytes not yet taken, without a copy where a piece holds all that is asked for.
#[derive(Default)]
struct Input {
    parts: VecDeque<Bytes>,
    len: usize,
    /// Offset in the stored object of the first byte of `parts`.
    at: u64,
}

impl Input {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push_back(part);
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn peek(&self) -> Option<u8> {
        self.parts.front().and_then(|p| p.first().copied())
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        bytes.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    /// `n` bytes, or none of them.
    fn take(&mut self, n: usize) -> Option<Bytes> {
        if self.len < n {
            return None;
        }
        self.len -= n;
        self.at += n as u64;
        if let Some(front) = self.parts.front_mut()
            && front.len() > n
        {
            return Some(front.split_to(n));
        }
        let mut first = self.parts.pop_front().unwrap_or_default();
        if first.len() == n {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(n);
        loop {
            let want = n - joined.len();
            if first.len() > want {
                joined.extend_from_slice(&first.split_to(want));
                self.parts.push_front(first);
            } else {
                joined.extend_from_slice(&first);
            }
            if joined.len() == n {
                return Some(joined.freeze());
            }
            first = self.parts.pop_front()?;
        }
    }

    /// Drops at most `n` bytes and says how many.
    fn skip(&mut self, n: usize) -> usize {
        let n = n.min(self.len);
        self.take(n).map_or(0, |b| b.len())
    }
}

/// Plain bytes for each byte of a block, at most: that of a length's continuation, which stands for 255.
const MOST_EXPANDED: usize = 255;
/// `age-`, as a magic number: what an encrypted object starts with (§9).
const AGE: u32 = u32::from_le_bytes(*b"age-");
