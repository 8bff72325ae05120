//! SQLite's write-ahead log, byte by byte. Bytes in, values out; nothing here can panic on foreign bytes.
//!
//! The file is a 32-byte header and frames of 24 bytes and a page (sqlite.org/fileformat2.html, "The Write-Ahead Log"):
//!
//! | header | bytes | frame | bytes |
//! | --- | --- | --- | --- |
//! | magic `377f0682` (checksums over little-endian words) or `…83` (big-endian) | 0..4 | page number | 0..4 |
//! | format version 3007000 | 4..8 | database size in pages after a commit, else 0 | 4..8 |
//! | page size | 8..12 | salt, equal to the header's | 8..16 |
//! | checkpoint sequence | 12..16 | checksum of all frames up to here | 16..24 |
//! | salt | 16..24 | the page | 24.. |
//! | checksum of 0..24 | 24..32 | | |
//!
//! All numbers are big-endian; only the checksum's words follow the magic. A frame is valid when its salt is the
//! header's and the running checksum over its first 8 bytes and its page is the stored one. The WAL is longer than its
//! valid part after a restart: the salt ends it.

use std::fmt;

/// Bytes before the first frame.
pub const HEADER_LEN: usize = 32;
/// Bytes before a frame's page.
pub const FRAME_HEADER_LEN: usize = 24;

/// A page size SQLite can have: a power of two, 512 to 65536 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageSize(u32);

impl PageSize {
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (512..=65536).contains(&bytes)).then_some(Self(bytes))
    }

    /// Bytes in a page.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Bytes in a frame: header and page.
    pub fn frame_len(self) -> u64 {
        FRAME_HEADER_LEN as u64 + u64::from(self.0)
    }

    /// Where frame number `frames` (from 0) begins; also the length of a WAL of that many frames.
    pub fn offset_of(self, frames: u64) -> u64 {
        HEADER_LEN as u64 + frames * self.frame_len()
    }

    /// How many frames end at `offset`; `None` when it is not a frame's end.
    pub fn frames_at(self, offset: u64) -> Option<u64> {
        let body = offset.checked_sub(HEADER_LEN as u64)?;
        body.is_multiple_of(self.frame_len()).then(|| body / self.frame_len())
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What tells one incarnation of the WAL from the next. Prints as 16 hex digits.
///
/// SQLite usually adds one to the first half at a restart and draws the second, but not always: a connection that
/// never checkpointed draws both when it writes the header, and TRUNCATE on an empty WAL adds one each time
/// (`walFrames`, `walRestartHdr` in wal.c). So equal means the same incarnation, and different means nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salt(pub [u8; 8]);

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The byte order of the words a WAL's checksums add up. All other numbers are big-endian regardless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordOrder {
    Little,
    Big,
}

/// SQLite's running checksum: two 32-bit sums over pairs of words. Prints as `s0:s1` in hex.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum {
    pub s0: u32,
    pub s1: u32,
}

impl Checksum {
    /// Adds `bytes`, whose length is a multiple of 8 (a remainder would be ignored).
    #[must_use]
    pub fn update(self, bytes: &[u8], order: WordOrder) -> Self {
        debug_assert!(bytes.len().is_multiple_of(8), "SQLite sums pairs of 32-bit words");
        match order {
            WordOrder::Little => self.add(bytes, u32::from_le_bytes),
            WordOrder::Big => self.add(bytes, u32::from_be_bytes),
        }
    }

    #[inline(always)]
    fn add(self, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Self {
        let (mut s0, mut s1) = (self.s0, self.s1);
        let (pairs, _) = bytes.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in pairs {
            s0 = s0.wrapping_add(word([a, b, c, d])).wrapping_add(s1);
            s1 = s1.wrapping_add(word([e, f, g, h])).wrapping_add(s0);
        }
        Self { s0, s1 }
    }

    fn parse(bytes: [u8; 8]) -> Self {
        let all = u64::from_be_bytes(bytes);
        Self { s0: (all >> 32) as u32, s1: all as u32 }
    }

    fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.s0) << 32 | u64::from(self.s1)).to_be_bytes()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}:{:08x}", self.s0, self.s1)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first 32 bytes of a WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub order: WordOrder,
    pub page_size: PageSize,
    /// Counts checkpoints of one connection only; says nothing about order (spec litestream-v03 §1.4).
    pub sequence: u32,
    pub salt: Salt,
    pub checksum: Checksum,
}

