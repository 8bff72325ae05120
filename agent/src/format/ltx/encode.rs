//! Pages to one LTX file. No I/O; memory is 3 to 7 bytes per page, for the index at the end.

use super::checksum::{Rolling, Running};
use super::index::{get, put};
use super::page::{BLOCK_HEAD, HEAD, PageEncoding, compress_page};
use super::{Error, HEADER_LEN, Header, PageFault, lock_page};

/// Writes one file: [`Encoder::new`], pages in ascending order, [`Encoder::tail`].
///
/// What it appends to the caller's buffer may be taken out at any time. To share the work between threads, compress
/// with [`compress_page`] anywhere and hand the results to [`Encoder::push_compressed`] in order.
pub struct Encoder {
    header: Header,
    encoding: PageEncoding,
    sum: Running,
    /// Bytes written so far.
    at: u64,
    last: u32,
    pages: u64,
    /// Of each page, as varints: how far its number is from the one before, and the size of its frame.
    entries: Vec<u8>,
    rolling: Rolling,
}

/// Why pages do not make a file: a mistake of whoever brings them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Header(Error),
    #[error("page {number}: {fault}")]
    Page { number: u32, fault: PageFault },
    #[error("the pages end after page {last}, expected all {commit} of the database")]
    Incomplete { last: u32, commit: u32 },
    #[error("a database of no pages cannot be said without a checksum of it")]
    NoPages,
}

impl Encoder {
    /// Appends the header to `out`. `encoding` is that of every page.
    pub fn new(header: Header, encoding: PageEncoding, out: &mut Vec<u8>) -> Result<Self, Refused> {
        header.check().map_err(Refused::Header)?;
        if header.commit == 0 && header.rolling.is_none() {
            return Err(Refused::NoPages);
        }
        let bytes = header.encode();
        let mut sum = Running::new();
        sum.update(&bytes);
        out.extend_from_slice(&bytes);
        let at = HEADER_LEN as u64;
        Ok(Self {
            header,
            encoding,
            sum,
            at,
            last: 0,
            pages: 0,
            entries: Vec::new(),
            rolling: Rolling::EMPTY,
        })
    }

    /// Appends a page, larger in number than the one before.
    ///
    /// The lock page is refused, as is a gap where the file starts at transaction 1. An error leaves `out` as it was.
    pub fn push(&mut self, number: u32, image: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        self.check(number, image)?;
        let start = out.len();
        out.resize(start + self.head_len(), 0);
        compress_page(self.encoding, image, out);
        self.seal(number, image, start, out);
        Ok(())
    }

