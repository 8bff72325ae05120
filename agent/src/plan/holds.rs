//! What a replica holds that no retention deletes, because the database does not descend from it. Values in, values out.
//!
//! It may be all there is of what somebody has yet to miss (spec/supervisor.md SUP-310): it stays until a person says
//! otherwise ([`super::removal`]), and so it has to be seen.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::format::layout::{Generation, Name};
use crate::format::lineage::Descent;
use crate::format::ltx::Txid;

/// Something that may be somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    Generation(Generation),
    /// All LTX files up to this transaction.
    Ltx(Txid),
}

/// `fb6eef3866c03d87`, `ltx:000000000000002a`
impl fmt::Display for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation(generation) => generation.fmt(f),
            Self::Ltx(last) => write!(f, "ltx:{last}"),
        }
    }
}

/// All digits of it: what is deleted by name is meant.
impl FromStr for Past {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("{s:?} is neither a generation nor ltx:TRANSACTION, each with 16 hex digits");
        match s.strip_prefix("ltx:") {
            Some(txid) if txid.len() == 16 => txid.parse().map(Self::Ltx).map_err(|_| wrong()),
            Some(_) => Err(wrong()),
            None => s.parse().map(Self::Generation).map_err(|_| wrong()),
        }
    }
}

/// What was last seen of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seen {
    #[default]
    Nothing,
    /// Each generation with the date of its last object.
    Generations(BTreeMap<Generation, Timestamp>),
    /// Where the first LTX file ends.
    Ltx { first: Option<Txid> },
}

impl Seen {
    /// The generations among these objects.
    pub fn generations(objects: impl IntoIterator<Item = (Name, Timestamp)>) -> Self {
        let mut ends = BTreeMap::new();
        for (name, created) in objects {
            let end = ends.entry(name.generation()).or_insert(created);
            *end = created.max(*end);
        }
        Self::Generations(ends)
    }

    /// What of it is not the past of a database of this descent.
    pub fn held(&self, descent: &Descent) -> Vec<Past> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Generations(ends) => ends
                .iter()
                .filter(|(generation, last)| !descent.holds(**generation, **last))
                .map(|(generation, _)| Past::Generation(*generation))
                .collect(),
            Self::Ltx { first } => {
                let hold = descent.hold.filter(|hold| first.is_some_and(|first| first <= *hold));
                hold.map(Past::Ltx).into_iter().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_is_written_and_nothing_shorter_does() {
        for past in [Past::Generation(Generation::new(0x2a)), Past::Ltx(Txid::MAX)] {
            assert_eq!(past.to_string().parse(), Ok(past));
        }
        for wrong in ["", "2a", "ltx:2a", "ltx:0000000000000000", "LTX:000000000000002a", "000000000000002g"]
        {
            assert!(wrong.parse::<Past>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_database_does_not_descend_from_is_held() {
        let (one, two) = (Generation::new(1), Generation::new(2));
        let at = |second| Timestamp::from_second(second).unwrap();
        let name = |generation| Name::Snapshot { generation, index: crate::format::layout::WalIndex::ZERO };
        let seen = Seen::generations([(name(one), at(5)), (name(one), at(9)), (name(two), at(20))]);
        let own = Descent { own: vec![two], ..Descent::default() };
        assert_eq!(seen.held(&own), [Past::Generation(one)]);
        assert_eq!(seen.held(&Descent { adopts: Some(at(8)), ..own.clone() }), [Past::Generation(one)]);
        assert_eq!(seen.held(&Descent { adopts: Some(at(9)), ..own }), []);
        assert_eq!(Seen::Nothing.held(&Descent::default()), []);
    }

    #[test]
    fn ltx_files_are_held_as_long_as_there_are_some() {
        let held = |first: u64, hold: u64| {
            let descent = Descent { hold: Txid::new(hold), ..Descent::default() };
            Seen::Ltx { first: Txid::new(first) }.held(&descent)
        };
        assert_eq!(held(3, 7), [Past::Ltx(Txid::new(7).unwrap())]);
        assert_eq!(held(7, 7).len(), 1);
        assert_eq!((held(8, 7), held(0, 7), held(1, 0)), (vec![], vec![], vec![]));
    }
}
