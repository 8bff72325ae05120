//! The pages of a range of the WAL, as one batch. Blocking; reads the WAL, and the database file where it has to.
//!
//! Every frame is verified against the WAL's running checksum; then the newest of each page is read once more, in the
//! order of pages. A WAL that restarted in between shows in its header, which is written before its first frame.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Encoded, Pieces};
use crate::format::ltx::{Header as LtxHeader, PageEncoding, WalPos, lock_page};
use crate::format::wal::{Chain, Checksum, FRAME_HEADER_LEN, FrameHeader, HEADER_LEN, Header, Salt};
use crate::plan::ltx::replica::BatchJob;
use crate::plan::replica::SEGMENT_BYTES;
use crate::run::flights::Bytesource;
use crate::source::tail::WalBytes;

/// Encodes every page that the whole transactions in `job`'s range changed.
///
/// Ends at the last commit that keeps it below [`SEGMENT_BYTES`] of WAL, or at the end of the first transaction if
/// that is larger. Pages the database grew by and nobody wrote are added: they are on the freelist, and a reader counts
/// them all the same (spec/litestream-v05.md §0 fact 9).
pub(super) fn batch(
    job: &BatchJob,
    source: &Bytesource,
    db: &File,
    encoding: PageEncoding,
    out: &mut Pieces,
) -> io::Result<Encoded> {
    let (wal, header) = match source {
        Bytesource::Held(tail) => (&tail.bytes, tail.header),
        Bytesource::Live { wal, salt } => (wal, expected(wal, *salt)?),
    };
    let from = job.from.max(HEADER_LEN as u64);
    let start = wal.chain_at(&header, from)?;
    let to = if job.exact { job.to } else { end(wal, &start, job.to)? };
    let range = Range::scan(wal, start, to)?;
    let commit = range.commit;
    let lock = lock_page(header.page_size);
    let mut numbers: Vec<u32> = range.newest.keys().copied().filter(|n| *n <= commit && *n != lock).collect();
    let grown =
        (job.before.saturating_add(1)..=commit).filter(|n| *n != lock && !range.newest.contains_key(n));
    let grown: Vec<u32> = grown.collect();
    let before = if grown.is_empty() { HashMap::new() } else { older(wal, &header, from) };
    numbers.extend(&grown);
    numbers.sort_unstable();
    let head = LtxHeader {
        page_size: header.page_size,
        commit,
        min: job.txid,
        max: job.txid,
        timestamp: job.stamp.as_millisecond(),
        wal: WalPos { offset: from, size: to - from, salt: header.salt },
        node: proof(range.checksum),
        rolling: None,
    };
    let mut encoder = out.begin(head, encoding)?;
    let mut image = vec![0; header.page_size.get() as usize];
    for number in numbers {
        match range.newest.get(&number).or_else(|| before.get(&number)) {
            Some(at) => page(wal, &header, number, *at, &mut image)?,
            None => file_page(db, number, &mut image)?,
        }
        out.page(&mut encoder, number, &image)?;
    }
    if let Bytesource::Live { salt, .. } = source {
        expected(wal, *salt)?;
    }
    let trailer = out.finish(encoder)?;
    Ok(Encoded { header: head, trailer, to: Some(to) })
}

/// The WAL's header, if it still is the incarnation that is meant.
pub(super) fn expected(wal: &WalBytes, salt: Salt) -> io::Result<Header> {
    let header = wal.header()?;
    if header.salt != salt {
        return Err(io::Error::other(format!("WAL salt {}, expected {salt}", header.salt)));
    }
    Ok(header)
}

/// A verified range of the WAL that ends on a commit.
pub(super) struct Range {
    /// Where the newest frame of each page begins.
    pub(super) newest: HashMap<u32, u64>,
    /// Pages of the database after the last commit.
    pub(super) commit: u32,
    /// The running checksum at the end.
    pub(super) checksum: Checksum,
}

