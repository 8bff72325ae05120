//! The record of where a database comes from: a small JSON text beside it. Text in, values out.
//!
//! ```json
//! {"version":1,"replicas":{"s3://bucket/app":{
//!   "own":["fb6eef3866c03d87"],"adopts":"2026-11-21T07:47:33Z","hold":"000000000000002a",
//!   "mark":{"salt":"52b9e0a74c2e6a1b","end":16512,"checksum":"89abcdef01234567",
//!           "generation":"fb6eef3866c03d87","index":31,"offset":16512}}}}
//! ```
//! One entry for each place it is replicated to. With LTX files a mark has a `txid` instead of a generation. What is not
//! understood, or of another version, is as good as not there: nothing is proven by it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::layout::{Generation, Pos, WalIndex};
use super::ltx::Txid;
use super::wal::{Checksum, Salt};

/// What one database is to each of its replicas, by their URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage(pub BTreeMap<String, Descent>);

/// What a database is to one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descent {
    /// The generations it has written itself or was restored from, oldest first.
    pub own: Vec<Generation>,
    /// Whatever the replica held by then is its past.
    pub adopts: Option<Timestamp>,
    /// LTX files up to this transaction are somebody else's.
    pub hold: Option<Txid>,
    pub mark: Option<Mark>,
}

/// A moment at which database and replica were the same, to the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Of the WAL then.
    pub salt: Salt,
    /// Where it ended, in bytes.
    pub end: u64,
    /// Of its last frame.
    pub checksum: Checksum,
    pub at: At,
}

/// Where the replica ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Wal(Pos),
    Ltx(Txid),
}

impl Lineage {
    /// Reads a record; `None` of anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        if value.get("version")?.as_u64()? != VERSION {
            return None;
        }
        let replicas = value.get("replicas")?.as_object()?;
        replicas
            .iter()
            .map(|(url, entry)| Some((url.clone(), descent(entry)?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The text, with a line's end.
    pub fn encode(&self) -> String {
        let replicas: Map<String, Value> = self.0.iter().map(|(url, d)| (url.clone(), encoded(d))).collect();
        format!("{}\n", json!({ "version": VERSION, "replicas": replicas }))
    }
}

impl Descent {
    /// Is a generation this database's past, if its last object is of `last`?
    pub fn holds(&self, generation: Generation, last: Timestamp) -> bool {
        self.own.contains(&generation) || self.adopts.is_some_and(|until| last <= until)
    }
}

fn descent(entry: &Value) -> Option<Descent> {
    let text = |key: &str| entry.get(key).filter(|v| !v.is_null()).map(Value::as_str);
    let own = entry.get("own")?.as_array()?.iter().map(|g| g.as_str()?.parse().ok());
    let parsed = |text: Option<&str>| text?.parse().ok();
    Some(Descent {
        own: own.collect::<Option<_>>()?,
        adopts: text("adopts").map_or(Some(None), |t| parsed(t).map(Some))?,
        hold: text("hold").map_or(Some(None), |t| t?.parse().ok().map(Some))?,
        mark: entry.get("mark").filter(|m| !m.is_null()).map_or(Some(None), |m| mark(m).map(Some))?,
    })
}

fn mark(entry: &Value) -> Option<Mark> {
    let hex = |key: &str| u64::from_str_radix(entry.get(key)?.as_str().filter(|t| t.len() == 16)?, 16).ok();
    let number = |key: &str| entry.get(key)?.as_u64();
    let sum = hex("checksum")?;
    let at = match entry.get("txid") {
        Some(txid) => At::Ltx(txid.as_str()?.parse().ok()?),
        None => At::Wal(Pos {
            generation: entry.get("generation")?.as_str()?.parse().ok()?,
            index: WalIndex::new(number("index")?.try_into().ok()?)?,
            offset: number("offset")?,
        }),
    };
    let checksum = Checksum { s0: (sum >> 32) as u32, s1: sum as u32 };
    Some(Mark { salt: Salt(hex("salt")?.to_be_bytes()), end: number("end")?, checksum, at })
}

fn encoded(descent: &Descent) -> Value {
    let mark = descent.mark.map(|mark| {
        let sum = u64::from(mark.checksum.s0) << 32 | u64::from(mark.checksum.s1);
        let mut value = json!({
            "salt": mark.salt.to_string(), "end": mark.end, "checksum": format!("{sum:016x}"),
        });
        match mark.at {
            At::Ltx(txid) => value["txid"] = json!(txid.to_string()),
            At::Wal(pos) => {
                value["generation"] = json!(pos.generation.to_string());
                value["index"] = json!(pos.index.get());
                value["offset"] = json!(pos.offset);
            }
        }
        value
    });
    json!({
        "own": descent.own.iter().map(Generation::to_string).collect::<Vec<_>>(),
        "adopts": descent.adopts.map(|t| t.to_string()),
        "hold": descent.hold.map(|t| t.to_string()),
        "mark": mark,
    })
}

const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_encode(
            own in proptest::collection::vec(any::<u64>(), 0..3),
            adopts in proptest::option::of(0i64..4_000_000_000),
            hold in proptest::option::of(1u64..u64::MAX),
            salt: [u8; 8], end: u64, s0: u32, s1: u32,
            at in proptest::option::of((any::<u64>(), 0u32..=WalIndex::MAX.get(), any::<u64>())),
            txid in 1u64..u64::MAX,
        ) {
            let at = match at {
                Some((g, i, offset)) => {
                    At::Wal(Pos { generation: Generation::new(g), index: WalIndex::new(i).unwrap(), offset })
                }
                None => At::Ltx(format!("{txid:016x}").parse().unwrap()),
            };
            let descent = Descent {
                own: own.into_iter().map(Generation::new).collect(),
                adopts: adopts.map(|s| Timestamp::from_second(s).unwrap()),
                hold: hold.map(|t| format!("{t:016x}").parse().unwrap()),
                mark: Some(Mark { salt: Salt(salt), end, checksum: Checksum { s0, s1 }, at }),
            };
            let bare = Descent { mark: None, ..descent.clone() };
            let lineage = Lineage([("s3://b/a".to_owned(), descent), ("file:///r".to_owned(), bare)].into());
            prop_assert_eq!(Lineage::parse(&lineage.encode()), Some(lineage));
        }

        #[test]
        fn foreign_text_is_no_record_and_never_panics(text in ".{0,200}") {
            prop_assert_eq!(Lineage::parse(&text), None);
        }
    }

    #[test]
    fn a_record_of_another_version_proves_nothing() {
        assert!(Lineage::parse(&Lineage::default().encode()).is_some());
        assert_eq!(Lineage::parse(r#"{"version":2,"replicas":{}}"#), None);
        assert_eq!(Lineage::parse(r#"{"version":1,"replicas":{"x":{}}}"#), None);
        assert_eq!(Lineage::parse(""), None);
    }
}
