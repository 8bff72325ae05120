//! What to restore. A listing and a wish in, a chain of objects or the first gap by name out. No I/O, no clock.
//!
//! ```text
//! listing ─▶ generations that have a base ─▶ the one that reaches furthest ─▶ its base ─▶ segments in order ─▶ gaps?
//! ```
//! The rules are Litestream 0.3.13's (spec/litestream-v03.md §5.1) with these differences, all of them where it
//! refuses what can be restored or restores what is broken: a time after the last object means the last object; a
//! generation whose base was never completed is passed over and said so; order is by index and offset, not by the
//! listing's; a segment other than the first of a missing index is missed by name.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::format::layout::{Generation, Name, WalIndex};

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
        listing
    }

    /// By generation.
    pub fn generations(&self) -> impl Iterator<Item = (Generation, &Objects)> {
        self.generations.iter().map(|(g, o)| (*g, o))
    }

    /// Nothing that could ever have been a backup. Objects nobody knows are not nothing: the path may be wrong.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.foreign.is_none()
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
}

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    Latest,
    /// The last object not younger than this.
    Time(Timestamp),
    /// The end of this WAL.
    Index(WalIndex),
}

/// A base and the WAL to apply to it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub generation: Generation,
    pub snapshot: Item,
    pub segments: Vec<Item>,
    pub notices: Vec<Notice>,
}

impl Plan {
    /// The date of the newest object used: what is restored is no older.
    pub fn reaches(&self) -> Timestamp {
        self.items().map(|i| i.created).max().unwrap_or(self.snapshot.created)
    }

    /// The base, then the segments.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        std::iter::once(&self.snapshot).chain(&self.segments)
    }

    /// Stored bytes to read.
    pub fn size(&self) -> u64 {
        self.items().map(|i| i.size).sum()
    }
}

/// `generation bb96e64e99250580: snapshot 00000000 of 2026-11-21T07:47:26Z, WAL 00000000 to 00000002 in 17 segments,
/// 18971 bytes, as of 2026-11-21T07:47:33Z`
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = &self.snapshot;
        write!(f, "generation {}: snapshot {} of {:.0}", self.generation, base.name.index(), base.created)?;
        if let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) {
            let n = self.segments.len();
            let s = if n == 1 { "" } else { "s" };
            write!(f, ", WAL {} to {} in {n} segment{s}", first.name.index(), last.name.index())?;
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
    #[error("the replica is in the format of Litestream 0.5 (LTX), which this version does not read")]
    Ltx,
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
}

/// Decides what to restore, or why nothing can be.
pub fn plan(listing: &Listing, target: Target) -> Result<Plan, Refusal> {
    if listing.generations.is_empty() {
        return Err(match &listing.foreign {
            None => Refusal::Empty,
            Some((_, first)) if is_ltx(first) => Refusal::Ltx,
            Some((count, first)) => Refusal::Foreign { count: *count, first: first.clone() },
        });
    }
    let (generation, objects, passed_over) = choose(listing, target)?;
    let snapshot = base(objects, target.until)?;
    let segments = segments(objects, snapshot, target.until);
    first_gap(snapshot, &segments)?;
    let mut notices = passed_over;
    notices.extend(beyond(objects, target.until));
    Ok(Plan { generation, snapshot, segments, notices })
}

type Choice<'a> = (Generation, &'a Objects, Vec<Notice>);

