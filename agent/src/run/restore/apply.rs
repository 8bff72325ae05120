//! Content of the plan's objects, in order, into the restored file. Touches that file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frames::{Frames, WalFault};
use super::ltx::MergeFault;
use super::pages::Pages;
use crate::format::dbfile::{self, DbFault, DbHeader};
use crate::format::layout::{Name, Pos, WalIndex};
use crate::format::ltx;
use crate::format::lz4;
use crate::format::note::Note;
use crate::plan::position::Position;
use crate::plan::restore::Item;

/// Why an object cannot be part of the restored file.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectFault {
    #[error(transparent)]
    Frame(#[from] lz4::Error),
    #[error(transparent)]
    Wal(#[from] WalFault),
    #[error(transparent)]
    Ltx(#[from] ltx::Error),
    #[error(transparent)]
    Merge(#[from] MergeFault),
    #[error(transparent)]
    Database(#[from] DbFault),
    #[error("{found} bytes are not a whole number of pages of {page} bytes")]
    Pages { found: u64, page: u32 },
    #[error(
        "it is whole only with WAL {index} up to byte {offset}, but that ends at {ends}: its end is missing"
    )]
    Base { index: WalIndex, offset: u64, ends: String },
    #[error("the result has {found} pages, its header says {expected}: WAL is missing after this object")]
    Short { found: u64, expected: u32 },
}

/// Why applying stopped.
#[derive(Debug)]
pub(super) enum ApplyError {
    Object(ObjectFault),
    /// Writing the result.
    Io(io::Error),
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub position: Position,
    /// Transactions applied to a base; of an LTX chain, which has none, all that were ever numbered.
    pub transactions: u64,
    /// Frames of WAL, or of pages, that were read.
    pub frames: u64,
    /// Bytes of the restored file.
    pub size: u64,
}

/// Takes objects in the order of the plan: [`Applier::start`], content, [`Applier::end`] for each.
pub(super) struct Applier {
    items: Arc<[Item]>,
    file: Arc<File>,
    dir: PathBuf,
    content: lz4::Content,
    /// Number and name of the one that is coming in.
    at: usize,
    item: Name,
    /// The beginning of the base.
    head: Vec<u8>,
    /// The WAL the base says it needs.
    needs: Option<(WalIndex, u64)>,
    wal: Option<(Frames, Option<Pages>)>,
    position: Pos,
    transactions: u64,
    frames: u64,
}

impl Applier {
    /// `items` are a plan's: the base and then the segments.
    pub(super) fn new(items: Arc<[Item]>, file: Arc<File>, dir: &Path) -> Self {
        let item = items[0].name;
        let position = Pos { generation: item.generation(), index: item.index(), offset: 0 };
        Self {
            items,
            file,
            dir: dir.to_owned(),
            content: lz4::Content::new(),
            at: 0,
            item,
            head: Vec::new(),
            needs: None,
            wal: None,
            position,
            transactions: 0,
            frames: 0,
        }
    }

    /// The content of item number `item` comes next. The base's content must be in the file by then.
    pub(super) fn start(&mut self, item: usize) -> Result<(), ApplyError> {
        let name = self.items[item].name;
        self.content = lz4::Content::new();
        if let Name::Segment { index, offset, .. } = name {
            if self.wal.is_none() {
                let header = self.base_header()?;
                self.wal = Some((Frames::new(header.map(|h| h.page_size)), None));
            }
            if offset == 0 {
                self.end_of_wal()?;
                self.position.index = index;
                self.position.offset = 0;
            }
            if let Some((frames, _)) = &mut self.wal {
                frames.segment(&name).map_err(fault)?;
            }
        }
        (self.at, self.item) = (item, name);
        Ok(())
    }

    /// What the item says about the objects before it.
    pub(super) fn note(&mut self, note: Note) -> Result<(), ApplyError> {
        match (note, self.item, &self.wal) {
            (Note::Base { index, offset }, Name::Snapshot { .. }, _) => self.needs = Some((index, offset)),
            (Note::Follows { end, checksum }, Name::Segment { offset: 0, .. }, Some((frames, _))) => {
                frames.follows(end, checksum).map_err(fault)?;
            }
            // A note in the wrong place says nothing.
            (Note::Base { .. } | Note::Follows { .. }, _, _) => {}
        }
        Ok(())
    }

    /// Content of the base: where it belongs in the file. Whoever decoded it writes it there.
    pub(super) fn base(&mut self, plain: &[u8]) -> u64 {
        let at = self.content.size();
        self.content.update(plain);
        let room = dbfile::HEADER_LEN - self.head.len();
        self.head.extend_from_slice(&plain[..plain.len().min(room)]);
        at
    }

    /// Content of a segment.
    pub(super) fn segment(&mut self, plain: &[u8]) -> Result<(), ApplyError> {
        self.content.update(plain);
        let Some((frames, pages)) = &mut self.wal else { return Ok(()) };
        let (file, dir) = (&self.file, &self.dir);
        let (position, transactions, count) = (&mut self.position, &mut self.transactions, &mut self.frames);
        frames.push(plain, |header, image, chain| {
            let pages = pages.get_or_insert_with(|| Pages::new(chain.page_size, dir));
            pages.push(file, header.page, image, header.commit).map_err(ApplyError::Io)?;
            *count += 1;
            if header.commit != 0 {
                *transactions += 1;
                position.offset = chain.offset;
            }
            Ok(())
        })
    }

    /// The item is complete; compares with what its frame says about it.
    pub(super) fn end(&mut self, checksum: Option<u32>, size: Option<u64>) -> Result<(), ApplyError> {
        self.content.check(checksum, size).map_err(fault)?;
        if let Name::Snapshot { .. } = self.item {
            let found = self.content.size();
            if let Some(header) = self.base_header()?
                && !found.is_multiple_of(u64::from(header.page_size.get()))
            {
                return Err(fault(ObjectFault::Pages { found, page: header.page_size.get() }));
            }
        }
        Ok(())
    }

    /// Every item is in: finishes the last WAL and looks at the result. An error comes with the item at fault.
    pub(super) fn finish(mut self) -> Result<Applied, (usize, ApplyError)> {
        let checked = self.check();
        checked.map_err(|e| (self.at, e))
    }

    fn check(&mut self) -> Result<Applied, ApplyError> {
        use std::os::unix::fs::FileExt;
        let end = self.wal.as_ref().map_or(0, |(frames, _)| frames.end());
        let reached = (self.position.index, end);
        if let Some((index, offset)) = self.needs.filter(|needs| *needs > reached) {
            self.at = 0;
            return Err(fault(ObjectFault::Base { index, offset, ends: format!("{}:{end}", reached.0) }));
        }
        self.end_of_wal()?;
        let size = self.file.metadata().map_err(ApplyError::Io)?.len();
        let (position, transactions, frames) = (Position::Wal(self.position), self.transactions, self.frames);
        let applied = Applied { position, transactions, frames, size };
        if size == 0 {
            return Ok(applied);
        }
        let mut head = [0; dbfile::HEADER_LEN];
        self.file.read_exact_at(&mut head, 0).map_err(ApplyError::Io)?;
        let header = DbHeader::parse(&head).map_err(fault)?;
        let found = size / u64::from(header.page_size.get());
        match header.pages {
            Some(expected) if u64::from(expected) > found => {
                Err(fault(ObjectFault::Short { found, expected }))
            }
            _ => Ok(applied),
        }
    }

    /// A base of zero bytes is a database that nobody has written to yet: it has no header.
    fn base_header(&self) -> Result<Option<DbHeader>, ApplyError> {
        match self.head.is_empty() {
            true => Ok(None),
            false => DbHeader::parse(&self.head).map(Some).map_err(fault),
        }
    }

    fn end_of_wal(&mut self) -> Result<(), ApplyError> {
        let Some((frames, pages)) = &mut self.wal else { return Ok(()) };
        frames.finish().map_err(fault)?;
        match pages {
            Some(pages) => pages.finish(&self.file).map_err(ApplyError::Io),
            None => Ok(()),
        }
    }
}

impl From<ObjectFault> for ApplyError {
    fn from(e: ObjectFault) -> Self {
        Self::Object(e)
    }
}

impl From<WalFault> for ApplyError {
    fn from(e: WalFault) -> Self {
        fault(e)
    }
}

fn fault(e: impl Into<ObjectFault>) -> ApplyError {
    ApplyError::Object(e.into())
}