    /// The same for a page whose payload [`compress_page`] has made, with the encoding of this file, of `image`.
    pub fn push_compressed(
        &mut self,
        number: u32,
        image: &[u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.check(number, image)?;
        let start = out.len();
        out.resize(start + self.head_len(), 0);
        out.extend_from_slice(payload);
        self.seal(number, image, start, out);
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.at
    }

    /// Pages written so far.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Every page is in. `post_apply` is the checksum of the database afterwards, for a file with checksums that does
    /// not start at transaction 1; of one that does it is known, and a file without has none.
    pub fn tail(self, post_apply: Option<Rolling>) -> Result<Tail, Refused> {
        let Self { header, mut sum, at, last, entries, rolling, pages, .. } = self;
        let (commit, lock) = (header.commit, lock_page(header.page_size));
        if header.is_full() && last != commit && !(commit == lock && last + 1 == lock) {
            return Err(Refused::Incomplete { last, commit });
        }
        let post_apply = match header.rolling {
            None => 0,
            Some(_) if header.is_full() => rolling.stored(),
            Some(_) => post_apply.unwrap_or(Rolling::EMPTY).stored(),
        };
        sum.update(&[0; HEAD]);
        Ok(Tail {
            sum,
            at,
            entries,
            taken: 0,
            number: 0,
            offset: HEADER_LEN as u64,
            index: 0,
            started: false,
            post_apply,
            pages,
        })
    }

    /// Appends the rest at once.
    pub fn finish(self, post_apply: Option<Rolling>, out: &mut Vec<u8>) -> Result<Trailer, Refused> {
        let mut tail = self.tail(post_apply)?;
        loop {
            if let Some(trailer) = tail.write(out) {
                return Ok(trailer);
            }
        }
    }

    fn head_len(&self) -> usize {
        match self.encoding {
            PageEncoding::Block => BLOCK_HEAD,
            PageEncoding::Frame => HEAD,
        }
    }

    fn check(&self, number: u32, image: &[u8]) -> Result<(), Refused> {
        let Self { header, last: after, .. } = *self;
        let lock = lock_page(header.page_size);
        let expected = if after + 1 == lock { lock + 1 } else { after.saturating_add(1) };
        let size = header.page_size.get() as usize;
        let fault = match number {
            0 => PageFault::Zero,
            n if n == lock => PageFault::Lock,
            n if n <= after => PageFault::Order { after },
            n if n > header.commit => PageFault::Beyond { commit: header.commit },
            n if header.is_full() && n != expected => PageFault::Gap { expected },
            _ if image.len() != size => PageFault::Length { found: image.len(), expected: size },
            _ => return Ok(()),
        };
        Err(Refused::Page { number, fault })
    }

    /// Fills in the head of the frame that stands at `start`, and counts it.
    fn seal(&mut self, number: u32, image: &[u8], start: usize, out: &mut [u8]) {
        let frame = &mut out[start..];
        let (size, head) = (frame.len(), self.head_len());
        frame[..4].copy_from_slice(&number.to_be_bytes());
        frame[4..HEAD].copy_from_slice(&self.encoding.flags().to_be_bytes());
        if self.encoding == PageEncoding::Block {
            frame[HEAD..BLOCK_HEAD].copy_from_slice(&((size - head) as u32).to_be_bytes());
        }
        self.sum.update(&frame[..head]);
        self.sum.update(image);
        put((number - self.last).into(), &mut self.entries);
        put(size as u64, &mut self.entries);
        if self.header.rolling.is_some() && self.header.is_full() {
            self.rolling = self.rolling.toggle(number, image);
        }
        self.last = number;
        self.pages += 1;
        self.at += size as u64;
    }
}

/// What comes after the pages: the index and the checksums, a piece at a time.
pub struct Tail {
    sum: Running,
    at: u64,
    entries: Vec<u8>,
    taken: usize,
    /// Of the next entry's page: the number before it, and its offset.
    number: u32,
    offset: u64,
    /// Bytes of the index so far.
    index: u64,
    started: bool,
    post_apply: u64,
    pages: u64,
}

/// A file that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The file's checksum.
    pub checksum: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Pages in it.
    pub pages: u64,
}

impl Tail {
    /// Appends at most [`Tail::PIECE`] bytes and a little; `Some` when that was the last of the file.
    pub fn write(&mut self, out: &mut Vec<u8>) -> Option<Trailer> {
        let start = out.len();
        if !std::mem::replace(&mut self.started, true) {
            out.extend_from_slice(&[0; HEAD]);
        }
        self.at += (out.len() - start) as u64;
        let start = out.len();
        while let Some((gap, size, rest)) = self.entry() {
            self.taken = self.entries.len() - rest;
            self.number += gap;
            for value in [self.number.into(), self.offset, size] {
                put(value, out);
            }
            self.offset += size;
            if out.len() - start >= Self::PIECE {
                break;
            }
        }
        let over = self.taken == self.entries.len();
        if over {
            out.push(0);
        }
        self.index += (out.len() - start) as u64;
        if over {
            out.extend_from_slice(&self.index.to_be_bytes());
            out.extend_from_slice(&self.post_apply.to_be_bytes());
        }
        self.sum.update(&out[start..]);
        self.at += (out.len() - start) as u64;
        over.then(|| {
            let checksum = self.sum.sum().stored();
            out.extend_from_slice(&checksum.to_be_bytes());
            Trailer { checksum, size: self.at + 8, pages: self.pages }
        })
    }

    /// The gap and size of the next entry, and how many bytes are behind it.
    fn entry(&self) -> Option<(u32, u64, usize)> {
        let (gap, rest) = get(&self.entries[self.taken..])?;
        let (size, rest) = get(rest)?;
        Some((u32::try_from(gap).ok()?, size, rest.len()))
    }

    /// Bytes of a piece.
    pub const PIECE: usize = 64 << 10;
}

/// One whole file of `pages`, ascending.
pub fn encode<'a>(
    header: Header,
    encoding: PageEncoding,
    pages: impl IntoIterator<Item = (u32, &'a [u8])>,
) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(header, encoding, &mut out)?;
    for (number, image) in pages {
        encoder.push(number, image, &mut out)?;
    }
    encoder.finish(None, &mut out)?;
    Ok(out)
}
