//! A key is a name that gives the same key again, or none; and so is what is typed on a command line.

use std::fmt::Display;
use std::str::FromStr;

use crate::format::layout::{self, Generation, OFFSET_END, WalIndex};
use crate::format::ltx::{self, Layout, Level, Txid};

/// Each line is a key and a value.
pub fn check(bytes: &[u8]) {
    String::from_utf8_lossy(bytes).lines().for_each(one);
}

fn one(text: &str) {
    let of_wal = layout::Name::parse(text);
    if let Some(name) = of_wal {
        assert_eq!(name.key(), text);
        assert!(text.starts_with(&name.generation().prefix()) && name.index() <= WalIndex::MAX);
        if let layout::Name::Segment { offset, .. } = name {
            assert!(offset < OFFSET_END);
        }
    }
    let of_ltx = ltx::Name::parse(text);
    if let Some((name, layout)) = of_ltx {
        assert_eq!(name.key(layout), text);
        assert!(text.starts_with(&name.level.prefix(layout)) && text.ends_with(&name.file()));
        assert!(name.min <= name.max && name.level <= Level::SNAPSHOT);
        let other = match layout {
            Layout::Folders => Layout::Hex,
            Layout::Hex => Layout::Folders,
        };
        assert_eq!(ltx::Name::parse(&name.key(other)), Some((name, other)));
    }
    assert!(of_wal.is_none() || of_ltx.is_none(), "{text:?} is a key of both layouts");
    typed::<Txid>(text);
    typed::<WalIndex>(text);
    if typed::<Generation>(text) {
        assert_eq!(text.len(), 16);
    }
}

/// Whether `text` is a value; then it prints as one that is equal, whatever its case and its leading zeros.
fn typed<T: FromStr + Display + PartialEq>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    let printed = value.to_string();
    assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} prints as {printed}");
    assert!(printed.ends_with(&text.to_lowercase()), "{text:?} prints as {printed}");
    true
}
