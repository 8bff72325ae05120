//! A file's stored bytes, cut into runs of pages. No I/O; memory is what was fed and not yet taken.
//!
//! Everything that needs no decoding is checked here, in order: numbers, lengths, the index, the end.

use bytes::{Buf, Bytes, BytesMut};

use super::checksum::Running;
use super::index::{IndexReader, Listed};
use super::page::{self, Extent, HEAD};
use super::{Error, HEADER_LEN, Header, PageFault, Sum, lock_page};
use crate::format::wal::PageSize;

/// Cuts a file as it comes.
///
/// ```text
/// Header ─▶ Pages ─▶ Index ─▶ Trailer ─▶ Done
/// ```
pub struct Splitter {
    input: Input,
    state: State,
    /// Plain bytes in a run.
    limit: usize,
}

/// What [`Splitter::cut`] found.
#[derive(Debug)]
pub enum Cut {
    /// Feed more, or [`Splitter::finish`] if there is no more.
    More,
    /// First of all, with the sum of its bytes.
    Header(Header, Sum),
    Run(Run),
    /// The file is complete and its pages are what its index says. [`FileSum::check`](super::FileSum::check) is next.
    End(End),
}

/// What the end of a file says about the rest.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The sum of everything behind the pages and before the checksum.
    pub(super) tail: Sum,
    /// The checksum of the database afterwards, as stored; and that of the file.
    pub(super) post_apply: u64,
    pub(super) checksum: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Pages in the file.
    pub pages: u64,
}

/// Page frames one after the other, still as stored.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) bytes: Bytes,
    /// Offset in the file.
    pub(super) at: u64,
    pub(super) pages: usize,
    pub(super) page_size: PageSize,
    /// The file's pages are all of the database's, and it has a checksum of that.
    pub(super) rolling: bool,
}

impl Run {
    /// Pages in it.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Bytes of all its pages.
    pub fn plain_len(&self) -> usize {
        self.pages * self.page_size.get() as usize
    }

    /// Bytes it takes in the file.
    pub fn stored_len(&self) -> usize {
        self.bytes.len()
    }
}

enum State {
    Header,
    Pages(Pages),
    Index { pages: Pages, reader: IndexReader, tail: Running },
    Trailer { pages: Pages, index_len: u64, tail: Running },
    Done,
}

/// The pages so far.
#[derive(Debug, Clone, Copy)]
struct Pages {
    header: Header,
    last: u32,
    listed: Listed,
}

impl Splitter {
    /// With runs of up to `plain` bytes of pages, and at least one page.
    pub fn new(plain: usize) -> Self {
        Self { input: Input::default(), state: State::Header, limit: plain }
    }

    pub fn feed(&mut self, stored: Bytes) {
        self.input.push(stored);
    }

    /// The next thing in what was fed.
    pub fn cut(&mut self) -> Result<Cut, Error> {
        loop {
            let at = self.input.at;
            match &mut self.state {
                State::Header => {
                    let Some(bytes) = self.input.take(HEADER_LEN) else { return Ok(Cut::More) };
                    let Some(raw) = bytes.first_chunk() else { return Ok(Cut::More) };
                    let header = Header::parse(raw)?;
                    self.state = State::Pages(Pages { header, last: 0, listed: Listed::default() });
                    return Ok(Cut::Header(header, Sum::of(&bytes)));
                }
                State::Pages(pages) => {
                    let (run, end) = pages.run(&mut self.input, self.limit)?;
                    if let Some(run) = run {
                        return Ok(Cut::Run(run));
                    }
                    if !end {
                        return Ok(Cut::More);
                    }
                    let Some(zeros) = self.input.take(HEAD) else { return Ok(Cut::More) };
                    pages.check_all(at)?;
                    let mut tail = Running::new();
                    tail.update(&zeros);
                    let reader = IndexReader::new(pages.listed, HEADER_LEN as u64, at, self.input.at);
                    self.state = State::Index { pages: *pages, reader, tail };
                }
                State::Index { pages, reader, tail } => {
                    let Some(bytes) = self.input.chunk() else { return Ok(Cut::More) };
                    let (n, over) = reader.push(bytes)?;
                    tail.update(&bytes[..n]);
                    if over {
                        let (pages, index_len, tail) = (*pages, reader.len, tail.clone());
                        self.state = State::Trailer { pages, index_len, tail };
                    }
                    self.input.skip(n);
                }
                State::Trailer { pages, index_len, tail } => {
                    let Some(mut bytes) = self.input.take(TRAILER) else { return Ok(Cut::More) };
                    tail.update(&bytes[..16]);
                    let (found, post_apply, checksum) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u64());
                    if found != *index_len {
                        let (entry, expected) = (pages.listed.pages, *index_len);
                        return Err(Error::Index { at, entry, what: "size field", found, expected });
                    }
                    let (size, tail) = (self.input.at, tail.sum());
                    let end = End { tail, post_apply, checksum, size, pages: pages.listed.pages };
                    self.state = State::Done;
                    return Ok(Cut::End(end));
                }
                State::Done if self.input.is_empty() => return Ok(Cut::More),
                State::Done => return Err(Error::Trailing { at }),
            }
        }
    }

    /// To be called when the file has no more bytes and [`Splitter::cut`] asks for more.
    pub fn finish(&self) -> Result<(), Error> {
        let stored = self.input.end();
        let inside = match &self.state {
            State::Done if self.input.is_empty() => return Ok(()),
            State::Done => return Err(Error::Trailing { at: self.input.at }),
            State::Header if stored == 0 => return Err(Error::Empty),
            State::Header => "the header",
            State::Pages(_) => "the pages",
            State::Index { .. } => "the page index",
            State::Trailer { .. } => "the trailer",
        };
        Err(Error::Truncated { stored, inside })
    }
}

