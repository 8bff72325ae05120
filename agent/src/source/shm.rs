//! The WAL index header: how many frames are committed and how many are backfilled, in two small reads.
//!
//! `-shm` starts with two copies of a 48-byte header and 24 bytes of checkpoint state, all in native byte order but
//! the salts, which stand as in the WAL (sqlite.org/walformat.html §2.2):
//!
//! | bytes | what | bytes | what |
//! | --- | --- | --- | --- |
//! | 0..4 | version 3007000 | 32..40 | salt |
//! | 12 | initialised | 40..48 | checksum of 0..40 |
//! | 14..16 | page size, 65536 as 1 | 48..96 | the second copy |
//! | 16..20 | committed frames | 96..100 | backfilled frames |
//!
//! A writer updates the second copy first and the first last; a read is consistent when both agree with their
//! checksum before and after.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::format::wal::{Checksum, PageSize, Salt, WordOrder};
use crate::plan::handover::Marks;

/// Why the header could not be read this time.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(std::io::Error),
    /// Not there, not initialised or of another format: nobody has recovered the WAL yet.
    Uninitialised,
    /// A writer kept changing it, or was stopped between the two copies.
    Unsettled,
}

/// Reads the header and the backfill counter until they agree.
///
/// The page size is `None` while the WAL has no header of its own: recovery of an empty one leaves it zero.
pub(super) fn read(shm: &File) -> Result<(Option<PageSize>, Marks), Unreadable> {
    for _ in 0..TRIES {
        let (mut first, mut again) = ([0; 100], [0; 48]);
        match shm.read_exact_at(&mut first, 0).and_then(|()| shm.read_exact_at(&mut again, 0)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(Unreadable::Uninitialised),
            Err(e) => return Err(Unreadable::Io(e)),
        }
        if first[..48] != first[48..96] || first[..48] != again {
            std::hint::spin_loop();
            continue;
        }
        return parse(&first).ok_or(Unreadable::Uninitialised);
    }
    Err(Unreadable::Unsettled)
}

fn parse(bytes: &[u8; 100]) -> Option<(Option<PageSize>, Marks)> {
    let native = |at: usize| bytes[at..].first_chunk().map(|b| u32::from_ne_bytes(*b));
    let order = if cfg!(target_endian = "little") { WordOrder::Little } else { WordOrder::Big };
    let sum = Checksum::default().update(&bytes[..40], order);
    if native(0)? != VERSION || bytes[12] != 1 || (sum.s0, sum.s1) != (native(40)?, native(44)?) {
        return None;
    }
    let size = u32::from(u16::from_ne_bytes([bytes[14], bytes[15]]));
    let page_size = PageSize::new((size & 0xfe00) + ((size & 1) << 16));
    let salt = Salt(*bytes[32..].first_chunk()?);
    let marks = Marks { salt, frames: native(16)?, backfilled: native(96)? };
    (page_size.is_some() || marks.frames == 0).then_some((page_size, marks))
}

/// A header is rewritten in well under a microsecond; after this many reads in a row its writer is not running.
const TRIES: u32 = 1000;
const VERSION: u32 = 3_007_000;
