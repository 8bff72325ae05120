//! The LZ4 frame every object of a v0.3 replica is. Bytes in, bytes out; the C library does single blocks only.
//!
//! ```text
//! 04 22 4D 18   magic
//! 64            version 1, independent blocks, content checksum; no block checksums, no content size, no dictionary
//! 70            blocks of at most 4 MiB
//! B9            second byte of xxh32(64 70)
//! blocks        u32 LE length (bit 31: stored as it is), then that many bytes
//! 00 00 00 00   end mark
//! u32 LE        xxh32 of the content, seed 0
//! ```
//! We write exactly one frame per object, always with the content checksum (spec/litestream-v03.md §1.2: readers
//! stop silently after the first frame, and take a frame without checksum for complete at any block boundary).
//! A [`Note`](super::note::Note) may stand before the frame, in a skippable frame (`5F 2A 4D 18`, u32 LE length).
//! Reading is stricter than Litestream: it fails on whatever the checksums, lengths and the end of the object
//! contradict, and on bytes after the frame. It accepts what other LZ4 writers produce: any block size, linked blocks,
//! block checksums, a content size, zero-length blocks, skippable frames in front.

mod decode;
mod encode;
mod linked;

pub use decode::{Block, Content, Cut, Decoder, Splitter, decode};
pub use encode::{BLOCK, Encoder, compress_block, compress_block_into, encode, room};

