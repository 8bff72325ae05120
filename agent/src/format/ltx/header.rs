//! The first 100 bytes of an LTX file. Bytes in, values out.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | magic `LTX1` |
//! | 4..8 | flags: 2 = no checksums of the database; no other bit |
//! | 8..12 | page size |
//! | 12..16 | pages of the database afterwards |
//! | 16..24, 24..32 | first and last transaction |
//! | 32..40 | milliseconds since 1970, signed |
//! | 40..48 | rolling checksum of the database before, or 0 |
//! | 48..56, 56..64 | offset and size in the WAL it was made from |
//! | 64..72 | that WAL's salt |
//! | 72..80 | node; 0 |
//! | 80..100 | reserved; 0, but readers accept anything |
//!
//! Source: spec/litestream-v05.md §1.1.

use super::checksum::Rolling;
use super::{Error, NO_CHECKSUM, Name, Txid};
use crate::format::wal::{PageSize, Salt};

/// Bytes of the header.
pub const HEADER_LEN: usize = 100;

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub page_size: PageSize,
    /// Pages of the database after applying the file.
    pub commit: u32,
    pub min: Txid,
    pub max: Txid,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub wal: WalPos,
    pub node: u64,
    /// Whether it carries checksums of the database, as LiteFS writes them: that of the state before, which is
    /// [`Rolling::EMPTY`] where `min` is 1. Litestream writes `None`, and its restore refuses the other.
    pub rolling: Option<Rolling>,
}

/// Which part of which WAL a file was made from: `offset..offset + size`. Zero where there was none.
///
/// On the newest file of level 0 `offset` has to be at least 32, or Litestream cannot continue (§0 fact 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPos {
    pub offset: u64,
    pub size: u64,
    pub salt: Salt,
}

impl WalPos {
    /// Of a file that was made from none, as Litestream's compactions are.
    pub const NONE: Self = Self { offset: 0, size: 0, salt: Salt([0; 8]) };
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Error> {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let fault = |at: usize, what, found, expected| Error::Header { at: at as u64, what, found, expected };
        if word(0) != MAGIC {
            return Err(fault(0, "magic", word(0).into(), "0x4c545831 (LTX1)"));
        }
        if word(4) & !NO_CHECKSUM != 0 {
            return Err(fault(4, "flags", word(4).into(), "0 or 2"));
        }
        let page_size = PageSize::new(word(8))
            .ok_or_else(|| fault(8, "page size", word(8).into(), "a power of two from 512 to 65536"))?;
        let min = Txid::new(long(16)).ok_or_else(|| fault(16, "first transaction", 0, "at least 1"))?;
        let max = Txid::new(long(24))
            .filter(|max| *max >= min)
            .ok_or_else(|| fault(24, "last transaction", long(24), "at least the first"))?;
        let pre_apply = long(40);
        let rolling = match (word(4) & NO_CHECKSUM != 0, min == Txid::ONE) {
            (true, _) if pre_apply != 0 => {
                return Err(fault(40, "checksum before", pre_apply, "0, as the flags say"));
            }
            (true, _) => None,
            (false, true) if pre_apply != 0 => {
                return Err(fault(40, "checksum before", pre_apply, "0 before transaction 1"));
            }
            (false, true) => Some(Rolling::EMPTY),
            (false, false) => Some(
                Rolling::from_stored(pre_apply)
                    .ok_or_else(|| fault(40, "checksum before", pre_apply, "bit 63 set"))?,
            ),
        };
        let wal = WalPos { offset: long(48), size: long(56), salt: Salt(long(64).to_be_bytes()) };
        let header = Self {
            page_size,
            commit: word(12),
            min,
            max,
            timestamp: long(32) as i64,
            wal,
            node: long(72),
            rolling,
        };
        header.check().map(|()| header)
    }

    /// The inverse of [`Header::parse`]. Reserved bytes are zero.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let flags = if self.rolling.is_some() { 0 } else { NO_CHECKSUM };
        let pre_apply = match self.rolling {
            Some(rolling) if self.min != Txid::ONE => rolling.stored(),
            Some(_) | None => 0,
        };
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_be_bytes());
        put(4, &flags.to_be_bytes());
        put(8, &self.page_size.get().to_be_bytes());
        put(12, &self.commit.to_be_bytes());
        put(16, &self.min.get().to_be_bytes());
        put(24, &self.max.get().to_be_bytes());
        put(32, &self.timestamp.to_be_bytes());
        put(40, &pre_apply.to_be_bytes());
        put(48, &self.wal.offset.to_be_bytes());
        put(56, &self.wal.size.to_be_bytes());
        put(64, &self.wal.salt.0);
        put(72, &self.node.to_be_bytes());
        bytes
    }

    /// Whether a file with this header and one with `other` lead to the same state, as far as headers tell: one may have
    /// been made later, or from another WAL. Where both are from the same place of the same WAL, its checksum decides.
    pub fn same_state(&self, other: &Self) -> bool {
        let state = |h: &Self| (h.page_size, h.commit, h.min, h.max);
        let proven = self.wal == other.wal && self.node != 0 && other.node != 0;
        state(self) == state(other) && (!proven || self.node == other.node)
    }

    /// What holds between the fields, whoever filled them in.
    pub(super) fn check(&self) -> Result<(), Error> {
        let fault = |at, what, found, expected| Err(Error::Header { at, what, found, expected });
        let WalPos { offset, size, salt } = self.wal;
        if self.max < self.min {
            return fault(24, "last transaction", self.max.get(), "at least the first");
        }
        if offset > i64::MAX as u64 {
            return fault(48, "WAL offset", offset, "a positive number");
        }
        if size > i64::MAX as u64 {
            return fault(56, "WAL size", size, "a positive number");
        }
        if offset == 0 && size != 0 {
            return fault(56, "WAL size", size, "0 without a WAL offset");
        }
        if offset == 0 && salt != Salt([0; 8]) {
            return fault(64, "WAL salt", u64::from_be_bytes(salt.0), "0 without a WAL offset");
        }
        Ok(())
    }

    /// The file starts from nothing and holds every page.
    pub fn is_full(&self) -> bool {
        self.min == Txid::ONE
    }

    /// A name that promises other transactions than the file holds would put it in the wrong place of a chain.
    /// Litestream believes the name where it is the wider one, and restores a wrong database (spec §10, case 20).
    pub fn check_name(&self, name: &Name) -> Result<(), Error> {
        if self.min != name.min {
            let expected = "the first one of the file's name";
            return Err(Error::Header { at: 16, what: "first transaction", found: self.min.get(), expected });
        }
        if self.max != name.max {
            let expected = "the last one of the file's name";
            return Err(Error::Header { at: 24, what: "last transaction", found: self.max.get(), expected });
        }
        Ok(())
    }
}

