//! YAML text into a tree. This file and its own module, which finds the way back from a key to its place in the text,
//! are all that touches the YAML crate.
//!
//! The tree keeps what the grammar needs and no more: map keys in order, numbers apart from text. Merge keys (`<<`)
//! and anchors work as in Litestream; only the first document is read; a key given twice is an error.

mod probe;

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::Position;

pub(crate) use probe::{position, raw_scalar};

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Node {
    /// For a message: `a list`, `the number 7`. Never shows text, which may be a secret.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(b) => b.to_string(),
            Self::Whole(n) => format!("the number {n}"),
            Self::Real(n) => format!("the number {n}"),
            Self::Text(_) => "text".into(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a map".into(),
        }
    }
}

/// One step from the root of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Item(usize),
}

/// Text that is no YAML. `cause` is the parser's, and shows none of the file's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadYaml {
    pub(crate) cause: String,
    pub(crate) at: Option<Position>,
}

/// The first document of `text`, and whether others follow it. No document at all is [`Node::Null`].
pub(crate) fn parse(text: &str) -> Result<(Node, bool), BadYaml> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok((Node::Null, false));
    };
    let node =
        NodeSeed.deserialize(first).map_err(|e| BadYaml { at: probe::of(&e), cause: e.to_string() })?;
    Ok((node, documents.next().is_some()))
}

struct NodeSeed;

impl<'de> DeserializeSeed<'de> for NodeSeed {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Bool(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Whole(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Whole(v.into()))
    }

    fn visit_i128<E>(self, v: i128) -> Result<Node, E> {
        Ok(Node::Whole(v))
    }

    fn visit_u128<E>(self, v: u128) -> Result<Node, E> {
        Ok(i128::try_from(v).map_or(Node::Real(v as f64), Node::Whole))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
        Ok(Node::Real(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Text(v.into()))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("a tag (`!name`) has no meaning here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(key) = map.next_key_seed(NewKey(&entries))? {
            let value = map.next_value_seed(Self)?;
            entries.push((key, value));
        }
        merge(entries).map(Node::Map).map_err(A::Error::custom)
    }
}

/// Puts the maps under `<<` into `entries`, where they do not already say otherwise; of a list, the earlier wins.
fn merge(mut entries: Vec<(String, Node)>) -> Result<Vec<(String, Node)>, &'static str> {
    let Some(at) = entries.iter().position(|(k, _)| k == "<<") else {
        return Ok(entries);
    };
    let sources = match entries.remove(at).1 {
        Node::List(sources) => sources,
        one => vec![one],
    };
    for source in sources {
        let Node::Map(more) = source else {
            return Err("`<<` needs a map or a list of maps");
        };
        for (key, value) in more {
            if !entries.iter().any(|(k, _)| *k == key) {
                entries.push((key, value));
            }
        }
    }
    Ok(entries)
}

/// A key of a map, as written; fails on one that the map has already.
struct NewKey<'a>(&'a [(String, Node)]);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if self.0.iter().any(|(k, _)| k == key) {
            return Err(E::custom(format!("the key `{key}` is given twice")));
        }
        Ok(key.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Node)]) -> Node {
        Node::Map(entries.iter().map(|(k, v)| ((*k).to_string(), v.clone())).collect())
    }

    #[test]
    fn values_keep_their_kind() {
        let (node, more) =
            parse("{a: 1, b: -2, c: 1.5, d: true, e: yes, f: '7', g: ~, h: [x], 5: y}").unwrap();
        let want = map(&[
            ("a", Node::Whole(1)),
            ("b", Node::Whole(-2)),
            ("c", Node::Real(1.5)),
            ("d", Node::Bool(true)),
            ("e", Node::Text("yes".into())),
            ("f", Node::Text("7".into())),
            ("g", Node::Null),
            ("h", Node::List(vec![Node::Text("x".into())])),
            ("5", Node::Text("y".into())),
        ]);
        assert_eq!((node, more), (want, false));
    }

    #[test]
    fn a_text_without_a_value_is_null() {
        for text in ["", "\n", "# only a comment\n", "---\n", "~"] {
            assert_eq!(parse(text), Ok((Node::Null, false)), "{text:?}");
        }
    }

    #[test]
    fn only_the_first_document_is_read_and_the_rest_is_told() {
        assert_eq!(parse("a: 1\n---\nb: 2\n"), Ok((map(&[("a", Node::Whole(1))]), true)));
        assert_eq!(parse("\u{feff}a: 1\n"), Ok((map(&[("a", Node::Whole(1))]), false)));
    }

    #[test]
    fn anchors_and_merges_fill_in_what_is_not_said() {
        let (node, _) =
            parse("x: &d {a: 1, b: 2}\ny: {<<: *d, b: 3}\nz: {<<: [{c: 4}, *d, {c: 5}]}").unwrap();
        let Node::Map(entries) = node else { panic!("a map") };
        assert_eq!(entries[1].1, map(&[("b", Node::Whole(3)), ("a", Node::Whole(1))]));
        assert_eq!(entries[2].1, map(&[("c", Node::Whole(4)), ("a", Node::Whole(1)), ("b", Node::Whole(2))]));
        assert!(parse("a: {<<: 5}").unwrap_err().cause.contains("`<<` needs a map"));
    }

    #[test]
    fn broken_text_names_its_line() {
        for (text, at, says) in [
            ("a: 1\nb: [1\nc: 2\n", Some((3, 2)), "did not find expected"),
            ("a: 1\n\tb: 2\n", Some((2, 1)), "found a tab character"),
            ("a: 1\nb: 2\na: 3\n", Some((3, 1)), "the key `a` is given twice"),
            ("a: *nowhere\n", Some((1, 4)), "unknown anchor"),
            ("a: !thing x\n", Some((1, 4)), "a tag (`!name`) has no meaning here"),
        ] {
            let e = parse(text).unwrap_err();
            assert_eq!(e.at.map(|p| (p.line, p.column)), at, "{text:?}: {}", e.cause);
            assert!(e.cause.contains(says), "{text:?}: {}", e.cause);
        }
    }
}
