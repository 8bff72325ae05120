//! One page frame: how long it is, what it expands to, how it is made. Bytes in, bytes out.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | page number |
//! | 4..6 | flags: 1 = a size and an LZ4 block follow; 0 = an LZ4 frame follows |
//! | 6..10 | size of the block, with flag 1 only |
//! | … | the block or the frame; expands to exactly one page |
//!
//! Litestream's frames are `04224d18 64 40 a7`, one block of at most 64 KiB, `00000000`, the xxh32 of the page.
//! Source: spec/litestream-v05.md §1.2.

use ::lz4::block::{CompressionMode, compress_to_buffer, decompress_to_buffer};
use bytes::Bytes;
use xxhash_rust::xxh32::xxh32;

use super::PageFault;
use crate::format::lz4::{self, Cut, Splitter};
use crate::format::wal::PageSize;

/// How pages are written. Both are read by everything from 0.5.16 on; a frame also by what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageEncoding {
    /// One LZ4 block: Litestream's own since 0.5.16.
    #[default]
    Block,
    /// One LZ4 frame: 15 bytes more per page, and a checksum of its own.
    Frame,
}

impl PageEncoding {
    pub(super) fn flags(self) -> u16 {
        match self {
            Self::Block => 1,
            Self::Frame => 0,
        }
    }
}

/// The page SQLite keeps its locks on, which therefore never has content.
pub fn lock_page(page_size: PageSize) -> u32 {
    0x4000_0000 / page_size.get() + 1
}

/// Bytes of a page frame before the payload: number, flags and, with a block, its size.
pub(super) const HEAD: usize = 6;
pub(super) const BLOCK_HEAD: usize = 10;

/// The beginning of a page frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// It is this long.
    Whole(usize),
    /// At least this many bytes tell more.
    Need(usize),
    /// The end of the pages, [`HEAD`] bytes.
    End,
}

/// How long the page frame is that `bytes` begin with, and its number. Looks at lengths only.
pub(super) fn extent(bytes: &[u8], page_size: PageSize) -> Result<(u32, Extent), (u32, PageFault)> {
    let Some(&[a, b, c, d, e, f]) = bytes.first_chunk::<HEAD>() else { return Ok((0, Extent::Need(HEAD))) };
    let (number, flags) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
    let found = match (number, flags) {
        (0, 0) => Ok(Extent::End),
        (0, _) => Err(PageFault::Zero),
        (_, 0) => frame_extent(bytes, page_size),
        (_, 1) => block_extent(bytes, page_size),
        (_, found) => Err(PageFault::Flags { found }),
    };
    found.map(|extent| (number, extent)).map_err(|fault| (number, fault))
}

fn block_extent(bytes: &[u8], page_size: PageSize) -> Result<Extent, PageFault> {
    let Some(head) = bytes.first_chunk::<BLOCK_HEAD>() else { return Ok(Extent::Need(BLOCK_HEAD)) };
    let size = u32::from_be_bytes([head[6], head[7], head[8], head[9]]);
    let limit = bound(page_size.get() as usize);
    if size as usize > limit {
        return Err(PageFault::TooLong { found: size.into(), limit: limit as u64 });
    }
    let whole = BLOCK_HEAD + size as usize;
    Ok(if bytes.len() < whole { Extent::Need(whole) } else { Extent::Whole(whole) })
}

/// Walks over the frame's blocks. Whether they are what the frame says shows when it is decoded.
fn frame_extent(bytes: &[u8], page_size: PageSize) -> Result<Extent, PageFault> {
    // Descriptor and sums of a frame whose writer used every field, and a page stored in small blocks.
    let limit = 2 * bound(page_size.get() as usize);
    let word = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        four.first_chunk().map(|b| u32::from_le_bytes(*b))
    };
    let (Some(magic), Some(&flags)) = (word(HEAD), bytes.get(HEAD + 4)) else {
        return Ok(Extent::Need(HEAD + 7));
    };
    if magic != lz4::MAGIC {
        return Err(PageFault::FrameHeader("no magic number"));
    }
    let mut at = HEAD + 7 + if flags & 8 != 0 { 8 } else { 0 } + if flags & 1 != 0 { 4 } else { 0 };
    let block_sum = if flags & 0x10 != 0 { 4 } else { 0 };
    loop {
        let Some(len) = word(at) else { return Ok(Extent::Need(at + 4)) };
        at += 4;
        if len == 0 {
            break;
        }
        at += (len & !lz4::STORED) as usize + block_sum;
        if at > limit + HEAD {
            return Err(PageFault::TooLong { found: at as u64, limit: limit as u64 });
        }
    }
    let whole = at + if flags & 4 != 0 { 4 } else { 0 };
    Ok(if bytes.len() < whole { Extent::Need(whole) } else { Extent::Whole(whole) })
}

/// The plain part of a page frame that its file's checksum covers, and the payload.
pub(super) fn split(frame: &Bytes) -> (&[u8], Bytes) {
    let block = frame.get(5).is_some_and(|flag| flag & 1 != 0);
    let head = if block { BLOCK_HEAD } else { HEAD }.min(frame.len());
    (&frame[..head], frame.slice(head..))
}

/// Expands a block to `page`.
pub(super) fn expand_block(block: &[u8], page: &mut [u8]) -> Result<(), PageFault> {
    let expected = page.len();
    let limit = i32::try_from(expected).ok();
    match decompress_to_buffer(block, limit, page) {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(PageFault::Length { found, expected }),
        Err(_) => Err(PageFault::Block { expected }),
    }
}