impl Range {
    pub(super) fn scan(wal: &WalBytes, mut chain: Chain, to: u64) -> io::Result<Self> {
        let (frame_len, invalid) =
            (chain.frame_len(), |what: String| io::Error::new(io::ErrorKind::InvalidData, what));
        let (mut newest, mut commit) = (HashMap::new(), 0);
        let mut buf = vec![0; frame_len * (CHUNK / frame_len).max(1)];
        while chain.offset < to {
            let len = usize::try_from(to - chain.offset).unwrap_or(buf.len()).min(buf.len());
            wal.read(&mut buf[..len], chain.offset)?;
            for frame in buf[..len].chunks(frame_len) {
                let at = chain.offset;
                let head = chain.verify(frame).map_err(|e| invalid(e.to_string()))?;
                newest.insert(head.page, at);
                commit = head.commit;
            }
        }
        if commit == 0 {
            return Err(invalid(format!("the WAL does not end on a commit at 0x{to:x}")));
        }
        Ok(Self { newest, commit, checksum: chain.checksum })
    }
}

/// What the header says to prove that the next run of the agent goes on where this one ended: the WAL's running
/// checksum, which is that of every frame so far. Litestream has no use for the field it stands in (the node's
/// number, always 0), and accepts whatever is there (spec/litestream-v05.md §1.1).
pub(super) fn proof(checksum: Checksum) -> u64 {
    u64::from(checksum.s0) << 32 | u64::from(checksum.s1)
}

/// Reads the page of the frame at `at`, which has been verified before.
pub(super) fn page(
    wal: &WalBytes,
    header: &Header,
    number: u32,
    at: u64,
    image: &mut [u8],
) -> io::Result<()> {
    let mut head = [0; FRAME_HEADER_LEN];
    wal.read(&mut head, at)?;
    let head = FrameHeader::parse(&head);
    if (head.page, head.salt) != (number, header.salt) {
        let what = format!("frame at 0x{at:x}: page {}, expected {number}: the WAL was restarted", head.page);
        return Err(io::Error::other(what));
    }
    wal.read(image, at + FRAME_HEADER_LEN as u64)
}

/// Reads a page of the database file; what is past its end is zero to SQLite, too.
pub(super) fn file_page(db: &File, number: u32, image: &mut [u8]) -> io::Result<()> {
    let at = u64::from(number - 1) * image.len() as u64;
    let mut filled = 0;
    while filled < image.len() {
        match db.read_at(&mut image[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    image[filled..].fill(0);
    Ok(())
}

/// The end of the batch: see [`batch`].
fn end(wal: &WalBytes, chain: &Chain, to: u64) -> io::Result<u64> {
    let frame_len = chain.frame_len() as u64;
    let frames = to.saturating_sub(chain.offset) / frame_len;
    let most = (SEGMENT_BYTES / frame_len).max(1);
    if frames <= most {
        return Ok(to);
    }
    let is_commit = |n: u64| -> io::Result<bool> {
        let mut commit = [0; 4];
        wal.read(&mut commit, chain.offset + (n - 1) * frame_len + 4)?;
        Ok(commit != [0; 4])
    };
    for n in (1..=most).rev().chain(most + 1..frames) {
        if is_commit(n)? {
            return Ok(chain.offset + n * frame_len);
        }
    }
    Ok(to)
}

/// Where the newest frame of each page begins in the WAL before `from`; nothing where that is not in memory any more:
/// the database file has it then.
fn older(wal: &WalBytes, header: &Header, from: u64) -> HashMap<u32, u64> {
    let mut newest = HashMap::new();
    let (mut at, mut head) = (HEADER_LEN as u64, [0; FRAME_HEADER_LEN]);
    while at < from && wal.read(&mut head, at).is_ok() {
        newest.insert(FrameHeader::parse(&head).page, at);
        at += header.page_size.frame_len();
    }
    newest
}

/// Bytes read at a time: enough to make a read cheap, little enough to stay in a core's cache.
const CHUNK: usize = 256 << 10;
