//! Which image of a page stays, and whether the files of a chain belong together. Touches the result at the end only.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::super::apply::{Applied, ApplyError, ObjectFault};
use crate::format::dbfile::{self, DbHeader};
use crate::format::ltx::{End, FileSum, Header, Name, Pages, Rolling, RunSum, Sum, Txid, lock_page};
use crate::format::wal::PageSize;
use crate::plan::position::Position;

/// Why files that are right, each for itself, do not make a database together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::run::restore) enum MergeFault {
    #[error("page size {found}, but the newer files have {expected}")]
    PageSize { found: PageSize, expected: PageSize },
    #[error("page {number} of {pages} is in none of the files up to this one")]
    Missing { number: u32, pages: u32 },
    #[error("leaves a database with checksum {found:016x}, but the next file continues {expected:016x}")]
    Continues { found: u64, expected: u64 },
    #[error("the database has checksum {found:016x}, this file expects {expected:016x}")]
    Database { found: u64, expected: u64 },
    #[error("the database's header says page size {found}, this file {expected}")]
    DatabasePageSize { found: PageSize, expected: PageSize },
}

/// Images that go to one place of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes of [`Pages::images`].
    pub(super) images: Range<usize>,
    pub(super) at: u64,
}

/// Takes a chain's files, the newest first: for each [`Merge::header`], [`Merge::run`], [`Merge::end`].
pub(super) struct Merge {
    names: Vec<Name>,
    /// The newest file's: it says what the result is.
    newest: Option<Header>,
    current: Option<(usize, FileSum)>,
    written: Bits,
    /// What the file after the current one continues.
    continued: Option<(Txid, Rolling)>,
    /// The checksum the newest file expects of the result, where reading that file alone does not prove it.
    result: Option<Rolling>,
    frames: u64,
}

impl Merge {
    pub(super) fn new(names: Vec<Name>) -> Self {
        Self {
            names,
            newest: None,
            current: None,
            written: Bits::default(),
            continued: None,
            result: None,
            frames: 0,
        }
    }

    pub(super) fn header(&mut self, item: usize, header: Header, sum: Sum) -> Result<(), ApplyError> {
        header.check_name(&self.names[item]).map_err(fault)?;
        let Header { page_size: expected, commit, .. } = *self.newest.get_or_insert(header);
        if header.page_size != expected {
            // The page size changed, and a full copy followed: nothing of what was before it is needed.
            if self.written.first_missing(commit, lock_page(expected)).is_none() {
                (self.current, self.continued) = (None, None);
                return Ok(());
            }
            return Err(fault(MergeFault::PageSize { found: header.page_size, expected }));
        }
        self.current = Some((item, FileSum::new(header, sum)));
        Ok(())
    }

    /// Says where to write those of `pages` that no newer file has.
    ///
    /// As Litestream's merge does it, only the result's size counts: a page that was cut off and came back without
    /// being written (a free page) has the content it had.
    pub(super) fn run(&mut self, sum: RunSum, pages: &Pages, places: &mut Vec<Place>) {
        let (Some((_, current)), Some(newest)) = (&mut self.current, &self.newest) else { return };
        current.add(sum);
        let size = newest.page_size.get() as usize;
        self.frames += pages.numbers().len() as u64;
        for (n, &number) in pages.numbers().iter().enumerate() {
            if number > newest.commit || !self.written.insert(number) {
                continue;
            }
            let (start, at) = (n * size, u64::from(number - 1) * size as u64);
            match places.last_mut() {
                Some(last) if last.images.end == start && last.at + last.images.len() as u64 == at => {
                    last.images.end += size;
                }
                _ => places.push(Place { images: start..start + size, at }),
            }
        }
    }

    pub(super) fn end(&mut self, end: &End) -> Result<(), ApplyError> {
        let Some((item, current)) = self.current.take() else { return Ok(()) };
        let summary = current.check(end).map_err(fault)?;
        let header = summary.header;
        // Files that overlap continue a state in the middle of another: it has no checksum.
        let next = self.continued.filter(|(min, _)| header.max.next() == Some(*min));
        if let (Some((_, expected)), Some(found)) = (next, summary.post_apply)
            && expected != found
        {
            let (found, expected) = (found.stored(), expected.stored());
            return Err(fault(MergeFault::Continues { found, expected }));
        }
        if item == 0 && !header.is_full() {
            self.result = summary.post_apply;
        }
        self.continued = header.rolling.map(|before| (header.min, before));
        Ok(())
    }