/// The generation that reaches furthest, of those with a base old enough.
fn choose(listing: &Listing, target: Target) -> Result<Choice<'_>, Refusal> {
    if let Some(generation) = target.generation {
        let objects = listing.generations.get(&generation).ok_or(Refusal::NoSuchGeneration(generation))?;
        return Ok((generation, objects, Vec::new()));
    }
    let reach = |objects: &Objects| objects.dates().map(|(_, last)| last);
    let usable = |objects: &Objects| match target.until {
        Until::Time(t) => objects.snapshots.iter().any(|s| s.created <= t),
        Until::Latest | Until::Index(_) => !objects.snapshots.is_empty(),
    };
    let best = listing.generations().filter(|(_, o)| usable(o)).max_by_key(|(g, o)| (reach(o), *g));
    let Some((generation, objects)) = best else {
        // Say what would have been possible.
        let first = listing.generations().flat_map(|(_, o)| &o.snapshots).map(|s| s.created).min();
        return Err(match (target.until, first) {
            (Until::Time(asked), Some(first)) => Refusal::BeforeFirst { asked, first },
            _ => Refusal::NoSnapshot,
        });
    };
    let passed_over = listing
        .generations()
        .filter(|(_, o)| o.snapshots.is_empty())
        .map(|(g, o)| Notice::PassedOver { generation: g, newer: reach(o) > reach(objects) })
        .collect();
    Ok((generation, objects, passed_over))
}

/// The base with the highest index that is not beyond the target.
fn base(objects: &Objects, until: Until) -> Result<Item, Refusal> {
    let within = |s: &&Item| match until {
        Until::Latest => true,
        Until::Time(t) => s.created <= t,
        Until::Index(i) => s.name.index() <= i,
    };
    if let Some(base) = objects.snapshots.iter().rfind(within) {
        return Ok(*base);
    }
    let first_date = objects.snapshots.iter().map(|s| s.created).min();
    match (until, objects.snapshots.first(), first_date) {
        (Until::Time(asked), _, Some(first)) => Err(Refusal::BeforeFirst { asked, first }),
        (Until::Index(asked), Some(first), _) => {
            Err(Refusal::IndexBeforeFirst { asked, first: first.name.index() })
        }
        _ => Err(Refusal::NoSnapshot),
    }
}

/// The segments from the base's index on, up to the target. The first that is too young ends it: an older one
/// behind it continues something that is not there.
fn segments(objects: &Objects, base: Item, until: Until) -> Vec<Item> {
    let reached = |s: &&Item| match until {
        Until::Latest => true,
        Until::Time(t) => s.created <= t,
        Until::Index(i) => s.name.index() <= i,
    };
    let from_base = objects.segments.iter().filter(|s| s.name.index() >= base.name.index());
    from_base.take_while(reached).copied().collect()
}

/// Every index from the base's on has to be there and to start at offset 0. Whether the segments of an index join
/// shows only when they are decoded: their names say where they start, not how long they are.
fn first_gap(base: Item, segments: &[Item]) -> Result<(), Refusal> {
    let generation = base.name.generation();
    let mut next = Some(base.name.index());
    let mut current = None;
    for segment in segments {
        let found = segment.name;
        if current == Some(found.index()) {
            continue;
        }
        let Some(index) = next else { break };
        let missing = Name::Segment { generation, index, offset: 0 };
        if found != missing {
            return Err(Refusal::Gap { missing, found });
        }
        current = Some(index);
        next = index.next();
    }
    Ok(())
}

/// The target lies beyond everything.
fn beyond(objects: &Objects, until: Until) -> Option<Notice> {
    match until {
        Until::Latest => None,
        Until::Time(asked) => {
            let (_, last) = objects.dates()?;
            (asked > last).then_some(Notice::AfterLast { asked, last })
        }
        Until::Index(asked) => {
            let last = objects.segments.last().or(objects.snapshots.last())?.name.index();
            (asked > last).then_some(Notice::IndexAfterLast { asked, last })
        }
    }
}

/// What may lie in a replica that never held a backup: unfinished files, and the supervisor's marks.
fn is_ours(key: &str) -> bool {
    key.ends_with(".tmp") || matches!(key, "lease.json" | "handover.json")
}

/// `ltx/0/0000000000000001-0000000000000001.ltx`, or `0000/…` on some destinations.
fn is_ltx(key: &str) -> bool {
    key.ends_with(".ltx")
}

#[cfg(test)]
mod tests;
