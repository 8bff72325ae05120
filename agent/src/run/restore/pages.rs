//! Pages on their way into the restored file. Touches that file and, for a huge transaction, a nameless one beside it.
//!
//! Only committed pages are written; of several images of a page in one batch only the newest is. A transaction
//! larger than [`OPEN`] waits for its commit in a scratch file, so that memory does not follow its size.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::uio::pwritev;

use crate::durable;
use crate::format::wal::PageSize;

pub(super) struct Pages {
    size: PageSize,
    /// Where a scratch file may be created.
    dir: PathBuf,
    /// Page images one after the other, and their numbers. The first `committed` belong to ended transactions.
    images: Vec<u8>,
    numbers: Vec<u32>,
    committed: usize,
    /// Earlier pages of the open transaction: number (4 bytes) and image each.
    scratch: Option<File>,
    spilled: usize,
    /// Pages in the database after the last commit of this WAL.
    length: Option<u32>,
}

impl Pages {
    pub(super) fn new(size: PageSize, dir: &Path) -> Self {
        Self {
            size,
            dir: dir.to_owned(),
            images: Vec::new(),
            numbers: Vec::new(),
            committed: 0,
            scratch: None,
            spilled: 0,
            length: None,
        }
    }

    /// One page of a transaction; `commit` is the size of the database in pages if it is the last one, else 0.
    pub(super) fn push(&mut self, file: &File, number: u32, image: &[u8], commit: u32) -> io::Result<()> {
        if self.images.len() + image.len() > BATCH {
            self.write_committed(file)?;
        }
        if self.images.len() + image.len() > OPEN {
            self.spill()?;
        }
        self.numbers.push(number);
        self.images.extend_from_slice(image);
        if commit != 0 {
            self.unspill(file)?;
            self.committed = self.numbers.len();
            self.length = Some(commit);
        }
        Ok(())
    }

    /// The WAL has ended: drops what was never committed and gives the file the size of the last commit.
    ///
    /// Only now, as SQLite's own checkpoint does it: a page that was cut off and came back without being written
    /// (a free page) then has the content it would have after Litestream's restore.
    pub(super) fn finish(&mut self, file: &File) -> io::Result<()> {
        self.numbers.truncate(self.committed);
        self.images.truncate(self.committed * self.size.get() as usize);
        self.spilled = 0;
        self.write_committed(file)?;
        if let Some(pages) = self.length.take() {
            file.set_len(u64::from(pages) * u64::from(self.size.get()))?;
        }
        Ok(())
    }

    /// Writes the newest image of each committed page, neighbours together, and keeps the open transaction.
    fn write_committed(&mut self, file: &File) -> io::Result<()> {
        if self.committed == 0 {
            return Ok(());
        }
        let size = self.size.get() as usize;
        let mut order: Vec<usize> = (0..self.committed).collect();
        order.sort_by_key(|&i| (self.numbers[i], i));
        let newest = |(n, &i): (usize, &usize)| {
            let next = order.get(n + 1).map(|&j| self.numbers[j]);
            (next != Some(self.numbers[i])).then_some(i)
        };
        let newest: Vec<usize> = order.iter().enumerate().filter_map(newest).collect();
        for run in newest.chunk_by(|&a, &b| self.numbers[a].checked_add(1) == Some(self.numbers[b])) {
            for run in run.chunks(VECTORS) {
                let at = (u64::from(self.numbers[run[0]]) - 1) * size as u64;
                let mut parts: Vec<_> =
                    run.iter().map(|&i| IoSlice::new(&self.images[i * size..(i + 1) * size])).collect();
                write_all_vectored_at(file, &mut parts, at)?;
            }
        }
        self.numbers.drain(..self.committed);
        self.images.drain(..self.committed * size);
        self.committed = 0;
        Ok(())
    }

