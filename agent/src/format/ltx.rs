//! The LTX files of a Litestream 0.5 replica. Bytes in, values out; nothing here can panic on foreign bytes.
//!
//! ```text
//! 100 bytes     header                                       see [`header`]
//! page frames   u32 number, u16 flags, [u32 size,] payload   ascending by number
//! 6 bytes       zero: the end of the pages
//! page index    varints: number, offset, size of each frame  a zero byte ends it
//! u64           bytes of the index, with its zero byte
//! u64           rolling checksum of the database afterwards, or 0
//! u64           checksum of the file                         see [`checksum`]
//! ```
//! All numbers are big-endian except inside LZ4. Flag bit 0 of a page says that a size and one LZ4 *block* follow
//! (Litestream from 0.5.16 on); without it an LZ4 *frame* follows (up to 0.5.15). A file may mix them
//! (spec/litestream-v05.md §1).
//!
//! A file says what changed from the state before transaction `min` to the state after `max`. One with `min` 1 starts
//! from nothing: it holds every page of the database.
//!
//! Reading is stricter than Litestream's: order, numbers and sizes, the index against the pages, the expanded length
//! of each page, all checksums, the end of the file. To write, see [`Encoder`]; to read, [`Decoder`] on one thread, or
//! [`Splitter`], [`Run::decode`] and [`FileSum`] on many.

mod checksum;
mod decode;
mod encode;
mod header;
mod index;
mod name;
mod page;
mod split;

pub use checksum::{Rolling, Sum};
pub use decode::{Decoder, Event, FileSum, Pages, RunSum, Summary, decode};
pub use encode::{Encoder, Refused, Tail, Trailer, encode};
pub use header::{HEADER_LEN, Header, WalPos};
pub use name::{Layout, Level, Name, Txid};
pub use page::{PageEncoding, compress_page, lock_page};
pub use split::{Cut, End, Run, Splitter};

/// Why bytes are not an LTX file. `at` is the offset in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("empty file")]
    Empty,
    #[error("truncated: {stored} bytes end inside {inside}")]
    Truncated { stored: u64, inside: &'static str },
    /// A field of the header that cannot be.
    #[error("header, byte {at}: {what} {found:#x}, expected {expected}")]
    Header { at: u64, what: &'static str, found: u64, expected: &'static str },
    #[error("page {number} at byte {at}: {fault}")]
    Page { number: u32, at: u64, fault: PageFault },
    /// A file from nothing that does not hold everything.
    #[error("the pages end at byte {at} after page {last}, expected all {commit} of the database")]
    Incomplete { at: u64, last: u32, commit: u32 },
    #[error("page index, byte {at}, entry {entry}: {what} {found}, expected {expected}")]
    Index { at: u64, entry: u64, what: &'static str, found: u64, expected: u64 },
    #[error("{what} checksum at byte {at}: {found:016x}, expected {expected:016x}")]
    Checksum { what: &'static str, at: u64, found: u64, expected: u64 },
    #[error("bytes after the end of the file at byte {at}")]
    Trailing { at: u64 },
}

/// What is wrong with one page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    #[error("flags {found:#06x}, expected 0 or 1")]
    Flags { found: u16 },
    #[error("no page has this number")]
    Zero,
    #[error("stands after page {after}, expected ascending numbers")]
    Order { after: u32 },
    #[error("expected page {expected}: a file that starts at transaction 1 holds every page")]
    Gap { expected: u32 },
    #[error("is the lock page, which never has content")]
    Lock,
    #[error("the database has {commit} pages")]
    Beyond { commit: u32 },
    #[error("{found} stored bytes, expected at most {limit}")]
    TooLong { found: u64, limit: u64 },
    #[error("expands to {found} bytes, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("the LZ4 block does not expand to {expected} bytes")]
    Block { expected: usize },
    #[error("LZ4 frame: {0}")]
    Frame(super::lz4::Error),
    #[error("LZ4 frame: {0}")]
    FrameHeader(&'static str),
}

/// No checksums of the database; the only flag there is (spec §1.1).
const NO_CHECKSUM: u32 = 2;

#[cfg(test)]
mod tests;
