//! What to restore. A listing and a wish in, a chain of objects or the first gap by name out. No I/O, no clock.
//!
//! ```text
//! listing ─▶ generations that have a base ─▶ the one that reaches furthest ─▶ its base ─▶ segments in order ─▶ gaps? ─┐
//!         └▶ LTX files ─▶ newest copy of everything ─▶ files that continue it, the longest first ─▶ gaps? ───────────┴▶ the younger
//! ```
//! The rules of the two layouts are in [`wal`] and [`ltx`]; what may be wished for is in [`points`]. A replica may hold
//! both: the chain that reaches the younger state wins, unless what is asked for exists in one of them only (a
//! generation, an index, a transaction). A chain that is broken fails the plan where it would have reached further.

pub mod ltx;
pub mod points;
pub mod wal;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::format::layout::{Generation, Name, WalIndex};
use crate::format::ltx as files;
use crate::format::ltx::{Layout, Level, Txid};
use ltx::{File, LtxChain};
use wal::WalChain;

/// An object of the layout, as the destination lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub name: Name,
    /// Stored bytes.
    pub size: u64,
    pub created: Timestamp,
}

/// A complete listing of a replica, sorted out.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    generations: BTreeMap<Generation, Objects>,
    /// Each in the order of levels and transactions.
    ltx: BTreeMap<Layout, Vec<File>>,
    /// Objects that are neither the layout's nor ours, and the first of them.
    foreign: Option<(usize, String)>,
}

/// The objects of one generation, each list in the order of index and offset.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub snapshots: Vec<Item>,
    pub segments: Vec<Item>,
}

impl Listing {
    /// Sorts out keys with their sizes and dates. Order does not matter.
    pub fn new<K: AsRef<str>>(objects: impl IntoIterator<Item = (K, u64, Timestamp)>) -> Self {
        let mut listing = Self::default();
        for (key, size, created) in objects {
            let key = key.as_ref();
            match Name::parse(key) {
                None if let Some((name, layout)) = files::Name::parse(key) => {
                    listing.ltx.entry(layout).or_default().push(File { name, layout, size, created });
                }
                Some(name) => {
                    let objects = listing.generations.entry(name.generation()).or_default();
                    match name {
                        Name::Snapshot { .. } => objects.snapshots.push(Item { name, size, created }),
                        Name::Segment { .. } => objects.segments.push(Item { name, size, created }),
                    }
                }
                None if is_ours(key) => {}
                None => {
                    let (n, _) = listing.foreign.get_or_insert_with(|| (0, key.to_owned()));
                    *n += 1;
                }
            }
        }
        for objects in listing.generations.values_mut() {
            objects.snapshots.sort_by_key(|i| i.name);
            objects.segments.sort_by_key(|i| i.name);
        }
        for files in listing.ltx.values_mut() {
            files.sort_by_key(|f| f.name);
        }
        listing
    }

    /// By generation.
    pub fn generations(&self) -> impl Iterator<Item = (Generation, &Objects)> {
        self.generations.iter().map(|(g, o)| (*g, o))
    }

    /// The LTX files, by layout, level and transactions.
    pub fn ltx(&self) -> impl Iterator<Item = &File> {
        self.ltx.values().flatten()
    }

    /// The date of its youngest object that belongs to a replica.
    pub fn last(&self) -> Option<Timestamp> {
        let generations = self.generations().filter_map(|(_, o)| o.dates()).map(|(_, last)| last);
        generations.chain(self.ltx().map(|f| f.created)).max()
    }

    /// It holds something of a replica.
    pub fn is_replica(&self) -> bool {
        !self.generations.is_empty() || !self.ltx.is_empty()
    }

    /// Nothing that could ever have been a backup. Objects nobody knows are not nothing: the path may be wrong.
    pub fn is_empty(&self) -> bool {
        !self.is_replica() && self.foreign.is_none()
    }
}

impl Objects {
    /// The first and last date of its objects.
    pub fn dates(&self) -> Option<(Timestamp, Timestamp)> {
        let dates = || self.snapshots.iter().chain(&self.segments).map(|i| i.created);
        Some((dates().min()?, dates().max()?))
    }
}

