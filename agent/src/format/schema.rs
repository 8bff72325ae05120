//! Whether the first page of a database says that an application has made anything in it. Bytes in, a word out.
//!
//! Page 1 is the root of the schema's own table: where that is a leaf, its cells are all there is.
//!
//! | bytes | what |
//! | --- | --- |
//! | 100 | 0x0d: a leaf; anything else has pages below it, and so much to list |
//! | 103..105 | how many cells |
//! | 108.. | where each one is, two bytes |
//! | a cell | its length and its row's number, varints; the record |
//! | a record | the length of its head, and a type for each column, varints; the columns |
//!
//! The columns are type, name, table, root page and SQL. Source: sqlite.org/fileformat2.html, "B-tree Pages", "Record
//! Format" and "Storage Of The SQL Database Schema".

/// Whether no application has made a table or a view: SQLite's own tables and Litestream's are nobody's data.
///
/// `false` also of what is not understood: it may be something.
pub fn is_bare(page: &[u8]) -> bool {
    page.is_empty() || no_tables(page).unwrap_or(false)
}

fn no_tables(page: &[u8]) -> Option<bool> {
    if *page.get(100)? != LEAF {
        return Some(false);
    }
    for cell in 0..usize::from(u16_at(page, 103)?) {
        let at = usize::from(u16_at(page, 108 + 2 * cell)?);
        let mut cell = Bytes(page.get(at..)?);
        cell.varint()?;
        cell.varint()?;
        let record = cell.0;
        let head = usize::try_from(cell.varint()?).ok()?;
        let (kind, name) = (text_len(cell.varint()?)?, text_len(cell.varint()?)?);
        let columns = record.get(head..)?;
        let (kind, name) = (columns.get(..kind)?, columns.get(kind..kind + name)?);
        let table = kind == b"table" || kind == b"view";
        let internal =
            INTERNAL.iter().any(|of| name.get(..of.len()).is_some_and(|n| n.eq_ignore_ascii_case(of)));
        if table && !internal {
            return Some(false);
        }
    }
    Some(true)
}

/// Bytes of a text of this serial type.
fn text_len(serial: u64) -> Option<usize> {
    (serial >= 13 && serial % 2 == 1)
        .then(|| usize::try_from((serial - 13) / 2).ok())?
        .filter(|n| *n <= 65536)
}

fn u16_at(page: &[u8], at: usize) -> Option<u16> {
    page.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// Seven bits a byte, the highest first; all eight of a ninth.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for n in 1..=9 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            if n == 9 {
                return Some(value << 8 | u64::from(*byte));
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// The type of a page that is a leaf of a table.
const LEAF: u8 = 0x0d;
const INTERNAL: [&[u8]; 2] = [b"sqlite_", b"_litestream_"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first page of a database made so.
    fn page(sql: &str) -> Vec<u8> {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch(sql).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        db.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        bytes.truncate(4096);
        bytes
    }

    #[test]
    fn a_page_is_bare_until_an_application_makes_a_table_or_a_view() {
        assert!(is_bare(b""), "no page at all");
        for sql in [
            "PRAGMA user_version = 7",
            "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT); DROP TABLE t",
            "CREATE TABLE _litestream_seq(id INTEGER PRIMARY KEY, seq INTEGER); CREATE TABLE _litestream_lock(id)",
        ] {
            assert!(is_bare(&page(sql)), "{sql}");
        }
        let many: String = (0..200).map(|n| format!("CREATE TABLE t{n}(a, b, c);")).collect();
        let long = format!(
            "CREATE TABLE t({})",
            (0..900).map(|n| format!("column{n}")).collect::<Vec<_>>().join(",")
        );
        for sql in
            ["CREATE TABLE t(a)", "CREATE VIEW v AS SELECT 1", "CREATE TABLE sqliteish(a)", &many, &long]
        {
            assert!(!is_bare(&page(sql)), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_never_bare_for_want_of_understanding_and_never_panic(
            at in 100usize..4096, byte: u8, cut in 0usize..4096,
        ) {
            let mut page = page("CREATE TABLE t(a)");
            page[at] = byte;
            is_bare(&page);
            page.truncate(cut.max(1));
            is_bare(&page);
        }
    }
}
