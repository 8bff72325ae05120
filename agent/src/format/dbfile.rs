//! The first 100 bytes of a SQLite database file. Bytes in, values out.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..16 | `SQLite format 3\0` |
//! | 16..18 | page size; 1 stands for 65536 |
//! | 18, 19 | 2 in both: WAL mode; 1: a rollback journal |
//! | 24..28 | change counter |
//! | 28..32 | size in pages, true if 92..96 equals the change counter |
//! | 92..96 | the change counter when the size was written |
//! | 96..100 | the version of the SQLite that wrote the change counter |
//!
//! Source: sqlite.org/fileformat2.html, "The Database Header".

use std::fmt;

use super::wal::PageSize;

/// Bytes of the header.
pub const HEADER_LEN: usize = 100;

/// What the header says about the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbHeader {
    pub page_size: PageSize,
    /// The size the file should have; `None` where the last writer did not know this field.
    pub pages: Option<u32>,
    /// Whether it is in WAL mode.
    pub wal: bool,
    /// The SQLite that last wrote the first page; `None` from before 3.7.0.
    pub library: Option<Library>,
}

/// A version of SQLite as the file has it: 3051002 is 3.51.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Library(pub u32);

impl Library {
    /// Whether this version can lose commits when it checkpoints while another connection restarts the WAL: those from
    /// 3.7.0 to 3.51.2, but for the repaired 3.44.6 and 3.50.7 and what came after them in their lines
    /// (spec/users-and-faults.md §B1).
    pub const fn has_wal_reset_bug(self) -> bool {
        !matches!(self.0, ..3_007_000 | 3_044_006..3_045_000 | 3_050_007..3_051_000 | 3_051_003..)
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1_000 % 1_000, self.0 % 1_000)
    }
}

/// Why bytes are not the beginning of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DbFault {
    #[error("{found} bytes are too few for a database")]
    Short { found: usize },
    #[error("not a SQLite database")]
    Magic,
    #[error("page size {found} is not a power of two from 512 to 65536")]
    PageSize { found: u32 },
}

impl DbHeader {
    pub fn parse(bytes: &[u8]) -> Result<Self, DbFault> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(DbFault::Short { found: bytes.len() });
        };
        if !header.starts_with(MAGIC) {
            return Err(DbFault::Magic);
        }
        let size = match u32::from(header[16]) << 8 | u32::from(header[17]) {
            1 => 65536,
            size => size,
        };
        let page_size = PageSize::new(size).ok_or(DbFault::PageSize { found: size })?;
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let pages = (word(24) == word(92) && word(28) != 0).then_some(word(28));
        let library = Some(Library(word(96))).filter(|library| library.0 != 0);
        Ok(Self { page_size, pages, wal: header[18..20] == [2, 2], library })
    }
}

const MAGIC: &[u8] = b"SQLite format 3\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn header(page_size: [u8; 2]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(HEADER_LEN, 0);
        bytes[16..18].copy_from_slice(&page_size);
        bytes[24..28].copy_from_slice(&[0, 0, 0, 9]);
        bytes[28..32].copy_from_slice(&[0, 0, 1, 2]);
        bytes[92..96].copy_from_slice(&[0, 0, 0, 9]);
        bytes
    }

    #[test]
    fn the_page_size_of_65536_is_written_as_1() {
        assert_eq!(DbHeader::parse(&header([0x10, 0])).unwrap().page_size.get(), 4096);
        assert_eq!(DbHeader::parse(&header([0, 1])).unwrap().page_size.get(), 65536);
        assert_eq!(DbHeader::parse(&header([0, 3])), Err(DbFault::PageSize { found: 3 }));
    }

    #[test]
    fn the_size_counts_only_if_its_writer_kept_it_up_to_date() {
        let mut bytes = header([0x10, 0]);
        assert_eq!(DbHeader::parse(&bytes).unwrap().pages, Some(258));
        bytes[95] = 8;
        assert_eq!(DbHeader::parse(&bytes).unwrap().pages, None);
    }

    #[test]
    fn the_mode_and_the_library_stand_where_sqlite_writes_them() {
        let mut bytes = header([0x10, 0]);
        assert_eq!(DbHeader::parse(&bytes).map(|h| (h.wal, h.library)), Ok((false, None)));
        bytes[18..20].copy_from_slice(&[2, 2]);
        bytes[96..100].copy_from_slice(&3_051_002_u32.to_be_bytes());
        let found = DbHeader::parse(&bytes).unwrap();
        assert!(found.wal);
        assert_eq!(found.library.unwrap().to_string(), "3.51.2");
    }

    #[test]
    fn the_versions_with_the_wal_reset_bug_are_those_between_its_making_and_its_repairs() {
        for (version, has_it) in [
            (3_006_023, false),
            (3_007_000, true),
            (3_044_005, true),
            (3_044_006, false),
            (3_045_000, true),
            (3_050_006, true),
            (3_050_007, false),
            (3_051_000, true),
            (3_051_002, true),
            (3_051_003, false),
            (3_053_000, false),
        ] {
            assert_eq!(Library(version).has_wal_reset_bug(), has_it, "{version}");
        }
    }

    #[test]
    fn other_bytes_are_not_a_database() {
        assert_eq!(DbHeader::parse(b"SQLite format 3\0"), Err(DbFault::Short { found: 16 }));
        assert_eq!(DbHeader::parse(&[b'x'; HEADER_LEN]), Err(DbFault::Magic));
    }
}
