//! Many files to one: of each page the newest. Reads the replica; memory does not follow the files.
//!
//! The inputs are read side by side in the order of pages, each through a buffer of its own share of [`BUFFERS`]; one
//! request at a time, but for the first of each. Nothing stays open in between. Every input is proven by its own
//! checksums before the output is complete (spec/litestream-v05.md §1.7).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::Object;
use crate::format::ltx::{
    Decoder, Encoder, Error, Event, Header, Name, PageEncoding, Refused, Trailer, WalPos, lock_page,
};
use crate::format::wal::PageSize;
use crate::plan::ltx::files::File;
use crate::run::survey::ATTEMPTS;
use crate::run::tries::Tries;
use crate::store::{Store, StoreError};

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{key}: {error}")]
    Input { key: String, error: Error },
    /// Its content is not what its name says.
    #[error("{key}: holds transactions {found}, which is not its name")]
    Misnamed { key: String, found: String },
    #[error("{key}: pages of {found} bytes, those before have {expected}, and it does not hold every page")]
    PageSize { key: String, found: u32, expected: u32 },
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Merges `inputs`, oldest first, as transactions `name` into `object`, which is not published yet.
pub(super) async fn merge(
    store: &Store,
    inputs: &[File],
    name: Name,
    encoding: PageEncoding,
    object: &mut Object<'_>,
) -> Result<Trailer, Failure> {
    let share = (BUFFERS / inputs.len().max(1) as u64).clamp(LEAST, MOST);
    let opening = inputs.iter().map(|file| Input::open(store.clone(), *file, share));
    let opened = futures_util::stream::iter(opening.collect::<Vec<_>>());
    let mut inputs: Vec<Input> = opened.buffered(AT_ONCE).try_collect().await?;
    let header = output(&inputs, name)?;
    let before = outdated(&mut inputs);
    // The date of the newest state in it, as Litestream has it: of a bucket's object the listing shows another.
    object.stamp = Timestamp::from_millisecond(header.timestamp).unwrap_or(object.stamp);
    let mut out = Vec::with_capacity(PIECE + (128 << 10));
    let mut encoder = Encoder::new(header, encoding, &mut out)?;
    // The least page first, and of one page the newest input.
    let mut heads: BinaryHeap<Reverse<(u32, Reverse<usize>)>> = BinaryHeap::with_capacity(inputs.len());
    for (n, input) in inputs.iter_mut().enumerate() {
        if let Some(number) = input.advance().await? {
            heads.push(Reverse((number, Reverse(n))));
        }
    }
    let mut last = 0;
    while let Some(Reverse((number, Reverse(n)))) = heads.pop() {
        let input = &mut inputs[n];
        // Pages a later shrinking cut off.
        if number != last && number <= header.commit {
            encoder.push(number, &input.image, &mut out)?;
            last = number;
        }
        if let Some(number) = input.advance().await? {
            heads.push(Reverse((number, Reverse(n))));
        }
        if out.len() >= PIECE {
            let full = std::mem::replace(&mut out, Vec::with_capacity(PIECE + (128 << 10)));
            object.write(full.into()).await?;
        }
    }
    if let Some((found, first)) = before.zip(inputs.first()).filter(|(_, first)| !first.is_whole()) {
        let (key, expected) = (first.key.clone(), found.get());
        return Err(Failure::PageSize { key, found: first.header.page_size.get(), expected });
    }
    let mut tail = encoder.tail(None)?;
    loop {
        let done = tail.write(&mut out);
        object.write(std::mem::take(&mut out).into()).await?;
        if let Some(trailer) = done {
            return Ok(trailer);
        }
    }
}

/// The header of the merge: from where the first begins to what the last says.
fn output(inputs: &[Input], name: Name) -> Result<Header, Failure> {
    let Some(last) = inputs.last() else { return Err(Refused::NoPages.into()) };
    Ok(Header { min: name.min, max: name.max, wal: WalPos::NONE, node: 0, rolling: None, ..last.header })
}

/// Leaves out the inputs before a change of the page size, and says which size they had: the first one after it holds
/// every page, so nothing of them is needed.
fn outdated(inputs: &mut Vec<Input>) -> Option<PageSize> {
    let size = inputs.last()?.header.page_size;
    let before = inputs.iter().rposition(|i| i.header.page_size != size)?;
    inputs.drain(..=before).next_back().map(|i| i.header.page_size)
}

/// One file, read as its pages are asked for.
struct Input {
    store: Store,
    key: String,
    size: u64,
    /// Bytes fetched.
    at: u64,
    share: u64,
    decoder: Decoder,
    header: Header,
    /// The page it stands on.
    image: Vec<u8>,
    /// Pages so far.
    pages: u32,
}

impl Input {
    async fn open(store: Store, file: File, share: u64) -> Result<Self, Failure> {
        let key = file.name.key(store.ltx_layout());
        let mut decoder = Decoder::new(1);
        let mut at = 0;
        let header = loop {
            let error = match decoder.next() {
                Ok(Event::Header(header)) => break header,
                Ok(Event::More) if at < file.size => None,
                Ok(Event::More) => Some(decoder.finish().err().unwrap_or(Error::Empty)),
                Ok(Event::Page { .. } | Event::End(_)) => Some(Error::Empty),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                return Err(Failure::Input { key, error });
            }
            let end = (at + share).min(file.size);
            decoder.feed(Tries::new(ATTEMPTS).ask(|| store.get(&key, Some(at..end))).await?);
            at = end;
        };
        if (header.min, header.max) != (file.name.min, file.name.max) {
            return Err(Failure::Misnamed { key, found: format!("{}-{}", header.min, header.max) });
        }
        let image = Vec::with_capacity(header.page_size.get() as usize);
        Ok(Self { store, key, size: file.size, at, share, decoder, header, image, pages: 0 })
    }

    /// It held every page of the database, as far as it was read.
    fn is_whole(&self) -> bool {
        let Header { commit, page_size, .. } = self.header;
        self.pages == commit - u32::from(lock_page(page_size) <= commit)
    }

    /// Steps to the next page; `None` once the file is read to its end and proven.
    async fn advance(&mut self) -> Result<Option<u32>, Failure> {
        loop {
            let error = match self.decoder.next() {
                Ok(Event::Page { number, image }) => {
                    self.pages += 1;
                    self.image.clear();
                    self.image.extend_from_slice(image);
                    return Ok(Some(number));
                }
                Ok(Event::End(_)) if self.at == self.size => {
                    self.image = Vec::new();
                    return Ok(None);
                }
                Ok(Event::End(summary)) => Some(Error::Trailing { at: summary.size }),
                Ok(Event::More) if self.at < self.size => None,
                Ok(Event::More) => Some(
                    self.decoder
                        .finish()
                        .err()
                        .unwrap_or(Error::Truncated { stored: self.size, inside: "the pages" }),
                ),
                Ok(Event::Header(_)) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                return Err(Failure::Input { key: self.key.clone(), error });
            }
            let end = (self.at + self.share).min(self.size);
            let part = Tries::new(ATTEMPTS).ask(|| self.store.get(&self.key, Some(self.at..end))).await?;
            self.decoder.feed(part);
            self.at = end;
        }
    }
}

/// All buffers together, and the bounds of one.
const BUFFERS: u64 = 8 << 20;
const LEAST: u64 = 16 << 10;
pub(super) const MOST: u64 = 1 << 20;
/// Files opened at a time.
const AT_ONCE: usize = 8;
/// Encoded bytes written at a time.
const PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests;