impl Header {
    /// Reads and verifies a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(HeaderFault::Short { found: bytes.len() });
        };
        let order = match word(bytes, 0) {
            MAGIC_LITTLE => WordOrder::Little,
            MAGIC_BIG => WordOrder::Big,
            found => return Err(HeaderFault::Magic { found }),
        };
        let version = word(bytes, 4);
        if version != VERSION {
            return Err(HeaderFault::Version { found: version });
        }
        let size = word(bytes, 8);
        let page_size = PageSize::new(size).ok_or(HeaderFault::PageSize { found: size })?;
        let expected = Checksum::default().update(&bytes[..24], order);
        let checksum = Checksum::parse(eight(bytes, 24));
        if checksum != expected {
            return Err(HeaderFault::Checksum { expected, found: checksum });
        }
        Ok(Self { order, page_size, sequence: word(bytes, 12), salt: Salt(eight(bytes, 16)), checksum })
    }

    /// The 32 bytes, with a checksum computed anew.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let magic = match self.order {
            WordOrder::Little => MAGIC_LITTLE,
            WordOrder::Big => MAGIC_BIG,
        };
        for (at, value) in [(0, magic), (4, VERSION), (8, self.page_size.get()), (12, self.sequence)] {
            out[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        out[16..24].copy_from_slice(&self.salt.0);
        let sum = Checksum::default().update(&out[..24], self.order);
        out[24..].copy_from_slice(&sum.to_bytes());
        out
    }
}

/// Why 32 bytes are not a WAL header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("WAL header: {found} bytes, expected 32")]
    Short { found: usize },
    #[error("WAL header: magic {found:08x}, expected 377f0682 or 377f0683")]
    Magic { found: u32 },
    #[error("WAL header: format version {found}, expected 3007000")]
    Version { found: u32 },
    #[error("WAL header: page size {found} is not a power of two from 512 to 65536")]
    PageSize { found: u32 },
    #[error("WAL header: checksum {found}, expected {expected}")]
    Checksum { expected: Checksum, found: Checksum },
}

/// The first 24 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Page number, from 1. 0 never stands in a valid frame.
    pub page: u32,
    /// The database's size in pages after this commit; 0 inside a transaction.
    pub commit: u32,
    pub salt: Salt,
    pub checksum: Checksum,
}

impl FrameHeader {
    /// Splits 24 bytes into their fields; whether they are valid is [`Chain::verify`]'s question.
    pub fn parse(bytes: &[u8; FRAME_HEADER_LEN]) -> Self {
        Self {
            page: word(bytes, 0),
            commit: word(bytes, 4),
            salt: Salt(eight(bytes, 8)),
            checksum: Checksum::parse(eight(bytes, 16)),
        }
    }

    /// The inverse of [`FrameHeader::parse`].
    pub fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        out[..4].copy_from_slice(&self.page.to_be_bytes());
        out[4..8].copy_from_slice(&self.commit.to_be_bytes());
        out[8..16].copy_from_slice(&self.salt.0);
        out[16..].copy_from_slice(&self.checksum.to_bytes());
        out
    }
}

/// A verified position in one incarnation of the WAL: everything before `offset` belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    pub page_size: PageSize,
    pub order: WordOrder,
    pub salt: Salt,
    /// The running checksum up to `offset`.
    pub checksum: Checksum,
    /// Where the next frame begins, in bytes from the start of the WAL.
    pub offset: u64,
}

impl Chain {
    /// The position behind the header.
    pub fn start(header: &Header) -> Self {
        Self {
            page_size: header.page_size,
            order: header.order,
            salt: header.salt,
            checksum: header.checksum,
            offset: HEADER_LEN as u64,
        }
    }

    /// Bytes in a frame of this WAL.
    pub fn frame_len(&self) -> usize {
        FRAME_HEADER_LEN + self.page_size.get() as usize
    }

    /// Verifies the next frame and steps over it. On a fault the position stays.
    pub fn verify(&mut self, frame: &[u8]) -> Result<FrameHeader, FrameFault> {
        let offset = self.offset;
        let (Some(head), true) = (frame.first_chunk(), frame.len() == self.frame_len()) else {
            return Err(FrameFault::Length { offset, expected: self.frame_len(), found: frame.len() });
        };
        let header = FrameHeader::parse(head);
        if header.salt != self.salt {
            return Err(FrameFault::Salt { offset, expected: self.salt, found: header.salt });
        }
        if header.page == 0 {
            return Err(FrameFault::PageZero { offset });
        }
        let sum =
            self.checksum.update(&frame[..8], self.order).update(&frame[FRAME_HEADER_LEN..], self.order);
        if header.checksum != sum {
            return Err(FrameFault::Checksum { offset, expected: sum, found: header.checksum });
        }
        self.checksum = sum;
        self.offset += frame.len() as u64;
        Ok(header)
    }

