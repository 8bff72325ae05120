//! The names of an LTX replica. Values and text; no I/O.
//!
//! ```text
//! ltx/0/0000000000000002-0000000000000002.ltx     directories, SFTP, WebDAV, GCS, Azure, NATS
//! 0000/0000000000000002-0000000000000002.ltx      S3 and OSS: the level as four hex digits, no ltx/
//! ```
//! Keys are relative to the replica's root. Every other name belongs to somebody else and is ignored
//! (spec/litestream-v05.md §0 fact 4, §1.6, §2.1).

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// The number of a batch of SQLite transactions, from 1 on. Prints as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(NonZeroU64);

impl Txid {
    /// What every history starts with.
    pub const ONE: Self = Self(NonZeroU64::MIN);

    /// The last there can be.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// `None` for 0: that is the state before anything.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The next batch; `None` after the last there can be.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }
}

/// `000000000000002a`
impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// As people type it on the command line: hex, no `0x`, leading zeros optional, either case.
impl FromStr for Txid {
    type Err = TxidError;

    fn from_str(s: &str) -> Result<Self, TxidError> {
        let digits = !s.is_empty() && s.len() <= 16 && s.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(s, 16).ok()).flatten();
        number.and_then(Self::new).ok_or_else(|| TxidError(s.to_owned()))
    }
}

/// `transaction "xyz": want 1 to 16 hex digits, not 0`
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transaction {0:?}: want 1 to 16 hex digits, not 0")]
pub struct TxidError(String);

/// How often a file's content has been compacted: 0 as shipped, 1 to 8 merged, 9 a copy of the whole database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// As shipped: one transaction number per file.
    pub const ZERO: Self = Self(0);
    /// Copies of the whole database.
    pub const SNAPSHOT: Self = Self(9);

    /// `None` above 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::SNAPSHOT.0 { Some(Self(level)) } else { None }
    }

    pub const fn get(self) -> u8 {
        self.0
    }

    /// From 0 to 9.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=Self::SNAPSHOT.0).map(Self)
    }

    /// What the keys of this level start with: `ltx/9/` or `0009/`.
    pub fn prefix(self, layout: Layout) -> String {
        match layout {
            Layout::Folders => format!("ltx/{}/", self.0),
            Layout::Hex => format!("{:04x}/", self.0),
        }
    }
}

/// `0` to `9`
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a destination spells a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// `ltx/0/…`: everywhere but S3 and OSS.
    Folders,
    /// `0000/…`: S3 and OSS.
    Hex,
}

/// What a file of the replica is, which is all its name says: transactions `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub level: Level,
    pub min: Txid,
    /// At least `min`.
    pub max: Txid,
}

impl Name {
    /// The key relative to the replica's root.
    pub fn key(&self, layout: Layout) -> String {
        format!("{}{}", self.level.prefix(layout), self.file())
    }

    /// The key's last part: `0000000000000001-0000000000000003.ltx`.
    pub fn file(&self) -> String {
        format!("{}-{}{SUFFIX}", self.min, self.max)
    }

    /// The inverse of [`Name::key`]; `None` for everything a reader ignores.
    pub fn parse(key: &str) -> Option<(Self, Layout)> {
        let (folder, file) = key.rsplit_once('/')?;
        let (level, layout) = match folder.strip_prefix("ltx/") {
            Some(level) => (decimal(level)?, Layout::Folders),
            None => (hex(folder, 4)?, Layout::Hex),
        };
        let (min, max) = file.strip_suffix(SUFFIX)?.split_once('-')?;
        let (min, max) = (Txid::new(hex(min, 16)?)?, Txid::new(hex(max, 16)?)?);
        let level = Level::new(u8::try_from(level).ok()?)?;
        (min <= max).then_some((Self { level, min, max }, layout))
    }
}

/// Level and file, as messages show it whatever the layout: `level 0 0000000000000001-0000000000000003`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} {}-{}", self.level, self.min, self.max)
    }
}

/// One digit.
fn decimal(s: &str) -> Option<u64> {
    let &[digit @ b'0'..=b'9'] = s.as_bytes() else { return None };
    Some(u64::from(digit - b'0'))
}

/// Exactly `width` lower-case hex digits.
fn hex(s: &str, width: usize) -> Option<u64> {
    let exact = s.len() == width && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    exact.then(|| u64::from_str_radix(s, 16).ok()).flatten()
}

const SUFFIX: &str = ".ltx";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(level: u8, min: u64, max: u64) -> Name {
        Name { level: Level::new(level).unwrap(), min: Txid::new(min).unwrap(), max: Txid::new(max).unwrap() }
    }

    #[test]
    fn names_read_as_litestream_writes_them() {
        let snapshot = name(9, 1, 0x3a);
        assert_eq!(snapshot.key(Layout::Folders), "ltx/9/0000000000000001-000000000000003a.ltx");
        assert_eq!(snapshot.key(Layout::Hex), "0009/0000000000000001-000000000000003a.ltx");
        assert_eq!(snapshot.to_string(), "level 9 0000000000000001-000000000000003a");
    }

    #[test]
    fn everything_a_reader_ignores_is_not_a_name() {
        for key in [
            "",
            "0000000000000001-0000000000000001.ltx",
            "ltx/10/0000000000000001-0000000000000001.ltx",
            "ltx/00/0000000000000001-0000000000000001.ltx",
            "ltx//0000000000000001-0000000000000001.ltx",
            "ltx/+1/0000000000000001-0000000000000001.ltx",
            "ltx/0/x/0000000000000001-0000000000000001.ltx",
            "000a/0000000000000001-0000000000000001.ltx",
            "0/0000000000000001-0000000000000001.ltx",
            "0/0000/0000000000000001-0000000000000001.ltx",
            "ltx/0000/0000000000000001-0000000000000001.ltx",
            "ltx/0/0000000000000001-0000000000000001.ltx.tmp",
            "ltx/0/0000000000000001-000000000000000A.ltx",
            "ltx/0/0000000000000000-0000000000000001.ltx",
            "ltx/0/0000000000000002-0000000000000001.ltx",
            "ltx/0/000000000000001-0000000000000001.ltx",
            "ltx/0/0000000000000001_0000000000000001.ltx",
            "/ltx/0/0000000000000001-0000000000000001.ltx",
        ] {
            assert_eq!(Name::parse(key), None, "{key}");
        }
    }

    #[test]
    fn a_transaction_on_the_command_line_is_hex_without_a_prefix() {
        assert_eq!("3A".parse::<Txid>().unwrap().get(), 0x3a);
        assert_eq!("000000000000003a".parse::<Txid>().unwrap().to_string(), "000000000000003a");
        for bad in ["", "0", "0x1", "+1", "g", "00000000000000001"] {
            assert!(bad.parse::<Txid>().is_err(), "{bad}");
        }
        assert_eq!(Txid::new(u64::MAX).unwrap().next(), None);
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_key(level in 0u8..=9, a in 1..=u64::MAX, b in 1..=u64::MAX, hex: bool) {
            let name = name(level, a.min(b), a.max(b));
            let layout = if hex { Layout::Hex } else { Layout::Folders };
            prop_assert_eq!(Name::parse(&name.key(layout)), Some((name, layout)));
        }

        #[test]
        fn any_text_parses_or_not_but_never_panics(text in "(ltx/|000)?[0-9a-f/.]{0,4}.{0,60}") {
            if let Some((name, layout)) = Name::parse(&text) {
                prop_assert_eq!(name.key(layout), text);
            }
        }
    }
}