/// Why stored bytes are not a frame. `at` is the offset in the stored object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("encrypted with age; Holdfast cannot read encrypted replicas")]
    Encrypted,
    #[error("empty object")]
    Empty,
    #[error("no LZ4 frame at byte {at}: magic {found:#010x}, expected {:#010x}", MAGIC)]
    Magic { at: u64, found: u32 },
    #[error("frame header at byte {at}: {what}")]
    Header { at: u64, what: &'static str },
    #[error("truncated: {stored} bytes end inside {inside}")]
    Truncated { stored: u64, inside: &'static str },
    #[error("block {number} at byte {at}: {what}")]
    Block { number: u64, at: u64, what: &'static str },
    #[error("content checksum {found:#010x}, expected {expected:#010x}")]
    Checksum { found: u32, expected: u32 },
    #[error("content is {found} bytes, the frame header says {expected}")]
    Size { found: u64, expected: u64 },
    #[error("bytes after the end of the frame at byte {at}")]
    Trailing { at: u64 },
    #[error("content is larger than {limit} bytes")]
    TooLarge { limit: usize },
}

pub(super) const MAGIC: u32 = 0x184D_2204;
const LEGACY_MAGIC: u32 = 0x184C_2102;
/// Skippable frames start with `0x184D2A50..=0x184D2A5F`.
const SKIPPABLE: u32 = 0x184D_2A50;
/// The skippable frame that holds a note of ours.
const NOTE: u32 = 0x184D_2A5F;
/// Bit 31 of a block's length: the bytes are stored, not compressed.
pub(super) const STORED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed_in_pieces(stored: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        for part in stored.chunks(piece) {
            decoder.write(part, &mut out)?;
        }
        decoder.finish()?;
        Ok(out)
    }

    /// Text compresses, noise does not; a frame should hold both kinds of block.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000),
            (any::<u8>(), 0usize..200_000).prop_map(|(b, n)| vec![b; n]),
        ];
        proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decode_is_the_inverse_of_encode(plain in content(), write in 1usize..300_000, read in 1usize..100_000) {
            let mut stored = Vec::new();
            let mut encoder = Encoder::new();
            for part in plain.chunks(write) {
                encoder.write(part, &mut stored);
            }
            encoder.finish(&mut stored);
            prop_assert_eq!(&stored, &encode(&plain));
            prop_assert_eq!(fed_in_pieces(&stored, read).unwrap(), plain);
        }

        #[test]
        fn any_bytes_decode_or_fail_but_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), framed: bool) {
            if framed {
                let mut stored = encode(b"")[..7].to_vec();
                stored.append(&mut bytes);
                bytes = stored;
            }
            let whole = decode(&bytes, usize::MAX);
            prop_assert_eq!(fed_in_pieces(&bytes, 3).is_ok(), whole.is_ok());
        }
    }

    #[test]
    fn a_note_stands_before_the_frame_and_changes_nothing_else() {
        use crate::format::note::Note;
        let note = Note::Base { index: crate::format::layout::WalIndex::ZERO, offset: 7 };
        let mut stored = Vec::new();
        let mut encoder = Encoder::with_note(note);
        encoder.write(b"content", &mut stored);
        encoder.finish(&mut stored);
        assert_eq!(stored[..8], [0x5f, 0x2a, 0x4d, 0x18, 32, 0, 0, 0]);
        assert_eq!(stored[40..], encode(b"content"));
        assert_eq!(decode(&stored, 7).unwrap(), b"content");
        let mut splitter = Splitter::new();
        splitter.feed(stored.into());
        assert!(matches!(splitter.cut(), Ok(Cut::Note(found)) if found == note));
    }

    /// A stored and a compressed block, small enough to break at every byte.
    fn small_frame() -> (Vec<u8>, Vec<u8>) {
        let mut plain = b"0123456789".repeat(12);
        let mut stored = Vec::new();
        let mut encoder = Encoder::new();
        let mut block = Vec::new();
        compress_block(&plain, &mut block);
        encoder.write_block(&plain, &block, &mut stored);
        block.clear();
        compress_block(b"xyz", &mut block);
        encoder.write_block(b"xyz", &block, &mut stored);
        encoder.finish(&mut stored);
        plain.extend_from_slice(b"xyz");
        (plain, stored)
    }

    #[test]
    fn every_single_byte_change_is_noticed() {
        let (plain, stored) = small_frame();
        assert_eq!(decode(&stored, 1 << 20).unwrap(), plain);
        for at in 0..stored.len() {
            for change in 1..=255u8 {
                let mut broken = stored.clone();
                broken[at] ^= change;
                match decode(&broken, 1 << 20) {
                    Err(_) => {}
                    // A match copied from the other of two equal places decodes to the same content.
                    Ok(content) => assert_eq!(content, plain, "byte {at} changed by {change:#x}"),
                }
            }
        }
    }

    #[test]
    fn every_truncation_and_every_extra_byte_is_noticed() {
        let (_, stored) = small_frame();
        for end in 0..stored.len() {
            assert!(decode(&stored[..end], 1 << 20).is_err(), "cut at {end}");
        }
        for extra in [&b"\0"[..], &stored[..], b"garbage"] {
            let mut longer = stored.clone();
            longer.extend_from_slice(extra);
            assert_eq!(decode(&longer, 1 << 20), Err(Error::Trailing { at: stored.len() as u64 }));
        }
    }

    #[test]
    fn a_decoder_says_what_it_was_given_instead_of_a_frame() {
        assert_eq!(decode(b"", 9), Err(Error::Empty));
        assert_eq!(decode(b"age-encryption.org/v1\n-> X25519 ", 9), Err(Error::Encrypted));
        assert_eq!(decode(b"SQLite format 3\0", 9), Err(Error::Magic { at: 0, found: 0x694c_5153 }));
        assert_eq!(decode(&encode(b"0123456789"), 9), Err(Error::TooLarge { limit: 9 }));
    }

    #[test]
    fn the_frame_header_is_the_one_litestream_writes() {
        assert_eq!(encode(b"")[..7], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9]);
        assert_eq!(encode(b"")[7..], [0, 0, 0, 0, 0x05, 0x5d, 0xcc, 0x02]);
    }

    #[test]
    fn a_block_takes_no_more_room_than_it_can_fill() {
        // Nothing expands more than equal bytes do.
        for plain in [vec![0; 4 << 20], vec![7; 70_000], b"xyz".to_vec(), vec![9; 40]] {
            let (mut block, mut stored) = (Vec::new(), Vec::new());
            compress_block(&plain, &mut block);
            let mut encoder = Encoder::new();
            encoder.write_block(&plain, &block, &mut stored);
            encoder.finish(&mut stored);
            let mut splitter = Splitter::new();
            splitter.feed(stored.clone().into());
            let Ok(Cut::Block(block)) = splitter.cut() else { panic!() };
            assert!(block.max() >= plain.len() && block.max() <= 255 * block.stored_len());
            assert!(decode(&stored, plain.len()).unwrap() == plain);
        }
    }

    /// Frames as the LZ4 frame specification allows them and other writers make them, built by hand.
    #[test]
    fn frames_of_other_writers_are_read() {
        let plain = b"0123456789".repeat(12);
        let (_, stored) = small_frame();
        let block = &stored[7..7 + 4 + u32::from_le_bytes(stored[7..11].try_into().unwrap()) as usize];
        let frame = |flags: u8, size: &[u8], block_sum: bool, content_sum: bool| {
            let mut bytes = MAGIC.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[flags, 0x40]);
            bytes.extend_from_slice(size);
            bytes.push((xxhash_rust::xxh32::xxh32(&bytes[4..], 0) >> 8) as u8);
            bytes.extend_from_slice(block);
            if block_sum {
                bytes.extend_from_slice(&xxhash_rust::xxh32::xxh32(&block[4..], 0).to_le_bytes());
            }
            // A zero-length stored block, as Litestream leaves after a multiple of 4 MiB.
            bytes.extend_from_slice(&STORED.to_le_bytes());
            if block_sum {
                bytes.extend_from_slice(&xxhash_rust::xxh32::xxh32(b"", 0).to_le_bytes());
            }
            bytes.extend_from_slice(&[0; 4]);
            if content_sum {
                bytes.extend_from_slice(&xxhash_rust::xxh32::xxh32(&plain, 0).to_le_bytes());
            }
            bytes
        };
        let size = 120u64.to_le_bytes();
        assert_eq!(decode(&frame(0x64, &[], false, true), 120).unwrap(), plain, "as ours");
        assert_eq!(decode(&frame(0x60, &[], false, false), 120).unwrap(), plain, "no content checksum");
        assert_eq!(decode(&frame(0x44, &[], false, true), 120).unwrap(), plain, "linked");
        assert_eq!(decode(&frame(0x74, &[], true, true), 120).unwrap(), plain, "block checksums");
        assert_eq!(decode(&frame(0x6c, &size, false, true), 120).unwrap(), plain, "content size");
        let mut skipped = 0x184D_2A53u32.to_le_bytes().to_vec();
        skipped.extend_from_slice(&[3, 0, 0, 0, 1, 2, 3]);
        skipped.extend_from_slice(&frame(0x64, &[], false, true));
        assert_eq!(decode(&skipped, 120).unwrap(), plain, "skippable frame in front");

        let wrong = 121u64.to_le_bytes();
        assert_eq!(
            decode(&frame(0x6c, &wrong, false, true), 120),
            Err(Error::Size { found: 120, expected: 121 })
        );
        let mut cut = frame(0x60, &[], false, false);
        cut.truncate(cut.len() - 4);
        assert!(matches!(decode(&cut, 120), Err(Error::Truncated { .. })), "no checksum and no end mark");
        assert!(
            matches!(decode(&frame(0x65, &[0; 4], false, true), 120), Err(Error::Header { .. })),
            "dictionary"
        );
        let mut legacy = LEGACY_MAGIC.to_le_bytes().to_vec();
        legacy.extend_from_slice(block);
        assert!(matches!(decode(&legacy, 120), Err(Error::Header { .. })), "legacy frame");
    }
}
