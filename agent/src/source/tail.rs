//! Where a segment's bytes come from: the live WAL, or the held tail of one that has restarted. Memory and `-wal`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::format::wal::{Chain, FRAME_HEADER_LEN, FrameHeader, HEADER_LEN, Header};

/// Bytes of one incarnation of the WAL. Offsets count from the start of the WAL file.
#[derive(Debug, Clone)]
pub enum WalBytes {
    Live(Arc<File>),
    Held { from: u64, bytes: Bytes },
}

impl WalBytes {
    /// Fills `buf` from `offset`.
    pub fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Live(file) => file.read_exact_at(buf, offset),
            Self::Held { from, bytes } => {
                let at = offset.checked_sub(*from).and_then(|o| usize::try_from(o).ok());
                let slice = at.and_then(|at| bytes.get(at..at.checked_add(buf.len())?));
                let slice = slice.ok_or(io::ErrorKind::UnexpectedEof)?;
                buf.copy_from_slice(slice);
                Ok(())
            }
        }
    }

    /// The header that starts the WAL.
    pub fn header(&self) -> io::Result<Header> {
        let mut bytes = [0; HEADER_LEN];
        self.read(&mut bytes, 0)?;
        Header::parse(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// The frame header that ends at `end`; `None` at the end of the WAL header.
    pub fn frame_before(&self, end: u64, frame_len: u64) -> io::Result<Option<FrameHeader>> {
        let Some(at) = end.checked_sub(frame_len).filter(|at| *at >= HEADER_LEN as u64) else {
            return Ok(None);
        };
        let mut head = [0; FRAME_HEADER_LEN];
        self.read(&mut head, at)?;
        Ok(Some(FrameHeader::parse(&head)))
    }

    /// The verified position `offset`, from the checksum the frame before it carries.
    pub fn chain_at(&self, header: &Header, offset: u64) -> io::Result<Chain> {
        let start = Chain::start(header);
        Ok(match self.frame_before(offset, header.page_size.frame_len())? {
            Some(last) => Chain { checksum: last.checksum, offset, ..start },
            None => start,
        })
    }
}

/// The tail of an ended incarnation: what somebody has not acknowledged, with what is needed to read on from there.
#[derive(Debug, Clone)]
pub struct Tail {
    pub incarnation: u64,
    pub header: Header,
    /// Starts at the WAL header when nothing of it is acknowledged, else one frame before what is needed.
    pub bytes: WalBytes,
}

impl Tail {
    /// Are these bytes, and what verifying them needs, all in memory?
    pub fn covers(&self, from: u64, to: u64) -> bool {
        match &self.bytes {
            WalBytes::Live(_) => true,
            WalBytes::Held { from: start, bytes } => {
                let before = from.saturating_sub(self.header.page_size.frame_len());
                let first = if before < HEADER_LEN as u64 { 0 } else { before };
                *start <= first && to <= start + bytes.len() as u64
            }
        }
    }
}

/// The tails held in memory, shared between the thread that captures and those that ship.
#[derive(Debug, Clone, Default)]
pub struct Tails(Arc<Mutex<VecDeque<Tail>>>);

impl Tails {
    /// Keeps `tail`, in place of an earlier one of the same incarnation.
    pub fn hold(&self, tail: Tail) {
        let mut all = self.lock();
        all.retain(|t| t.incarnation != tail.incarnation);
        all.push_back(tail);
    }

    pub fn get(&self, incarnation: u64) -> Option<Tail> {
        self.lock().iter().find(|t| t.incarnation == incarnation).cloned()
    }

    /// Takes the tail of this incarnation out.
    pub fn take(&self, incarnation: u64) -> Option<Tail> {
        let mut all = self.lock();
        let at = all.iter().position(|t| t.incarnation == incarnation)?;
        all.remove(at)
    }

    /// Drops every incarnation before `keep`.
    pub fn forget(&self, keep: u64) {
        self.lock().retain(|t| t.incarnation >= keep);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Tail>> {
        // A panic while holding the lock leaves a valid queue: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