    /// Every file is in. Gives the result its size and looks at it.
    pub(super) fn finish(self, file: &File) -> Result<Applied, ApplyError> {
        let Some(Header { commit, page_size, max, .. }) = self.newest else {
            return Err(ApplyError::Io(std::io::Error::other("no file")));
        };
        let lock = lock_page(page_size);
        if let Some(number) = self.written.first_missing(commit, lock) {
            return Err(fault(MergeFault::Missing { number, pages: commit }));
        }
        let size = u64::from(commit) * u64::from(page_size.get());
        file.set_len(size).map_err(ApplyError::Io)?;
        if commit > 0 {
            let mut head = [0; dbfile::HEADER_LEN];
            file.read_exact_at(&mut head, 0).map_err(ApplyError::Io)?;
            let header = DbHeader::parse(&head).map_err(fault)?;
            if header.page_size != page_size {
                let (found, expected) = (header.page_size, page_size);
                return Err(fault(MergeFault::DatabasePageSize { found, expected }));
            }
            if let Some(expected) = header.pages.filter(|pages| *pages > commit) {
                return Err(fault(ObjectFault::Short { found: commit.into(), expected }));
            }
        }
        if let Some(expected) = self.result {
            let found = rolling(file, commit, page_size, lock).map_err(ApplyError::Io)?;
            if found != expected {
                let (found, expected) = (found.stored(), expected.stored());
                return Err(fault(MergeFault::Database { found, expected }));
            }
        }
        let (position, transactions) = (Position::Ltx(max), max.get());
        Ok(Applied { position, transactions, frames: self.frames, size })
    }
}

/// The checksum of a whole database.
fn rolling(file: &File, commit: u32, page_size: PageSize, lock: u32) -> std::io::Result<Rolling> {
    let size = page_size.get();
    let mut images = vec![0; (1 << 20).max(size as usize)];
    let at_once = (images.len() / size as usize) as u32;
    let (mut sum, mut number) = (Rolling::EMPTY, 1);
    while number <= commit {
        let pages = at_once.min(commit - number + 1);
        let images = &mut images[..pages as usize * size as usize];
        file.read_exact_at(images, u64::from(number - 1) * u64::from(size))?;
        for (page, image) in (number..).zip(images.chunks_exact(size as usize)) {
            if page != lock {
                sum = sum.toggle(page, image);
            }
        }
        number = match number.checked_add(pages) {
            Some(next) => next,
            None => break,
        };
    }
    Ok(sum)
}

/// A set of page numbers. Memory follows the pages that are in it, not what a header claims.
#[derive(Debug, Default)]
struct Bits(BTreeMap<u32, Box<[u64; WORDS]>>);

impl Bits {
    /// `false` if it was there.
    fn insert(&mut self, number: u32) -> bool {
        let chunk = self.0.entry(number / CHUNK).or_insert_with(|| Box::new([0; WORDS]));
        let bit = number % CHUNK;
        let (word, mask) = (&mut chunk[(bit / 64) as usize], 1 << (bit % 64));
        let fresh = *word & mask == 0;
        *word |= mask;
        fresh
    }

    fn contains(&self, number: u32) -> bool {
        let bit = number % CHUNK;
        self.0.get(&(number / CHUNK)).is_some_and(|c| c[(bit / 64) as usize] & 1 << (bit % 64) != 0)
    }

    /// The first of `1..=last` that is not in it, `except` aside.
    fn first_missing(&self, last: u32, except: u32) -> Option<u32> {
        let mut number = 1;
        while number <= last {
            let whole = number.is_multiple_of(CHUNK)
                && self.0.get(&(number / CHUNK)).is_some_and(|c| **c == [!0; WORDS]);
            if !whole && !self.contains(number) && number != except {
                return Some(number);
            }
            number = number.checked_add(if whole { CHUNK } else { 1 })?;
        }
        None
    }
}

const WORDS: usize = 512;
const CHUNK: u32 = WORDS as u32 * 64;

fn fault(e: impl Into<ObjectFault>) -> ApplyError {
    ApplyError::Object(e.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_page_that_is_missing_is_found(
            last in 1u32..200_000, holes in proptest::collection::btree_set(1u32..200_000, 0..3),
        ) {
            let mut bits = Bits::default();
            for number in (1..=last).filter(|n| !holes.contains(n)) {
                prop_assert!(bits.insert(number) && !bits.insert(number));
            }
            let expected = holes.iter().find(|n| **n <= last);
            prop_assert_eq!(bits.first_missing(last, u32::MAX), expected.copied());
            if let Some(first) = expected {
                let next = holes.iter().find(|n| *n > first && **n <= last);
                prop_assert_eq!(bits.first_missing(last, *first), next.copied());
            }
        }
    }

    #[test]
    fn a_header_that_claims_much_takes_no_memory() {
        assert_eq!(Bits::default().first_missing(u32::MAX, 0), Some(1));
        let mut bits = Bits::default();
        assert!(bits.insert(u32::MAX) && bits.insert(1));
        assert_eq!((bits.0.len(), bits.first_missing(u32::MAX, 2)), (2, Some(3)));
    }
}
