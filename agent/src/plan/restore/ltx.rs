//! The plan for an LTX replica: a copy of everything, and the files that continue it. No I/O, no clock.
//!
//! Litestream 0.5's rules (spec/litestream-v05.md §4.1):
//!
//! 1. A file counts if it ends no later than the transaction asked for, and is older than the time asked for.
//! 2. The newest level-9 file that counts is the base.
//! 3. Of the files that continue what there is (`min` at most one past its end) the one that ends last follows; of
//!    those, the one that starts first, then the highest level, then the oldest. Files may overlap.
//! 4. A transaction asked for has to be reached exactly. The latest state must not leave later files behind a gap.
//!
//! Here also a *time* asked for must not leave files behind a gap, unless all that is missing is a compacted file
//! that ends after that time: then an older state than there was is restored, and said so.

use std::cmp::Reverse;
use std::fmt;

use jiff::Timestamp;

use super::{Notice, Refusal, Until};
use crate::format::ltx::{Layout, Level, Name, Txid};

/// An LTX file, as the destination lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    pub name: Name,
    pub layout: Layout,
    /// Stored bytes.
    pub size: u64,
    /// The date its writer gave it, where the listing shows that; else when it was stored.
    pub created: Timestamp,
}

impl File {
    pub fn key(&self) -> String {
        self.name.key(self.layout)
    }
}

/// Files that lead from nothing to a state, oldest first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxChain {
    files: Vec<File>,
    last: Txid,
}

impl LtxChain {
    /// Oldest first. The first one starts at transaction 1.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The state it leads to.
    pub fn last(&self) -> Txid {
        self.last
    }

    pub(super) fn reaches(&self) -> Timestamp {
        self.files.iter().map(|f| f.created).max().unwrap_or_default()
    }
}

/// `LTX: transactions 0000000000000001 to 000000000000003e in 5 files of levels 9, 1, 0`
impl fmt::Display for LtxChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.files.len();
        let s = if n == 1 { "" } else { "s" };
        write!(f, "LTX: transactions {} to {} in {n} file{s}", Txid::ONE, self.last)?;
        let mut levels: Vec<_> = self.files.iter().map(|file| file.name.level).collect();
        levels.dedup();
        levels.sort_unstable_by_key(|l| Reverse(*l));
        levels.dedup();
        let levels: Vec<_> = levels.iter().map(Level::to_string).collect();
        let s = if levels.len() == 1 { "" } else { "s" };
        write!(f, " of level{s} {}", levels.join(", "))
    }
}

/// What can be restored around a transaction that cannot: `the nearest are … and …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearest {
    pub before: Option<Txid>,
    pub after: Txid,
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before {
            Some(before) => write!(f, "the nearest are {before} and {}", self.after),
            None => write!(f, "the nearest is {}", self.after),
        }
    }
}

/// `files` are all there is in one layout.
pub(super) fn plan(
    files: &[File],
    until: Until,
    level: Option<Level>,
) -> Result<(LtxChain, Vec<Notice>), Refusal> {
    let all: Vec<&File> = files.iter().filter(|f| level.is_none_or(|l| f.name.level >= l)).collect();
    let counts = |f: &File| match until {
        Until::Latest | Until::Index(_) => true,
        Until::Time(time) => f.created < time,
        Until::Txid(txid) => f.name.max <= txid,
    };
    let counting: Vec<&File> = all.iter().copied().filter(|f| counts(f)).collect();
    let chain = longest(&counting);
    let last = chain.last().map(|f| f.name.max);
    let behind = counting.iter().copied().filter(|f| past(f, last)).min_by_key(|f| (f.name.min, f.name.max));
    let mut notices = Vec::new();
    match until {
        Until::Txid(asked) if last != Some(asked) => return Err(unreached(&all, asked, last, behind)),
        Until::Latest | Until::Index(_) | Until::Txid(_) => {
            if let Some(found) = behind {
                return Err(gap(last, found));
            }
        }
        Until::Time(asked) => {
            if let Some(found) = behind {
                let whole = longest(&all).last().map(|f| f.name.max);
                match last {
                    Some(last) if !past(found, whole) => {
                        let date = chain.iter().map(|f| f.created).max().unwrap_or_default();
                        notices.push(Notice::Compacted { last, date });
                    }
                    _ if past(found, whole) => return Err(gap(last, found)),
                    _ => {}
                }
            }
            let youngest = all.iter().map(|f| f.created).max().filter(|youngest| asked > *youngest);
            notices.extend(youngest.map(|last| Notice::AfterLast { asked, last }));
        }
    }
    match last {
        Some(last) => Ok((LtxChain { files: chain.into_iter().copied().collect(), last }, notices)),
        None => Err(nothing(&all, until)),
    }
}

