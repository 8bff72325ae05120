//! A WAL verifies up to its first fault and is encoded to the bytes it was; and a frame that is sealed verifies.

use crate::format::dbfile::{DbFault, DbHeader};
use crate::format::wal::{
    Chain, Checksum, FRAME_HEADER_LEN, FrameFault, FrameHeader, HEADER_LEN, Header, HeaderFault, WordOrder,
};

/// Whatever the bytes are; and with the header's checksum put right, and each frame sealed that does not verify.
pub fn check(bytes: &[u8]) {
    database(bytes);
    let mut bytes = bytes.to_vec();
    if let Err(HeaderFault::Checksum { .. }) = Header::parse(&bytes) {
        let order = if bytes[3] & 1 == 0 { WordOrder::Little } else { WordOrder::Big };
        let Checksum { s0, s1 } = plainly(Checksum::default(), &bytes[..24], order);
        bytes[24..28].copy_from_slice(&s0.to_be_bytes());
        bytes[28..32].copy_from_slice(&s1.to_be_bytes());
        assert!(Header::parse(&bytes).is_ok(), "the checksum was all that was wrong");
    }
    let Ok(header) = Header::parse(&bytes) else { return };
    assert_eq!(header.encode(), bytes[..HEADER_LEN]);
    let mut chain = Chain::start(&header);
    for stored in bytes[HEADER_LEN..].chunks(chain.frame_len()) {
        let offset = chain.offset;
        assert_eq!(header.page_size.offset_of(frames(&chain)), offset);
        frame(&mut chain, stored);
        let whole = stored.len() == chain.frame_len();
        assert_eq!(chain.offset, if whole { offset + stored.len() as u64 } else { offset });
    }
}

/// Steps over a frame, sealed if need be.
fn frame(chain: &mut Chain, stored: &[u8]) {
    let before = *chain;
    match chain.verify(stored) {
        Ok(header) => {
            assert_eq!(header.encode(), stored[..FRAME_HEADER_LEN]);
            let sum = plainly(before.checksum, &stored[..8], before.order);
            assert_eq!(chain.checksum, plainly(sum, &stored[FRAME_HEADER_LEN..], before.order));
        }
        Err(fault) => {
            assert_eq!(*chain, before, "a fault does not move the position");
            if let FrameFault::Length { .. } = fault {
                return;
            }
            let mut sealed = stored.to_vec();
            chain.seal(&mut sealed);
            let mut reader = before;
            match reader.verify(&sealed) {
                Ok(header) => {
                    assert_eq!((header.salt, header.checksum), (chain.salt, chain.checksum));
                    assert_eq!(reader, *chain);
                }
                Err(fault) => {
                    assert!(matches!(fault, FrameFault::PageZero { .. }), "{fault}");
                    let head = sealed.first_chunk().expect("a whole frame");
                    assert_eq!(FrameHeader::parse(head).page, 0);
                }
            }
        }
    }
}

fn frames(chain: &Chain) -> u64 {
    chain.page_size.frames_at(chain.offset).expect("a chain stands between frames")
}

/// The checksum as SQLite's documentation defines it.
fn plainly(mut sum: Checksum, bytes: &[u8], order: WordOrder) -> Checksum {
    let words: Vec<u32> = bytes
        .chunks_exact(4)
        .map(|w| {
            let w = [w[0], w[1], w[2], w[3]];
            if order == WordOrder::Little { u32::from_le_bytes(w) } else { u32::from_be_bytes(w) }
        })
        .collect();
    for pair in words.chunks_exact(2) {
        sum.s0 = sum.s0.wrapping_add(pair[0]).wrapping_add(sum.s1);
        sum.s1 = sum.s1.wrapping_add(pair[1]).wrapping_add(sum.s0);
    }
    sum
}

/// The database file's own header, which is read beside its WAL.
fn database(bytes: &[u8]) {
    match DbHeader::parse(bytes) {
        Ok(header) => assert!(header.pages != Some(0) && header.page_size.get().is_power_of_two()),
        Err(DbFault::Short { found }) => assert!(found == bytes.len() && found < 100),
        Err(DbFault::Magic | DbFault::PageSize { .. }) => assert!(bytes.len() >= 100),
    }
}
