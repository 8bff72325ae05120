//! The names of a v0.3 replica and the positions inside it. Values and text; no I/O.
//!
//! ```text
//! generations/bb96e64e99250580/snapshots/00000000.snapshot.lz4
//! generations/bb96e64e99250580/wal/00000000_00004080.wal.lz4
//! ```
//! Keys are relative to the replica's root. Widths are exact and hex is lower case; every other name belongs to
//! somebody else and is ignored (spec/litestream-v03.md §1.1). Formatting and parsing stand side by side.

use std::fmt;
use std::str::FromStr;

/// What every key of the replica starts with.
pub const ROOT: &str = "generations/";

/// One past the last offset a segment may be named by: the field has eight hex digits, and a longer name is
/// listed by no reader (§1.1). The writer starts a new index before it gets there.
pub const OFFSET_END: u64 = 1 << 32;

/// An unbroken history of one database: 64 bits, shown as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The prefix of every key of this generation: `generations/bb96e64e99250580/`.
    pub fn prefix(self) -> String {
        format!("{ROOT}{self}/")
    }

    /// The prefix of its snapshots: `generations/bb96e64e99250580/snapshots/`.
    pub fn snapshots(self) -> String {
        format!("{ROOT}{self}/snapshots/")
    }

    /// The prefix of its WAL segments: `generations/bb96e64e99250580/wal/`.
    pub fn wal(self) -> String {
        format!("{ROOT}{self}/wal/")
    }
}

/// `bb96e64e99250580`
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Generation {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        hex(s, 16).map(Self).ok_or_else(|| ParseError {
            what: "generation",
            text: s.into(),
            want: "16 digits of 0-9a-f",
        })
    }
}

/// Which WAL of a generation: the number of WAL restarts before it. At most `0x7fff_ffff` (§1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalIndex(u32);

impl WalIndex {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(0x7fff_ffff);

    /// `None` above [`WalIndex::MAX`].
    pub const fn new(index: u32) -> Option<Self> {
        if index <= Self::MAX.0 { Some(Self(index)) } else { None }
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// The index after a WAL restart; `None` when the generation has no more.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

/// `0000001f`
impl fmt::Display for WalIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// As people type it on the command line: hex, no `0x`, leading zeros optional, either case (§5.1).
impl FromStr for WalIndex {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let digits = !s.is_empty() && s.len() <= 8 && s.bytes().all(|b| b.is_ascii_hexdigit());
        digits
            .then(|| u32::from_str_radix(s, 16).ok())
            .flatten()
            .and_then(Self::new)
            .ok_or_else(|| ParseError { what: "index", text: s.into(), want: "hex of at most 7fffffff" })
    }
}

/// A place in the history of a database: bytes `..offset` of WAL `index` of `generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos {
    pub generation: Generation,
    pub index: WalIndex,
    pub offset: u64,
}

/// `fb6eef3866c03d87/0000001f:16512`: the index in hex, the offset in decimal, as Litestream prints it.
impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.generation, self.index, self.offset)
    }
}

/// What an object of the replica is, which is all its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A full copy of the database file; every WAL from `index` on applies to it.
    Snapshot { generation: Generation, index: WalIndex },
    /// A piece of WAL `index` that starts at byte `offset` of it. Offsets are below [`OFFSET_END`].
    Segment { generation: Generation, index: WalIndex, offset: u64 },
}

impl Name {
    pub const fn generation(&self) -> Generation {
        match *self {
            Self::Snapshot { generation, .. } | Self::Segment { generation, .. } => generation,
        }
    }

    pub const fn index(&self) -> WalIndex {
        match *self {
            Self::Snapshot { index, .. } | Self::Segment { index, .. } => index,
        }
    }

    /// The key relative to the replica's root.
    pub fn key(&self) -> String {
        match *self {
            Self::Snapshot { generation, index } => {
                format!("{ROOT}{generation}/snapshots/{index}{SNAPSHOT}")
            }
            Self::Segment { generation, index, offset } => {
                debug_assert!(offset < OFFSET_END, "a segment starts below 4 GiB");
                format!("{ROOT}{generation}/wal/{index}_{offset:08x}{SEGMENT}")
            }
        }
    }

    /// The inverse of [`Name::key`]; `None` for everything a reader ignores.
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(ROOT)?.split('/');
        let (generation, folder, file) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let generation = generation.parse().ok()?;
        match folder {
            "snapshots" => Some(Self::Snapshot { generation, index: index(file.strip_suffix(SNAPSHOT)?)? }),
            "wal" => {
                let (i, offset) = file.strip_suffix(SEGMENT)?.split_once('_')?;
                Some(Self::Segment { generation, index: index(i)?, offset: hex(offset, 8)? })
            }
            _ => None,
        }
    }
}

