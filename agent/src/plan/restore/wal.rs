//! The plan for a v0.3 replica: a base, and the WAL that follows it. No I/O, no clock.
//!
//! The rules are Litestream 0.3.13's (spec/litestream-v03.md §5.1) with these differences, all of them where it
//! refuses what can be restored or restores what is broken: a time after the last object means the last object; a
//! generation whose base was never completed is passed over and said so; order is by index and offset, not by the
//! listing's; a segment other than the first of a missing index is missed by name.
//!
//! What no reader of this layout can know: of several generations the one with the youngest object is the latest, and a
//! request that a killed agent had sent may be carried out after its successor has begun another generation. Until that
//! one gets its next object the older one restores. (With LTX files one chain of numbers leaves no such choice.)

use std::fmt;

use jiff::Timestamp;

use super::{Item, Listing, Notice, Objects, Refusal, Target, Until};
use crate::format::layout::{Generation, Name, WalIndex};

/// A base and the WAL to apply to it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalChain {
    pub generation: Generation,
    pub snapshot: Item,
    pub segments: Vec<Item>,
}

impl WalChain {
    /// The base, then the segments.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        std::iter::once(&self.snapshot).chain(&self.segments)
    }

    /// The date of its newest object.
    pub(super) fn reaches(&self) -> Timestamp {
        self.items().map(|i| i.created).max().unwrap_or(self.snapshot.created)
    }
}

/// `generation bb96e64e99250580: snapshot 00000000 of 2026-11-21T07:47:26Z, WAL 00000000 to 00000002 in 17 segments`
impl fmt::Display for WalChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = &self.snapshot;
        write!(f, "generation {}: snapshot {} of {:.0}", self.generation, base.name.index(), base.created)?;
        if let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) {
            let n = self.segments.len();
            let s = if n == 1 { "" } else { "s" };
            write!(f, ", WAL {} to {} in {n} segment{s}", first.name.index(), last.name.index())?;
        }
        Ok(())
    }
}

/// The chain that reaches furthest, or the only one asked for.
pub(super) fn plan(listing: &Listing, target: Target) -> Result<(WalChain, Vec<Notice>), Refusal> {
    let (generation, objects, mut notices) = choose(listing, target)?;
    let snapshot = base(objects, target.until)?;
    let segments = segments(objects, snapshot, target.until);
    first_gap(snapshot, &segments)?;
    notices.extend(beyond(objects, target.until));
    Ok((WalChain { generation, snapshot, segments }, notices))
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
        Until::Latest | Until::Index(_) | Until::Txid(_) => !objects.snapshots.is_empty(),
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
        Until::Latest | Until::Txid(_) => true,
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
        Until::Latest | Until::Txid(_) => true,
        Until::Time(t) => s.created <= t,
        Until::Index(i) => s.name.index() <= i,
    };
    let from_base = objects.segments.iter().filter(|s| s.name.index() >= base.name.index());
    from_base.take_while(reached).copied().collect()
}

/// Every index from the base's on has to be there and to start at offset 0. Whether the segments of an index join
/// shows only when they are decoded: their names say where they start, not how long they are.
fn first_gap(base: Item, segments: &[Item]) -> Result<(), Refusal> {
    let mut joined = Joined::to(base);
    segments.iter().try_for_each(|segment| joined.step(segment.name))
}

/// Follows the segments behind a base, in order, from index to index.
pub(super) struct Joined {
    generation: Generation,
    next: Option<WalIndex>,
    current: Option<WalIndex>,
}

impl Joined {
    pub(super) fn to(base: Item) -> Self {
        Self { generation: base.name.generation(), next: Some(base.name.index()), current: None }
    }

    /// What is missing before `found`, if anything is.
    pub(super) fn step(&mut self, found: Name) -> Result<(), Refusal> {
        let Some(index) = self.next.filter(|_| self.current != Some(found.index())) else { return Ok(()) };
        let missing = Name::Segment { generation: self.generation, index, offset: 0 };
        if found != missing {
            return Err(Refusal::Gap { missing, found });
        }
        self.current = Some(index);
        self.next = index.next();
        Ok(())
    }
}

/// The target lies beyond everything.
fn beyond(objects: &Objects, until: Until) -> Option<Notice> {
    match until {
        Until::Latest | Until::Txid(_) => None,
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