    /// Writes `salt` and the running checksum into a frame and steps over it: how a frame moves to another WAL.
    ///
    /// `frame` is one whole frame, as [`Chain::verify`] of its own WAL has accepted it.
    pub fn seal(&mut self, frame: &mut [u8]) {
        debug_assert_eq!(frame.len(), self.frame_len(), "seal takes one whole frame");
        self.checksum =
            self.checksum.update(&frame[..8], self.order).update(&frame[FRAME_HEADER_LEN..], self.order);
        frame[8..16].copy_from_slice(&self.salt.0);
        frame[16..24].copy_from_slice(&self.checksum.to_bytes());
        self.offset += frame.len() as u64;
    }
}

/// Why a frame does not continue its WAL. `offset` is where the frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    #[error("frame at 0x{offset:x}: {found} bytes, expected {expected}")]
    Length { offset: u64, expected: usize, found: usize },
    #[error("frame at 0x{offset:x}: salt {found}, expected {expected}")]
    Salt { offset: u64, expected: Salt, found: Salt },
    #[error("frame at 0x{offset:x}: page number 0")]
    PageZero { offset: u64 },
    #[error("frame at 0x{offset:x}: checksum {found}, expected {expected}")]
    Checksum { offset: u64, expected: Checksum, found: Checksum },
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}

fn eight(bytes: &[u8], at: usize) -> [u8; 8] {
    bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or_default()
}

const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;
const VERSION: u32 = 3_007_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(order: WordOrder) -> Header {
        let page_size = PageSize::new(512).unwrap();
        let h = Header {
            order,
            page_size,
            sequence: 3,
            salt: Salt([1, 2, 3, 4, 5, 6, 7, 8]),
            checksum: Checksum::default(),
        };
        Header::parse(&h.encode()).unwrap()
    }

    fn frame(chain: &mut Chain, page: u32, commit: u32, fill: u8) -> Vec<u8> {
        let mut f = vec![fill; chain.frame_len()];
        f[..4].copy_from_slice(&page.to_be_bytes());
        f[4..8].copy_from_slice(&commit.to_be_bytes());
        chain.seal(&mut f);
        f
    }

    #[test]
    fn a_wal_written_by_sqlite_verifies_to_its_last_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(9000));",
        )
        .unwrap();
        let wal = std::fs::read(dir.path().join("a.db-wal")).unwrap();
        let mut chain = Chain::start(&Header::parse(&wal).unwrap());
        let last =
            wal[HEADER_LEN..].chunks(chain.frame_len()).map(|f| chain.verify(f).unwrap()).last().unwrap();
        assert_eq!(chain.offset, wal.len() as u64);
        assert!(last.commit > 0, "the WAL ends on a commit");
    }

    #[test]
    fn a_frame_with_an_old_salt_ends_the_batch() {
        let h = header(WordOrder::Little);
        let mut chain = Chain::start(&h);
        let mut old = Chain { salt: Salt([9; 8]), ..chain };
        let stale = frame(&mut old, 2, 2, 7);
        let before = chain;
        assert!(matches!(chain.verify(&stale), Err(FrameFault::Salt { offset: 32, .. })));
        assert_eq!(chain, before, "a fault does not move the position");
    }

    #[test]
    fn every_single_bit_flip_of_a_header_or_frame_is_refused() {
        let h = header(WordOrder::Big);
        let bytes = h.encode();
        for bit in 0..bytes.len() * 8 {
            let mut b = bytes;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&b).is_err(), "bit {bit}");
        }
        let start = Chain::start(&h);
        let good = frame(&mut start.clone(), 1, 1, 42);
        for bit in 0..good.len() * 8 {
            let mut f = good.clone();
            f[bit / 8] ^= 1 << (bit % 8);
            assert!(start.clone().verify(&f).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn offsets_and_frame_counts_are_inverse_and_anything_between_is_none() {
        let size = PageSize::new(65536).unwrap();
        for n in [0, 1, 2, 70_000] {
            assert_eq!(size.frames_at(size.offset_of(n)), Some(n));
            assert_eq!(size.frames_at(size.offset_of(n) + 1), None);
        }
        assert_eq!(size.frames_at(31), None);
        assert_eq!(PageSize::new(1000), None);
        assert_eq!(PageSize::new(131_072), None);
    }

    proptest! {
        #[test]
        fn a_sealed_frame_verifies_and_encode_inverts_parse(
            page in 1u32.., commit: u32, fill: u8, big: bool, salt: [u8; 8],
        ) {
            let mut h = header(if big { WordOrder::Big } else { WordOrder::Little });
            h.salt = Salt(salt);
            let h = Header::parse(&h.encode()).unwrap();
            let (mut writer, mut reader) = (Chain::start(&h), Chain::start(&h));
            let f = frame(&mut writer, page, commit, fill);
            let parsed = reader.verify(&f).unwrap();
            prop_assert_eq!(&parsed.encode()[..], &f[..FRAME_HEADER_LEN]);
            prop_assert_eq!(writer, reader);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Header::parse(&bytes);
            let _ = Chain::start(&header(WordOrder::Little)).verify(&bytes);
        }
    }
}