/// The key, as it stands in messages.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

/// A text that is not the value it should be: `generation "XYZ": want 16 digits of 0-9a-f`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: want {want}")]
pub struct ParseError {
    what: &'static str,
    text: String,
    want: &'static str,
}

fn index(s: &str) -> Option<WalIndex> {
    WalIndex::new(u32::try_from(hex(s, 8)?).ok()?)
}

/// Exactly `width` lower-case hex digits.
fn hex(s: &str, width: usize) -> Option<u64> {
    let exact = s.len() == width && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    exact.then(|| u64::from_str_radix(s, 16).ok()).flatten()
}

const SNAPSHOT: &str = ".snapshot.lz4";
const SEGMENT: &str = ".wal.lz4";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_read_as_litestream_writes_them() {
        let generation = Generation::new(0xfb6e_ef38_66c0_3d87);
        let snapshot = Name::Snapshot { generation, index: WalIndex::ZERO };
        assert_eq!(snapshot.key(), "generations/fb6eef3866c03d87/snapshots/00000000.snapshot.lz4");
        let index = WalIndex::new(0x1f).unwrap();
        let segment = Name::Segment { generation, index, offset: 0x5098 };
        assert_eq!(segment.key(), "generations/fb6eef3866c03d87/wal/0000001f_00005098.wal.lz4");
        assert_eq!(Pos { generation, index, offset: 16512 }.to_string(), "fb6eef3866c03d87/0000001f:16512");
    }

    #[test]
    fn everything_a_reader_ignores_is_not_a_name() {
        for key in [
            "",
            "generations",
            "generations/",
            "generations/fb6eef3866c03d87",
            "generations/fb6eef3866c03d8/snapshots/00000000.snapshot.lz4",
            "generations/FB6EEF3866C03D87/snapshots/00000000.snapshot.lz4",
            "generations/fb6eef3866c03d87/snapshots/00000000.snapshot.lz4.tmp",
            "generations/fb6eef3866c03d87/snapshots/0000000.snapshot.lz4",
            "generations/fb6eef3866c03d87/snapshots/000000000.snapshot.lz4",
            "generations/fb6eef3866c03d87/snapshots/80000000.snapshot.lz4",
            "generations/fb6eef3866c03d87/snapshots/a/00000000.snapshot.lz4",
            "generations/fb6eef3866c03d87/snapshots/00000000.wal.lz4",
            "generations/fb6eef3866c03d87/wal/00000000.wal.lz4",
            "generations/fb6eef3866c03d87/wal/00000000_100000000.wal.lz4",
            "generations/fb6eef3866c03d87/wal/00000000_0000000A.wal.lz4",
            "generations/fb6eef3866c03d87/wal/+0000000_00000000.wal.lz4",
            "/generations/fb6eef3866c03d87/wal/00000000_00000000.wal.lz4",
        ] {
            assert_eq!(Name::parse(key), None, "{key}");
        }
    }

    #[test]
    fn an_index_on_the_command_line_is_hex_without_a_prefix() {
        assert_eq!("1F".parse::<WalIndex>().unwrap().get(), 31);
        assert_eq!("7fffffff".parse::<WalIndex>().unwrap(), WalIndex::MAX);
        assert_eq!(WalIndex::MAX.next(), None);
        for bad in ["", "0x1f", "80000000", "+1", "-1", "000000001", "g"] {
            assert!(bad.parse::<WalIndex>().is_err(), "{bad}");
        }
    }

    fn any_name() -> impl Strategy<Value = Name> {
        let index = (0..=WalIndex::MAX.get()).prop_map(|i| WalIndex::new(i).unwrap());
        (any::<u64>(), index, proptest::option::of(0..OFFSET_END)).prop_map(|(g, index, offset)| {
            let generation = Generation::new(g);
            match offset {
                None => Name::Snapshot { generation, index },
                Some(offset) => Name::Segment { generation, index, offset },
            }
        })
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_key(name in any_name()) {
            prop_assert_eq!(Name::parse(&name.key()), Some(name));
        }

        #[test]
        fn keys_of_one_generation_sort_as_their_values(a in any_name(), b in any_name()) {
            if a.generation() == b.generation() && matches!(a, Name::Segment { .. }) == matches!(b, Name::Segment { .. }) {
                prop_assert_eq!(a.key().cmp(&b.key()), a.cmp(&b));
            }
        }

        #[test]
        fn any_text_parses_or_not_but_never_panics(text in ".{0,80}") {
            if let Some(name) = Name::parse(&text) {
                prop_assert_eq!(name.key(), text);
            }
        }
    }
}
