//! Runs of pages to plain pages, and the sums that prove them. No I/O.

use bytes::Bytes;

use super::checksum::{FLAG, Rolling, Running};
use super::page::{self, BLOCK_HEAD, HEAD};
use super::split::{Cut, End, Run, Splitter};
use super::{Error, HEADER_LEN, Header, Sum};

/// Decoded pages; to be used again and again.
#[derive(Debug, Default)]
pub struct Pages {
    numbers: Vec<u32>,
    /// Longer than `len`: what was allocated once stays.
    images: Vec<u8>,
    size: usize,
    /// For LZ4 frames.
    scratch: Vec<u8>,
}

impl Pages {
    /// Ascending.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// One page after the other, in the order of [`Pages::numbers`].
    pub fn images(&self) -> &[u8] {
        &self.images[..self.numbers.len() * self.size]
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.numbers.iter().copied().zip(self.images().chunks_exact(self.size.max(1)))
    }
}

/// The sums of one run, for [`FileSum::add`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct RunSum {
    sum: Sum,
    rolling: Rolling,
}

impl Run {
    /// Expands every page into `pages`, replacing what was there. Nothing of it is proven before
    /// [`FileSum::check`]: the checksum stands at the end of the file.
    pub fn decode(&self, pages: &mut Pages) -> Result<RunSum, Error> {
        let size = self.page_size.get() as usize;
        let Pages { numbers, images, size: page_size, scratch } = pages;
        *page_size = size;
        numbers.clear();
        if images.len() < self.plain_len() {
            images.resize(self.plain_len(), 0);
        }
        let mut running = Running::new();
        let mut rolling = Rolling::EMPTY;
        let mut rest = self.bytes.clone();
        for image in images.chunks_exact_mut(size).take(self.pages) {
            let at = self.at + (self.bytes.len() - rest.len()) as u64;
            let broken = |(number, fault)| Error::Page { number, at, fault };
            let (number, extent) = page::extent(&rest, self.page_size).map_err(broken)?;
            let page::Extent::Whole(len) = extent else {
                return Err(Error::Truncated { stored: at + rest.len() as u64, inside: "the pages" });
            };
            let frame = rest.split_to(len);
            let (head, payload) = page::split(&frame);
            match head.len() {
                BLOCK_HEAD => page::expand_block(&payload, image),
                _ => page::expand_frame(payload, image, scratch),
            }
            .map_err(|fault| broken((number, fault)))?;
            debug_assert!(head.len() == BLOCK_HEAD || head.len() == HEAD);
            running.update(head);
            running.update(image);
            if self.rolling {
                rolling = rolling.toggle(number, image);
            }
            numbers.push(number);
        }
        Ok(RunSum { sum: running.sum(), rolling })
    }
}

/// Adds up the sums of a file's runs, in order, and compares with what the file says.
#[derive(Debug)]
pub struct FileSum {
    header: Header,
    sum: Sum,
    rolling: Rolling,
}

impl FileSum {
    /// As [`Cut::Header`] brings them.
    pub fn new(header: Header, sum: Sum) -> Self {
        Self { header, sum, rolling: Rolling::EMPTY }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn add(&mut self, run: RunSum) {
        self.sum = self.sum.then(run.sum);
        self.rolling = self.rolling.join(run.rolling);
    }

    /// The file is what it says it is: its own checksum, and that of the database where it holds all of it.
    pub fn check(self, end: &End) -> Result<Summary, Error> {
        let Self { header, sum, rolling } = self;
        let found = sum.then(end.tail).stored();
        if found != end.checksum {
            let at = end.size - 8;
            return Err(Error::Checksum { what: "file", at, found, expected: end.checksum });
        }
        let (at, stored) = (end.size - 16, end.post_apply);
        let wrong = |found| Error::Checksum { what: "database", at, found, expected: stored };
        let post_apply = match header.rolling {
            None if stored != 0 => return Err(wrong(0)),
            None => None,
            Some(_) if header.is_full() && rolling.stored() != stored => return Err(wrong(rolling.stored())),
            Some(_) => Some(Rolling::from_stored(stored).ok_or_else(|| wrong(stored | FLAG))?),
        };
        Ok(Summary { header, pages: end.pages, post_apply, checksum: end.checksum, size: end.size })
    }
}

/// A file that is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub header: Header,
    /// Pages in the file.
    pub pages: u64,
    /// The checksum of the database afterwards, where the file carries one. It is proven for a file that holds all
    /// of the database; otherwise it takes the database to prove it.
    pub post_apply: Option<Rolling>,
    /// The file's checksum.
    pub checksum: u64,
    /// Bytes of the file.
    pub size: u64,
}

/// Reads one file on one thread, a piece at a time.
///
/// Memory: what was fed and not yet taken, and one run. Feed small pieces to many decoders.
pub struct Decoder {
    splitter: Splitter,
    sum: Option<FileSum>,
    pages: Pages,
    /// The next page of `pages` to hand out.
    next: usize,
}

/// What [`Decoder::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Feed more, or [`Decoder::finish`] if there is no more.
    More,
    /// First of all.
    Header(Header),
    /// Ascending by number.
    Page { number: u32, image: &'a [u8] },
    /// Last of all: only now is what came before proven.
    End(Summary),
}

impl Decoder {
    /// Decoding up to `plain` bytes of pages at a time, and at least one page.
    pub fn new(plain: usize) -> Self {
        Self { splitter: Splitter::new(plain), sum: None, pages: Pages::default(), next: 0 }
    }

    pub fn feed(&mut self, stored: Bytes) {
        self.splitter.feed(stored);
    }

    #[expect(clippy::should_implement_trait, reason = "the page is lent, which an iterator cannot do")]
    pub fn next(&mut self) -> Result<Event<'_>, Error> {
        while self.next == self.pages.numbers.len() {
            match (self.splitter.cut()?, &mut self.sum) {
                (Cut::Header(header, sum), none) => {
                    *none = Some(FileSum::new(header, sum));
                    return Ok(Event::Header(header));
                }
                (Cut::Run(run), Some(sum)) => {
                    sum.add(run.decode(&mut self.pages)?);
                    self.next = 0;
                }
                (Cut::End(end), sum) => {
                    let sum = sum.take();
                    let stored = end.size;
                    let sum = sum.ok_or(Error::Truncated { stored, inside: "the header" })?;
                    return sum.check(&end).map(Event::End);
                }
                (Cut::More | Cut::Run(_), _) => return Ok(Event::More),
            }
        }
        let (n, size) = (self.next, self.pages.size);
        self.next += 1;
        Ok(Event::Page { number: self.pages.numbers[n], image: &self.pages.images[n * size..(n + 1) * size] })
    }

    /// To be called when the file has no more bytes and [`Decoder::next`] asks for more.
    pub fn finish(&self) -> Result<(), Error> {
        self.splitter.finish()
    }
}

/// Reads one whole file and hands each page to `page`.
pub fn decode(stored: Bytes, mut page: impl FnMut(u32, &[u8])) -> Result<Summary, Error> {
    let mut decoder = Decoder::new(RUN);
    decoder.feed(stored);
    let mut summary = None;
    loop {
        match decoder.next()? {
            Event::Header(_) => {}
            Event::Page { number, image } => page(number, image),
            Event::End(end) => summary = Some(end),
            Event::More => {
                decoder.finish()?;
                return summary.ok_or(Error::Truncated { stored: HEADER_LEN as u64, inside: "the header" });
            }
        }
    }
}

const RUN: usize = 64 << 10;