/// Expands a frame to `page`; `scratch` grows to the largest block its header allows.
pub(super) fn expand_frame(frame: Bytes, page: &mut [u8], scratch: &mut Vec<u8>) -> Result<(), PageFault> {
    let expected = page.len();
    let mut splitter = Splitter::new();
    splitter.feed(frame);
    let mut content = lz4::Content::new();
    let mut len = 0;
    loop {
        match splitter.cut().map_err(PageFault::Frame)? {
            // The frame was measured: there is no more.
            Cut::More => return splitter.finish().map_err(PageFault::Frame),
            Cut::Note(_) => {}
            Cut::Block(block) => {
                let plain = if block.is_linked() {
                    // One page fits the window: all there is so far is the dictionary.
                    scratch.clear();
                    scratch.extend_from_slice(&page[..len]);
                    block.decode_linked(scratch).map_err(PageFault::Frame)?;
                    &scratch[len..]
                } else {
                    if scratch.len() < block.max() {
                        scratch.resize(block.max(), 0);
                    }
                    let n = block.decode_into(scratch).map_err(PageFault::Frame)?;
                    &scratch[..n]
                };
                let end = len + plain.len();
                let Some(room) = page.get_mut(len..end) else {
                    return Err(PageFault::Length { found: end, expected });
                };
                room.copy_from_slice(plain);
                content.update(plain);
                len = end;
            }
            Cut::End { checksum, size } => {
                content.check(checksum, size).map_err(PageFault::Frame)?;
                if len != expected {
                    return Err(PageFault::Length { found: len, expected });
                }
            }
        }
    }
}

/// Appends the payload of `image` to `out`: the block or the frame, without number, flags and size.
///
/// To be called anywhere; [`Encoder::push_compressed`](super::Encoder::push_compressed) takes the result in turn.
pub fn compress_page(encoding: PageEncoding, image: &[u8], out: &mut Vec<u8>) {
    match encoding {
        PageEncoding::Block => {
            let start = out.len();
            out.resize(start + bound(image.len()), 0);
            match compress_to_buffer(image, Some(CompressionMode::DEFAULT), false, &mut out[start..]) {
                Ok(len) => out.truncate(start + len),
                Err(_) => {
                    out.truncate(start);
                    literals(image, out);
                }
            }
        }
        PageEncoding::Frame => {
            out.extend_from_slice(&lz4::MAGIC.to_le_bytes());
            out.extend_from_slice(&FRAME_HEADER);
            lz4::compress_block(image, out);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&xxh32(image, 0).to_le_bytes());
        }
    }
}

/// A block of literals alone: valid whatever the content.
fn literals(image: &[u8], out: &mut Vec<u8>) {
    match image.len().checked_sub(15) {
        None => out.push((image.len() as u8) << 4),
        Some(more) => {
            out.push(0xf0);
            out.resize(out.len() + more / 255, 255);
            out.push((more % 255) as u8);
        }
    }
    out.extend_from_slice(image);
}

/// The most a block of `len` bytes takes (`LZ4_compressBound`).
fn bound(len: usize) -> usize {
    len + len / 255 + 16
}

/// FLG, BD and header checksum: version 1, independent blocks of at most 64 KiB, content checksum.
const FRAME_HEADER: [u8; 3] = [0x64, 0x40, 0xa7];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lock_page_begins_at_one_gibibyte() {
        assert_eq!(lock_page(PageSize::new(4096).unwrap()), 262_145);
        assert_eq!(lock_page(PageSize::new(65536).unwrap()), 16_385);
    }

    #[test]
    fn a_block_of_literals_expands_to_the_page_within_the_bound() {
        for len in [1, 14, 15, 16, 269, 270, 271, 512, 65536] {
            let image: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut block = Vec::new();
            literals(&image, &mut block);
            assert!(block.len() <= bound(len));
            let mut page = vec![0; len];
            expand_block(&block, &mut page).unwrap();
            assert_eq!(page, image);
        }
    }

    #[test]
    fn frames_begin_as_litestream_writes_them() {
        let mut frame = Vec::new();
        compress_page(PageEncoding::Frame, &[0; 512], &mut frame);
        assert_eq!(frame[..7], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7]);
    }

    proptest! {
        #[test]
        fn expand_is_the_inverse_of_compress(
            seed in proptest::collection::vec(any::<u8>(), 1..600), noise: bool, power in 9u32..=16, frame: bool,
        ) {
            let size = 1usize << power;
            let mut image: Vec<u8> = seed.iter().copied().cycle().take(size).collect();
            if noise {
                let mut x = 1u64;
                image.fill_with(|| { x = x.wrapping_mul(6364136223846793005).wrapping_add(1); (x >> 33) as u8 });
            }
            let encoding = if frame { PageEncoding::Frame } else { PageEncoding::Block };
            let mut stored = vec![0, 0, 0, 9];
            stored.extend(encoding.flags().to_be_bytes());
            let mut payload = Vec::new();
            compress_page(encoding, &image, &mut payload);
            if !frame {
                stored.extend((payload.len() as u32).to_be_bytes());
            }
            stored.extend(&payload);
            let page_size = PageSize::new(size as u32).unwrap();
            for end in 0..stored.len() {
                // Every prefix asks for more, and never for more than there is.
                let (_, extent) = extent(&stored[..end], page_size).unwrap();
                prop_assert!(matches!(extent, Extent::Need(n) if end < n && n <= stored.len()), "{end}: {extent:?}");
                if end > 40 { break; }
            }
            stored.extend([1, 2, 3]);
            prop_assert_eq!(extent(&stored, page_size), Ok((9, Extent::Whole(stored.len() - 3))));
            let mut page = vec![0; size];
            if frame {
                expand_frame(payload.into(), &mut page, &mut Vec::new()).unwrap();
            } else {
                expand_block(&payload, &mut page).unwrap();
            }
            prop_assert_eq!(page, image);
        }
    }
}
