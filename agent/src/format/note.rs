//! What an object says about the objects around it. Bytes and values; no I/O.
//!
//! The v0.3 layout has no manifest: nothing in a replica shows that the *last* segment of an index is missing, and
//! Litestream then restores a corrupt database without a word (spec/litestream-v03.md §1.6). So the first segment of
//! an index says where the index before it ended, and a snapshot says up to where the WAL is needed to make it whole.
//! Both stand in a skippable frame in front of the LZ4 frame, which every reader skips: Litestream 0.3.13 and 0.5.17
//! (checked with both) and the `lz4` command. Objects of Litestream carry none, and are read without.
//!
//! | bytes | follows | base |
//! | --- | --- | --- |
//! | 0..8 | `holdfast` | `holdfast` |
//! | 8..12 | kind 1 | kind 2 |
//! | 12..16 | 0 | index |
//! | 16..24 | end of the index before, in bytes | offset in that index |
//! | 24..32 | running checksum there | 0 |
//!
//! Numbers are little-endian.

use super::layout::WalIndex;
use super::wal::Checksum;

/// A note in front of an object's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// On the first segment of an index: the WAL of the index before ends at byte `end`, with this running checksum.
    Follows { end: u64, checksum: Checksum },
    /// On a snapshot: it may hold pages of WAL up to here, and is a database only together with that WAL.
    Base { index: WalIndex, offset: u64 },
}

impl Note {
    pub fn encode(&self) -> [u8; LEN] {
        let (kind, index, at, checksum) = match *self {
            Self::Follows { end, checksum } => (1u32, 0, end, checksum),
            Self::Base { index, offset } => (2, index.get(), offset, Checksum::default()),
        };
        let mut out = [0; LEN];
        out[..8].copy_from_slice(TAG);
        out[8..12].copy_from_slice(&kind.to_le_bytes());
        out[12..16].copy_from_slice(&index.to_le_bytes());
        out[16..24].copy_from_slice(&at.to_le_bytes());
        out[24..28].copy_from_slice(&checksum.s0.to_le_bytes());
        out[28..].copy_from_slice(&checksum.s1.to_le_bytes());
        out
    }

    /// `None` for what is not a note of ours, or of a kind this version does not know.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if &bytes[..8] != TAG {
            return None;
        }
        let at = u64::from(word(20)) << 32 | u64::from(word(16));
        match word(8) {
            1 => Some(Self::Follows { end: at, checksum: Checksum { s0: word(24), s1: word(28) } }),
            2 => Some(Self::Base { index: WalIndex::new(word(12))?, offset: at }),
            _ => None,
        }
    }
}

/// Bytes of an encoded note.
pub const LEN: usize = 32;
const TAG: &[u8; 8] = b"holdfast";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_encode(at: u64, s0: u32, s1: u32, index in 0..=WalIndex::MAX.get()) {
            let follows = Note::Follows { end: at, checksum: Checksum { s0, s1 } };
            let base = Note::Base { index: WalIndex::new(index).unwrap(), offset: at };
            prop_assert_eq!(Note::parse(&follows.encode()), Some(follows));
            prop_assert_eq!(Note::parse(&base.encode()), Some(base));
        }
    }

    #[test]
    fn what_others_put_into_skippable_frames_is_no_note() {
        let note = Note::Base { index: WalIndex::ZERO, offset: 4152 }.encode();
        assert_eq!(Note::parse(&note[..31]), None);
        assert_eq!(Note::parse(b""), None);
        let mut later = note;
        later[8] = 3;
        assert_eq!(Note::parse(&later), None);
        later = note;
        later[0] = b'H';
        assert_eq!(Note::parse(&later), None);
    }
}
