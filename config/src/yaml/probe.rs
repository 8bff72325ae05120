//! The way back from a key of the tree to its place in the text. Values only.
//!
//! The crate tells positions only with errors, so this walks to the place and fails there on purpose: one pass over the
//! text for each answer, which only messages and `config check` ask for.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Step;
use crate::error::Position;

/// Where the key (or list item) at `path` begins. `None` if it is not in the text itself, as with a key that a merge
/// brought in.
pub(crate) fn position(text: &str, path: &[Step]) -> Option<Position> {
    probe(text, path, Aim::Key).0
}

/// The scalar at `path` as it is written: `0123`, `1e5`, `0x10`. For text that looks like a number.
pub(crate) fn raw_scalar(text: &str, path: &[Step]) -> Option<String> {
    probe(text, path, Aim::Value).1
}

fn probe(text: &str, path: &[Step], aim: Aim) -> (Option<Position>, Option<String>) {
    let raw = RefCell::new(None);
    let seed = Probe { path, aim, raw: &raw };
    let at = serde_yaml::Deserializer::from_str(text)
        .next()
        .and_then(|document| seed.deserialize(document).err())
        .filter(|e| e.to_string().contains(FOUND))
        .and_then(|e| of(&e));
    (at, raw.into_inner())
}

/// What the deliberate error says, to tell it from a real one.
const FOUND: &str = "found the place that was looked for";

/// Where the crate saw an error.
pub(super) fn of(e: &serde_yaml::Error) -> Option<Position> {
    e.location().map(|l| Position { line: l.line(), column: l.column() })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Key,
    Value,
}

struct Probe<'a> {
    path: &'a [Step],
    aim: Aim,
    raw: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match (self.path.first(), self.aim) {
            (Some(Step::Key(_)), _) => deserializer.deserialize_map(self),
            (Some(Step::Item(_)), _) => deserializer.deserialize_seq(self),
            (None, Aim::Value) => deserializer.deserialize_str(self),
            (None, Aim::Key) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<(), E> {
        *self.raw.borrow_mut() = Some(v.into());
        Err(E::custom(FOUND))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Item(wanted), rest)) = self.path.split_first() else {
            return Err(A::Error::custom(FOUND));
        };
        for _ in 0..*wanted {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Probe { path: rest, ..self })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.path.split_first() else {
            return Err(A::Error::custom(FOUND));
        };
        let stop = self.aim == Aim::Key && rest.is_empty();
        while let Some(hit) = map.next_key_seed(ProbeKey { wanted, stop })? {
            if hit {
                return map.next_value_seed(Probe { path: rest, ..self });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Is this the wanted key? With `stop`, fails on it.
struct ProbeKey<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for ProbeKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ProbeKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if self.stop && key == self.wanted {
            return Err(E::custom(FOUND));
        }
        Ok(key == self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(k: &str) -> Step {
        Step::Key(k.into())
    }

    #[test]
    fn every_key_and_item_finds_its_line() {
        let place = |text: &str, path: &[Step]| position(text, path).map(|p| (p.line, p.column));
        let text = "# head\ndbs:\n  - path: /a\n  - path: /b\n    replicas:\n      - type: s3\n        bucket: 0123\n";
        let replica = [key("dbs"), Step::Item(1), key("replicas"), Step::Item(0)];
        assert_eq!(place(text, &[key("dbs")]), Some((2, 1)));
        assert_eq!(place(text, &[key("dbs"), Step::Item(1)]), Some((4, 5)));
        assert_eq!(place(text, &[key("dbs"), Step::Item(1), key("replicas")]), Some((5, 5)));
        assert_eq!(place(text, &replica), Some((6, 9)));
        let bucket = [&replica[..], &[key("bucket")]].concat();
        assert_eq!(place(text, &bucket), Some((7, 9)));
        assert_eq!(raw_scalar(text, &bucket).as_deref(), Some("0123"));
        assert_eq!(place(text, &[key("nothing")]), None);
        assert_eq!(place(text, &[key("dbs"), Step::Item(9)]), None);
        assert_eq!(raw_scalar("a: 1e5", &[key("a")]).as_deref(), Some("1e5"));
        assert_eq!(raw_scalar("a: [1]", &[key("a")]), None);
        assert_eq!(place("a:\n- 1\n- \n- true\n", &[key("a"), Step::Item(1)]), Some((3, 2)));
        assert_eq!(place("é: {ü: 1, a: 2}", &[key("é"), key("a")]), Some((1, 11)), "columns are characters");
    }
}