/// What is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The only one to look at; by default the one that reaches furthest.
    pub generation: Option<Generation>,
    pub until: Until,
    /// LTX files of this level and above alone: 1 leaves out what was not compacted yet, 9 all but the full copies.
    pub level: Option<Level>,
}

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    Latest,
    /// The last object not younger than this; of LTX files the last that is older, as Litestream has it.
    Time(Timestamp),
    /// The end of this WAL.
    Index(WalIndex),
    /// The end of this transaction of an LTX replica.
    Txid(Txid),
}

impl Target {
    /// The youngest state there is.
    pub const LATEST: Self = Self { generation: None, until: Until::Latest, level: None };

    /// Only v0.3 objects have it.
    fn wal_only(&self) -> bool {
        self.generation.is_some() || matches!(self.until, Until::Index(_))
    }

    /// Only LTX files have it.
    fn ltx_only(&self) -> bool {
        self.level.is_some() || matches!(self.until, Until::Txid(_))
    }
}

/// What to read, in the order in which it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub chain: Chain,
    pub notices: Vec<Notice>,
}

/// The objects of one layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    Wal(WalChain),
    Ltx(LtxChain),
}

impl Plan {
    /// The date of the newest object used: what is restored is no older.
    pub fn reaches(&self) -> Timestamp {
        match &self.chain {
            Chain::Wal(chain) => chain.reaches(),
            Chain::Ltx(chain) => chain.reaches(),
        }
    }

    /// Key and stored bytes of each object, oldest first.
    pub fn objects(&self) -> Vec<(String, u64)> {
        match &self.chain {
            Chain::Wal(chain) => chain.items().map(|i| (i.name.key(), i.size)).collect(),
            Chain::Ltx(chain) => chain.files().iter().map(|f| (f.key(), f.size)).collect(),
        }
    }

    /// Stored bytes to read.
    pub fn size(&self) -> u64 {
        match &self.chain {
            Chain::Wal(chain) => chain.items().map(|i| i.size).sum(),
            Chain::Ltx(chain) => chain.files().iter().map(|f| f.size).sum(),
        }
    }
}

/// `…, 18971 bytes, as of 2026-11-21T07:47:33Z`, after what [`WalChain`] or [`LtxChain`] says.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.chain {
            Chain::Wal(chain) => chain.fmt(f)?,
            Chain::Ltx(chain) => chain.fmt(f)?,
        }
        write!(f, ", {} bytes, as of {:.0}", self.size(), self.reaches())
    }
}

/// What the user should hear although the restore goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Its WAL cannot be used without a base.
    PassedOver { generation: Generation, newer: bool },
    /// The time asked for lies after everything there is.
    AfterLast { asked: Timestamp, last: Timestamp },
    /// So does the index.
    IndexAfterLast { asked: WalIndex, last: WalIndex },
    /// Younger transactions, though older than the time asked for, are in no file that ends in time any more.
    Compacted { last: Txid, date: Timestamp },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedOver { generation, newer } => {
                let newer = if *newer { "newer " } else { "" };
                write!(
                    f,
                    "passing over {newer}generation {generation}: its first snapshot was never completed"
                )
            }
            Self::AfterLast { asked, last } => {
                write!(f, "nothing is as young as {asked}: restoring the newest there is, of {last}")
            }
            Self::IndexAfterLast { asked, last } => {
                write!(f, "there is no index {asked} yet: restoring the newest there is, {last}")
            }
            Self::Compacted { last, date } => {
                write!(
                    f,
                    "what follows transaction {last} is compacted into a file younger than the time asked for: \
                     restoring as of {date}"
                )
            }
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The only one that means that there never was a backup.
    #[error("the replica is empty")]
    Empty,
    #[error("{count} objects lie there, but none of a replica (one is {first}); is the path right?")]
    Foreign { count: usize, first: String },
    #[error("there is no generation {0}")]
    NoSuchGeneration(Generation),
    #[error("no generation has a snapshot: the WAL there is cannot be restored without one")]
    NoSnapshot,
    #[error("nothing is as old as {asked}: the first snapshot is of {first}")]
    BeforeFirst { asked: Timestamp, first: Timestamp },
    #[error("nothing is as old as index {asked}: the first snapshot has index {first}")]
    IndexBeforeFirst { asked: WalIndex, first: WalIndex },
    #[error("missing {missing}: {found} exists, and nothing can be restored across the gap")]
    Gap { missing: Name, found: Name },
    #[error(
        "no LTX file starts at transaction 1 (the first is {first}): nothing can be restored without one"
    )]
    NoBase { first: String },
    #[error(
        "transaction {missing} is in no LTX file, but {found} exists: nothing can be restored across the gap"
    )]
    TxidGap { missing: Txid, found: String },
    #[error("there is no transaction {asked} yet: the last one is {last}")]
    TxidAfterLast { asked: Txid, last: Txid },
    #[error(
        "transaction {asked} cannot be told from its neighbours any more: compacted into {into}; {nearest}"
    )]
    TxidCompacted { asked: Txid, into: String, nearest: ltx::Nearest },
    #[error(
        "the replica holds LTX files, which have neither generations nor indexes: -txid or -timestamp chooses"
    )]
    OnlyLtx,
    #[error(
        "the replica holds no LTX files, and so no transactions or levels: -generation, -index or -timestamp chooses"
    )]
    NoLtx,
}