impl Pages {
    /// As many whole page frames as stand one after the other in memory, and whether the end of the pages follows.
    fn run(&mut self, input: &mut Input, limit: usize) -> Result<(Option<Run>, bool), Error> {
        let page_size = self.header.page_size;
        let most = (limit / page_size.get() as usize).max(1);
        let (mut len, mut count) = (0, 0);
        let end = loop {
            let Some(rest) = input.chunk().and_then(|c| c.get(len..)) else { break false };
            let at = input.at + len as u64;
            let (number, extent) =
                page::extent(rest, page_size).map_err(|(number, fault)| Error::Page { number, at, fault })?;
            match extent {
                Extent::Whole(size) => {
                    self.follow(number).map_err(|fault| Error::Page { number, at, fault })?;
                    self.listed.push(number, size as u64);
                    len += size;
                    count += 1;
                    if count == most {
                        break false;
                    }
                }
                Extent::End => break true,
                // A run ends where a piece of the input ends; what overlaps becomes one of its own.
                Extent::Need(_) if count > 0 => break false,
                Extent::Need(n) if !input.join(n) => break false,
                Extent::Need(_) => {}
            }
        };
        let at = input.at;
        let run = (count > 0).then(|| input.take(len)).flatten();
        let rolling = self.header.rolling.is_some() && self.header.is_full();
        Ok((run.map(|bytes| Run { bytes, at, pages: count, page_size, rolling }), end))
    }

    /// Whether page `number` may stand next.
    fn follow(&mut self, number: u32) -> Result<(), PageFault> {
        let Self { header, last: after, .. } = *self;
        let lock = lock_page(header.page_size);
        let expected = if after.checked_add(1) == Some(lock) { lock + 1 } else { after.saturating_add(1) };
        match number {
            n if n == lock => Err(PageFault::Lock),
            n if n <= after => Err(PageFault::Order { after }),
            n if header.is_full() && n != expected => Err(PageFault::Gap { expected }),
            n if n > header.commit => Err(PageFault::Beyond { commit: header.commit }),
            n => {
                self.last = n;
                Ok(())
            }
        }
    }

    /// A file from nothing holds the last page too.
    fn check_all(&self, at: u64) -> Result<(), Error> {
        let Self { header: Header { commit, page_size, .. }, last, .. } = *self;
        // The lock page may be the last one: of it there is nothing to hold.
        let all = last == commit || last.checked_add(1) == Some(commit) && commit == lock_page(page_size);
        if self.header.is_full() && !all {
            return Err(Error::Incomplete { at, last, commit });
        }
        Ok(())
    }
}

/// Fed bytes not yet taken. What lies in one piece is never copied; what overlaps two pieces is joined.
#[derive(Default)]
struct Input {
    /// Comes first.
    joined: BytesMut,
    parts: std::collections::VecDeque<Bytes>,
    /// Offset in the file of the first byte.
    at: u64,
}

impl Input {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.parts.push_back(part);
        }
    }

    fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.parts.is_empty()
    }

    /// Where the bytes fed so far end.
    fn end(&self) -> u64 {
        self.at + (self.joined.len() + self.parts.iter().map(Bytes::len).sum::<usize>()) as u64
    }

    /// The first bytes that lie together.
    fn chunk(&self) -> Option<&[u8]> {
        match self.joined.is_empty() {
            true => self.parts.front().map(|p| &p[..]),
            false => Some(&self.joined),
        }
    }

    /// Brings exactly `n` bytes together, more than [`Input::chunk`] has; `false` if there are not so many. Then as
    /// many as there are.
    fn join(&mut self, n: usize) -> bool {
        while self.joined.len() < n {
            let Some(front) = self.parts.front_mut() else { return false };
            let more = front.split_to(front.len().min(n - self.joined.len()));
            self.joined.extend_from_slice(&more);
            if front.is_empty() {
                self.parts.pop_front();
            }
        }
        true
    }

    /// `n` bytes, or none of them.
    fn take(&mut self, n: usize) -> Option<Bytes> {
        let whole = self.joined.is_empty() && self.parts.front().is_some_and(|p| p.len() >= n);
        if !whole && !self.join(n) {
            return None;
        }
        self.at += n as u64;
        if !whole {
            return Some(self.joined.split_to(n).freeze());
        }
        let front = self.parts.front_mut()?;
        let taken = front.split_to(n);
        if front.is_empty() {
            self.parts.pop_front();
        }
        Some(taken)
    }

    /// Drops `n` bytes of the first [`Input::chunk`].
    fn skip(&mut self, n: usize) {
        let _ = self.take(n);
    }
}

/// Size of the index, two checksums.
const TRAILER: usize = 24;