const MAGIC: u32 = u32::from_be_bytes(*b"LTX1");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = Header> {
        let txids = (1..=u64::MAX, any::<u64>()).prop_map(|(a, b)| {
            let b = b.max(1);
            (Txid::new(a.min(b)).unwrap(), Txid::new(a.max(b)).unwrap())
        });
        let wal =
            (0..i64::MAX as u64, any::<u32>(), any::<[u8; 8]>()).prop_map(
                |(offset, size, salt)| match offset {
                    0 => WalPos::NONE,
                    _ => WalPos { offset, size: size.into(), salt: Salt(salt) },
                },
            );
        let rest = (any::<u32>(), any::<i64>(), any::<u64>(), proptest::option::of(any::<u64>()));
        (9u32..=16, txids, wal, rest).prop_map(
            |(size, (min, max), wal, (commit, timestamp, node, rolling))| {
                let rolling = rolling.map(|r| match min {
                    Txid::ONE => Rolling::EMPTY,
                    _ => Rolling::from_stored(r | 1 << 63).unwrap(),
                });
                Header {
                    page_size: PageSize::new(1 << size).unwrap(),
                    commit,
                    min,
                    max,
                    timestamp,
                    wal,
                    node,
                    rolling,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_encode(header in any_header()) {
            prop_assert_eq!(Header::parse(&header.encode()), Ok(header));
        }

        #[test]
        fn any_bytes_are_a_header_or_not_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 100), magic: bool) {
            let mut bytes: [u8; HEADER_LEN] = bytes.try_into().unwrap();
            if magic {
                bytes[..12].copy_from_slice(b"LTX1\0\0\0\x02\0\0\x10\0");
            }
            let _ = Header::parse(&bytes);
        }
    }

    #[test]
    fn each_field_that_cannot_be_is_refused_at_its_offset() {
        let page_size = PageSize::new(4096).unwrap();
        let (min, max) = (Txid::new(2).unwrap(), Txid::new(3).unwrap());
        let wal = WalPos { offset: 32, size: 0, salt: Salt([7; 8]) };
        let good = Header { page_size, commit: 3, min, max, timestamp: 0, wal, node: 0, rolling: None };
        for (at, bytes, expected) in [
            (0, &b"LTX2"[..], 0),
            (4, &[0, 0, 0, 1], 4),
            (8, &[0, 0, 0, 77], 8),
            (16, &[0; 8], 16),
            (24, &[0, 0, 0, 0, 0, 0, 0, 1], 24),
            (40, &[0x80], 40),
            (48, &[0x80], 48),
            (56, &[0x80], 56),
            (48, &[0; 8], 64),
        ] {
            let mut broken = good.encode();
            broken[at..at + bytes.len()].copy_from_slice(bytes);
            match Header::parse(&broken) {
                Err(Error::Header { at, .. }) if at == expected => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
        let name = |min, max| Name { level: crate::format::ltx::Level::ZERO, min, max };
        assert_eq!(good.check_name(&name(min, max)), Ok(()));
        assert!(good.check_name(&name(min, min)).is_err() && good.check_name(&name(max, max)).is_err());
    }

    #[test]
    fn a_copy_of_another_time_is_of_the_same_state_unless_the_wal_says_otherwise() {
        let wal = WalPos { offset: 32, size: 4120, salt: Salt([1; 8]) };
        let size = PageSize::new(4096).unwrap();
        let (min, max) = (Txid::ONE, Txid::new(6).unwrap());
        let one = Header { page_size: size, commit: 9, min, max, timestamp: 1, wal, node: 7, rolling: None };
        let restarted = WalPos { offset: 32, size: 0, salt: Salt([2; 8]) };
        for same in [
            Header { timestamp: 2, ..one },
            Header { node: 0, ..one },
            Header { wal: restarted, node: 8, ..one },
        ] {
            assert!(one.same_state(&same) && same.same_state(&one), "{same:?}");
        }
        for other in [
            Header { node: 8, ..one },
            Header { commit: 10, ..one },
            Header { max: Txid::new(7).unwrap(), ..one },
            Header { page_size: PageSize::new(512).unwrap(), ..one },
        ] {
            assert!(!one.same_state(&other) && !other.same_state(&one), "{other:?}");
        }
    }
}