impl Refusal {
    /// The replica is damaged, as opposed to not holding what was asked for.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Gap { .. } | Self::NoSnapshot | Self::NoBase { .. } | Self::TxidGap { .. } => true,
            Self::Empty
            | Self::Foreign { .. }
            | Self::NoSuchGeneration(_)
            | Self::BeforeFirst { .. }
            | Self::IndexBeforeFirst { .. }
            | Self::TxidAfterLast { .. }
            | Self::TxidCompacted { .. }
            | Self::OnlyLtx
            | Self::NoLtx => false,
        }
    }
}

/// Decides what to restore, or why nothing can be.
pub fn plan(listing: &Listing, target: Target) -> Result<Plan, Refusal> {
    let mut best: Option<Plan> = None;
    let mut refused: Option<(Option<Timestamp>, Refusal)> = None;
    let mut answer = |last, answer: Result<Plan, Refusal>| match answer {
        Ok(plan) if best.as_ref().is_some_and(|b| b.reaches() >= plan.reaches()) => {}
        Ok(plan) => best = Some(plan),
        Err(_) if refused.as_ref().is_some_and(|(l, _)| *l >= last) => {}
        Err(refusal) => refused = Some((last, refusal)),
    };
    if !listing.generations.is_empty() && !target.ltx_only() {
        let last = listing.generations().filter_map(|(_, o)| o.dates()).map(|(_, last)| last).max();
        let planned = wal::plan(listing, target);
        answer(last, planned.map(|(chain, notices)| Plan { chain: Chain::Wal(chain), notices }));
    }
    for files in listing.ltx.values().filter(|_| !target.wal_only()) {
        let last = files.iter().map(|f| f.created).max();
        let planned = ltx::plan(files, target.until, target.level);
        answer(last, planned.map(|(chain, notices)| Plan { chain: Chain::Ltx(chain), notices }));
    }
    match (best, refused) {
        (Some(plan), Some((last, refusal))) if refusal.is_broken() && last > Some(plan.reaches()) => {
            Err(refusal)
        }
        (Some(plan), _) => Ok(plan),
        (None, Some((_, refusal))) => Err(refusal),
        (None, None) if !listing.generations.is_empty() => Err(Refusal::NoLtx),
        (None, None) if !listing.ltx.is_empty() => Err(Refusal::OnlyLtx),
        (None, None) => Err(match &listing.foreign {
            None => Refusal::Empty,
            Some((count, first)) => Refusal::Foreign { count: *count, first: first.clone() },
        }),
    }
}

/// What may lie in a replica that never held a backup: unfinished files, and the supervisor's marks.
fn is_ours(key: &str) -> bool {
    key.ends_with(".tmp") || matches!(key, "lease.json" | "handover.json")
}

#[cfg(test)]
mod tests;