    /// Moves the open transaction, which is all there is, to the scratch file.
    fn spill(&mut self) -> io::Result<()> {
        let scratch = match &mut self.scratch {
            Some(file) => file,
            none => none.insert(durable::scratch(&self.dir)?),
        };
        if self.spilled == 0 {
            scratch.set_len(0)?;
            scratch.seek(SeekFrom::Start(0))?;
        }
        let mut out = io::BufWriter::with_capacity(1 << 20, scratch);
        for (number, image) in self.numbers.iter().zip(self.images.chunks_exact(self.size.get() as usize)) {
            out.write_all(&number.to_le_bytes())?;
            out.write_all(image)?;
        }
        out.flush()?;
        self.spilled += self.numbers.len();
        self.numbers.clear();
        self.images.clear();
        Ok(())
    }

    /// The open transaction has committed: writes its spilled pages, oldest first.
    fn unspill(&mut self, file: &File) -> io::Result<()> {
        let Some(scratch) = self.scratch.as_mut().filter(|_| self.spilled > 0) else { return Ok(()) };
        scratch.seek(SeekFrom::Start(0))?;
        let mut input = io::BufReader::with_capacity(1 << 20, scratch);
        let mut image = vec![0; self.size.get() as usize];
        for _ in 0..self.spilled {
            let mut number = [0; 4];
            input.read_exact(&mut number)?;
            input.read_exact(&mut image)?;
            let number = u64::from(u32::from_le_bytes(number));
            file.write_all_at(&image, (number - 1) * image.len() as u64)?;
        }
        self.spilled = 0;
        Ok(())
    }
}

fn write_all_vectored_at(file: &File, mut parts: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
    while !parts.is_empty() {
        let offset = i64::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        match pwritev(file.as_fd(), parts, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                at += n as u64;
                IoSlice::advance_slices(&mut parts, n);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Bytes of committed pages that are written together: enough to find neighbours and repeated pages.
const BATCH: usize = 4 << 20;
/// Bytes of one open transaction kept in memory.
const OPEN: usize = 8 << 20;
/// The kernel's limit for one vectored write (IOV_MAX).
const VECTORS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SIZE: usize = 512;

    fn restored(frames: &[(u32, u8, u32)]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let mut pages = Pages::new(PageSize::new(SIZE as u32).unwrap(), dir.path());
        for &(number, fill, commit) in frames {
            pages.push(&file, number, &[fill; SIZE], commit).unwrap();
        }
        pages.finish(&file).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no scratch file is left behind");
        std::fs::read(path).unwrap()
    }

    fn fills(bytes: &[u8]) -> Vec<u8> {
        bytes.chunks(SIZE).map(|p| p[0]).collect()
    }

    #[test]
    fn the_newest_image_of_a_page_wins() {
        assert_eq!(fills(&restored(&[(1, 1, 0), (2, 2, 2), (2, 3, 2), (1, 4, 0), (1, 5, 2)])), [5, 3]);
    }

    #[test]
    fn a_transaction_without_commit_is_dropped() {
        assert_eq!(fills(&restored(&[(1, 1, 1), (1, 9, 0), (2, 9, 0)])), [1]);
        assert!(restored(&[(1, 9, 0)]).is_empty());
    }

    #[test]
    fn the_last_commit_gives_the_size() {
        assert_eq!(fills(&restored(&[(1, 1, 0), (2, 1, 0), (3, 1, 3), (1, 2, 1)])), [2]);
        assert_eq!(fills(&restored(&[(1, 1, 4)])), [1, 0, 0, 0]);
    }

    #[test]
    fn a_transaction_larger_than_memory_is_applied_as_one() {
        let open = (OPEN / SIZE) as u32;
        let mut frames: Vec<(u32, u8, u32)> =
            (1..=100).map(|n| (n, 1, if n == 100 { 100 } else { 0 })).collect();
        // Twice over every page, then its commit: 2.5 times what is kept in memory.
        for round in 2..=3 {
            frames.extend((1..=open * 5 / 4).map(|n| (n, round, 0)));
        }
        let uncommitted = restored(&frames);
        assert_eq!(fills(&uncommitted), [1; 100]);
        frames.push((7, 4, open * 5 / 4));
        let mut expected: BTreeMap<u32, u8> = (1..=open * 5 / 4).map(|n| (n, 3)).collect();
        expected.insert(7, 4);
        assert_eq!(fills(&restored(&frames)), expected.into_values().collect::<Vec<_>>());
    }
}
