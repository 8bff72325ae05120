//! An LZ4 frame is refused, or expands to what the C library makes of it, in pieces too; and any bytes survive being
//! compressed.

use std::io::Read;

use xxhash_rust::xxh32::xxh32;

use crate::format::lz4::{Decoder, Error, decode, encode};
use crate::format::note::Note;

/// The bytes as a frame, once more with its checksums put right, and the bytes as content.
pub fn check(bytes: &[u8]) {
    let mut frame = bytes.to_vec();
    for _ in 0..3 {
        match one(&frame) {
            Err(Error::Header { at, .. }) => {
                if !mend_header(&mut frame, at as usize) {
                    break;
                }
            }
            Err(Error::Checksum { found, .. }) => {
                let at = frame.len() - 4;
                frame[at..].copy_from_slice(&found.to_le_bytes());
            }
            _ => break,
        }
    }
    let stored = encode(bytes);
    assert_eq!(decode(&stored, bytes.len()).as_deref(), Ok(bytes));
    assert_eq!(reference(&stored).as_deref(), Some(bytes));
    if let Some(note) = Note::parse(bytes) {
        assert_eq!(Note::parse(&note.encode()), Some(note));
    }
}

fn one(frame: &[u8]) -> Result<Vec<u8>, Error> {
    let whole = decode(frame, LIMIT);
    let piece = 1 + frame.len() % 97;
    let in_pieces = read_in_pieces(frame, piece);
    if matches!(whole, Err(Error::TooLarge { .. })) {
        return whole;
    }
    assert_eq!(whole, in_pieces, "in pieces of {piece}");
    if let Ok(content) = &whole {
        // Stricter than the library is right, other content never.
        assert_eq!(reference(frame).as_ref(), Some(content), "the C library reads something else");
        assert_eq!(decode(&encode(content), content.len()).as_ref(), Ok(content));
    }
    whole
}

fn read_in_pieces(frame: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for part in frame.chunks(piece) {
        decoder.write(part, &mut out)?;
        if out.len() > LIMIT {
            return Err(Error::TooLarge { limit: LIMIT });
        }
    }
    decoder.finish().map(|size| {
        assert_eq!(size, out.len() as u64);
        out
    })
}

/// What the C library makes of a frame. It does not read skippable frames in front of one through this interface.
fn reference(frame: &[u8]) -> Option<Vec<u8>> {
    let mut rest = frame;
    while let Some((magic, more)) = rest.split_first_chunk::<4>()
        && u32::from_le_bytes(*magic) & !15 == SKIPPABLE
    {
        let (len, more) = more.split_first_chunk::<4>()?;
        rest = more.get(u32::from_le_bytes(*len) as usize..)?;
    }
    let mut out = Vec::new();
    lz4::Decoder::new(rest).ok()?.read_to_end(&mut out).ok()?;
    Some(out)
}

/// Puts the right checksum behind the frame header at `at`; `false` if it was there.
fn mend_header(frame: &mut [u8], at: usize) -> bool {
    let Some(&flags) = frame.get(at) else { return false };
    let sum = at + 2 + if flags & 8 != 0 { 8 } else { 0 } + if flags & 1 != 0 { 4 } else { 0 };
    let Some(descriptor) = frame.get(at..sum) else { return false };
    let right = (xxh32(descriptor, 0) >> 8) as u8;
    match frame.get_mut(sum) {
        Some(found) => std::mem::replace(found, right) != right,
        None => false,
    }
}

const SKIPPABLE: u32 = 0x184D_2A50;
/// More content than this is of no interest.
const LIMIT: usize = 16 << 20;
