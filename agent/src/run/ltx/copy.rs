//! The whole database at a commit, as one file. Blocking; reads the database file and the WAL.
//!
//! A page is in the WAL up to the commit, in its newest frame, or else in the database file: what a checkpoint may write
//! there while the pin stays are pages of that very range, so none of them is read from the file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::frames::{Range, expected, file_page, page, proof};
use super::{Encoded, Pieces};
use crate::format::dbfile::{DbHeader, HEADER_LEN as DB_HEADER_LEN};
use crate::format::ltx::{Header as LtxHeader, Level, PageEncoding, WalPos, lock_page};
use crate::format::wal::{Chain, HEADER_LEN, PageSize};
use crate::plan::ltx::replica::CopyJob;
use crate::source::tail::WalBytes;

/// Encodes every page of the database as of `job`.
pub(super) fn whole(
    job: &CopyJob,
    wal: &WalBytes,
    db: &File,
    encoding: PageEncoding,
    out: &mut Pieces,
) -> io::Result<Encoded> {
    let start = HEADER_LEN as u64;
    let (header, range) = if job.in_wal && job.at > start {
        let header = expected(wal, job.salt)?;
        (Some(header), Some(Range::scan(wal, Chain::start(&header), job.at)?))
    } else {
        (None, None)
    };
    let (page_size, commit) = match (&header, &range) {
        (Some(header), Some(range)) => (header.page_size, range.commit),
        (None, _) | (_, None) => size(db)?,
    };
    if page_size != job.page_size {
        let what = format!("pages of {page_size} bytes, expected {}", job.page_size);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let end = job.at.max(start);
    let frame = page_size.frame_len();
    let from = if job.name.level == Level::ZERO { start } else { end.saturating_sub(frame).max(start) };
    let node = match &range {
        Some(range) => proof(range.checksum),
        None => last_checksum(job, wal, frame),
    };
    let head = LtxHeader {
        page_size,
        commit,
        min: job.name.min,
        max: job.name.max,
        timestamp: job.stamp.as_millisecond(),
        wal: WalPos { offset: from, size: end - from, salt: job.salt },
        node,
        rolling: None,
    };
    let mut encoder = out.begin(head, encoding)?;
    let nothing = HashMap::new();
    let newest = range.as_ref().map_or(&nothing, |r| &r.newest);
    let lock = lock_page(page_size);
    let mut image = vec![0; page_size.get() as usize];
    for number in (1..=commit).filter(|n| *n != lock) {
        match (newest.get(&number), &header) {
            (Some(at), Some(header)) => page(wal, header, number, *at, &mut image)?,
            (Some(_) | None, _) => file_page(db, number, &mut image)?,
        }
        out.page(&mut encoder, number, &image)?;
    }
    if header.is_some() {
        expected(wal, job.salt)?;
    }
    let trailer = out.finish(encoder)?;
    Ok(Encoded { header: head, trailer, to: None })
}

/// Page size and pages of a database file that holds everything.
fn size(db: &File) -> io::Result<(PageSize, u32)> {
    let mut bytes = [0; DB_HEADER_LEN];
    db.read_exact_at(&mut bytes, 0)?;
    let header = DbHeader::parse(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let pages = db.metadata()?.len() / u64::from(header.page_size.get());
    Ok((header.page_size, header.pages.unwrap_or(u32::try_from(pages).unwrap_or(u32::MAX))))
}

/// The running checksum where the copy stands, if the WAL is still there to say it; else 0, and the next run has to
/// compare pages.
fn last_checksum(job: &CopyJob, wal: &WalBytes, frame: u64) -> u64 {
    let last = wal.frame_before(job.at, frame).ok().flatten();
    match last.filter(|last| last.salt == job.salt && expected(wal, job.salt).is_ok()) {
        Some(last) => proof(last.checksum),
        None => 0,
    }
}