/// The chain that reaches furthest.
fn longest<'a>(files: &[&'a File]) -> Vec<&'a File> {
    let base = files.iter().copied().filter(|f| f.name.level == Level::SNAPSHOT && f.name.min == Txid::ONE);
    let mut chain: Vec<&File> = base.max_by_key(|f| f.name.max).into_iter().collect();
    let mut rest: Vec<&File> = files.iter().copied().filter(|f| f.name.level != Level::SNAPSHOT).collect();
    rest.sort_by_key(|f| f.name.min);
    let mut rest = rest.into_iter().peekable();
    let mut best: Option<&File> = None;
    loop {
        let last = chain.last().map(|f| f.name.max);
        // What continues a state continues every later one: nothing has to be looked at twice.
        while let Some(file) = rest.next_if(|f| !past(f, last)) {
            let rank = |f: &File| (f.name.max, Reverse(f.name.min), f.name.level, Reverse(f.created));
            if best.is_none_or(|b| rank(file) > rank(b)) {
                best = Some(file);
            }
        }
        match best {
            Some(file) if Some(file.name.max) > last => chain.push(file),
            _ => return chain,
        }
    }
}

/// Something is missing between `last` and the file.
fn past(file: &File, last: Option<Txid>) -> bool {
    file.name.min.get() - 1 > last.map_or(0, Txid::get)
}

fn gap(last: Option<Txid>, found: &File) -> Refusal {
    match last {
        None => Refusal::NoBase { first: found.key() },
        // Something lies past `last`: it is not the greatest number there is.
        Some(last) => Refusal::TxidGap { missing: last.next().unwrap_or(last), found: found.key() },
    }
}

/// Why the state after `asked` cannot be had, though everything up to `last` can.
fn unreached(all: &[&File], asked: Txid, last: Option<Txid>, behind: Option<&File>) -> Refusal {
    let Some(youngest) = all.iter().map(|f| f.name.max).max() else { return Refusal::NoLtx };
    if asked > youngest {
        return Refusal::TxidAfterLast { asked, last: youngest };
    }
    let whole = longest(all);
    let into = whole.iter().find(|f| f.name.max >= asked);
    match (into, behind) {
        (Some(file), _) => {
            let nearest = Nearest { before: last, after: file.name.max };
            Refusal::TxidCompacted { asked, into: file.key(), nearest }
        }
        (None, Some(found)) => gap(last, found),
        (None, None) => {
            let reached = whole.last().map(|f| f.name.max);
            let next = all.iter().copied().filter(|f| past(f, reached)).min_by_key(|f| f.name.min);
            next.map_or(Refusal::TxidAfterLast { asked, last: youngest }, |found| gap(reached, found))
        }
    }
}

/// Why no chain begins.
fn nothing(all: &[&File], until: Until) -> Refusal {
    let first_base = all.iter().filter(|f| f.name.min == Txid::ONE).map(|f| f.created).min();
    match (until, first_base, all.first()) {
        (Until::Time(asked), Some(first), _) => Refusal::BeforeFirst { asked, first },
        (_, _, Some(first)) => Refusal::NoBase { first: first.key() },
        (_, _, None) => Refusal::NoLtx,
    }
}

#[cfg(test)]
mod tests;
