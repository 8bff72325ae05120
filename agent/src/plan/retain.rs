//! Which objects of a replica nobody needs any more. A pure function of a listing and the time.
//!
//! The promise: every state the database had within the retention stays restorable, and the newest base is never
//! deleted. So a snapshot older than the cutoff is kept while it is the base of the first states after it, with all
//! WAL from its index on. Litestream 0.3.13 drops that base the moment a younger snapshot exists, and the history of
//! the whole window with it (spec litestream-v03 §11.14).
//!
//! A generation other than the current one goes as a whole once its last object is older than the retention, but not
//! before the base of one that reaches further is as well: until then it is what a restore of the days between finds.
//!
//! And only if it is this database's past: one that the current generation does not descend from is on *hold*, however
//! old. What a start on an empty database leaves behind is all there is of the good one (spec/supervisor.md SUP-310).
//!
//! Order matters, because a run can die half way: snapshots before the WAL they need, WAL by index, and inside an
//! index the highest offset first, since a 0.3.13 reader refuses a whole generation over one index without its first
//! segment (§1.6).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::format::layout::{Generation, Name, WalIndex};
use crate::format::lineage::Descent;

/// One object as the replica lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub created: Timestamp,
}

/// What a retention run does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retained {
    /// Deleted in this order.
    pub delete: Vec<Name>,
    /// The newest snapshot of the current generation is older than the retention: time for another.
    pub stale: bool,
    /// Somebody else's, kept although they are old.
    pub held: Vec<Generation>,
}

/// Decides for a replica whose live generation is `current`.
///
/// Deletes nothing unless `current` is in the listing with a snapshot: a listing that misses what is known to be
/// there cannot be trusted about the rest.
pub fn retain(
    listing: &[Entry],
    now: Timestamp,
    retention: Duration,
    current: Generation,
    descent: &Descent,
) -> Retained {
    let Ok(cutoff) = now.checked_sub(retention) else { return Retained::default() };
    let mut generations: BTreeMap<Generation, Vec<Entry>> = BTreeMap::new();
    for e in listing {
        generations.entry(e.name.generation()).or_default().push(*e);
    }
    let newest = generations.get(&current).and_then(|g| snapshots(g).map(|(_, created)| created).max());
    let Some(newest) = newest else { return Retained::default() };
    let (mut delete, mut held) = (Vec::new(), Vec::new());
    for (generation, entries) in &generations {
        let over = *generation != current
            && entries.iter().all(|e| e.created < cutoff)
            && (snapshots(entries).next().is_none() || succeeded(&generations, entries, cutoff));
        let ours = *generation == current || descends(*generation, entries, descent);
        if !ours {
            if over {
                held.push(*generation);
            }
            continue;
        }
        let below = if over { None } else { base(entries, cutoff) };
        let goes = |i: WalIndex| below.map_or(over, |base| i < base);
        let mut names: Vec<Name> = entries.iter().map(|e| e.name).filter(|n| goes(n.index())).collect();
        in_order(&mut names);
        delete.extend(names);
    }
    Retained { delete, stale: newest <= cutoff, held }
}

/// Sorts names of one generation into the order in which they may go.
pub(super) fn in_order(names: &mut [Name]) {
    names.sort_by_key(|n| match *n {
        Name::Snapshot { index, .. } => (0, index, 0),
        Name::Segment { index, offset, .. } => (1, index, u64::MAX - offset),
    });
}

fn descends(generation: Generation, entries: &[Entry], descent: &Descent) -> bool {
    entries.iter().map(|e| e.created).max().is_some_and(|last| descent.holds(generation, last))
}

/// Does a restore as of the cutoff find another generation? It takes the one that reaches furthest of those that have
/// a base by then (`plan::restore`).
fn succeeded(generations: &BTreeMap<Generation, Vec<Entry>>, entries: &[Entry], cutoff: Timestamp) -> bool {
    let reach = |entries: &[Entry]| entries.iter().map(|e| e.created).max();
    generations
        .values()
        .any(|other| reach(other) > reach(entries) && snapshots(other).any(|(_, created)| created <= cutoff))
}

/// The index of the snapshot that the states right after the cutoff are restored from: the newest at or before it,
/// or the oldest there is.
fn base(entries: &[Entry], cutoff: Timestamp) -> Option<WalIndex> {
    let before = snapshots(entries).filter(|(_, created)| *created <= cutoff).map(|(index, _)| index).max();
    before.or_else(|| snapshots(entries).map(|(index, _)| index).min())
}

fn snapshots(entries: &[Entry]) -> impl Iterator<Item = (WalIndex, Timestamp)> {
    entries.iter().filter_map(|e| match e.name {
        Name::Snapshot { index, .. } => Some((index, e.created)),
        Name::Segment { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Generation = Generation::new(2);
    const OLD: Generation = Generation::new(1);
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_000_000_000 + hours * 3600).unwrap()
    }

    fn snap(generation: Generation, index: u32, hours: i64) -> Entry {
        let index = WalIndex::new(index).unwrap();
        Entry { name: Name::Snapshot { generation, index }, created: at(hours) }
    }

    fn seg(generation: Generation, index: u32, offset: u64, hours: i64) -> Entry {
        let index = WalIndex::new(index).unwrap();
        Entry { name: Name::Segment { generation, index, offset }, created: at(hours) }
    }

    fn past() -> Descent {
        Descent { own: vec![OLD], ..Descent::default() }
    }

    #[test]
    fn t61_a_generation_that_is_not_this_databases_past_is_never_deleted() {
        let all =
            [snap(OLD, 0, 0), seg(OLD, 0, 0, 1), snap(OLD, 1, 2), snap(LIVE, 0, 40), seg(LIVE, 0, 0, 50)];
        let foreign = Descent::default();
        let r = retain(&all, at(10_000), DAY, LIVE, &foreign);
        assert_eq!((keys(&r).len(), r.held), (0, vec![OLD]));
        let adopted = |hours| Descent { adopts: Some(at(hours)), ..Descent::default() };
        assert_eq!(retain(&all, at(10_000), DAY, LIVE, &adopted(1)).delete.len(), 0, "it went on after that");
        assert_eq!(retain(&all, at(10_000), DAY, LIVE, &adopted(2)).delete.len(), 3);
        assert!(retain(&all, at(10_000), DAY, LIVE, &past()).held.is_empty());
    }

    fn keys(r: &Retained) -> Vec<String> {
        r.delete.iter().map(Name::key).collect()
    }

    #[test]
    fn the_base_of_the_oldest_kept_state_stays_until_a_younger_one_is_past_the_cutoff() {
        let all = [
            snap(LIVE, 0, 0),
            seg(LIVE, 0, 0, 0),
            seg(LIVE, 0, 4152, 1),
            snap(LIVE, 5, 24),
            seg(LIVE, 5, 0, 24),
            seg(LIVE, 6, 0, 30),
        ];
        assert_eq!(
            keys(&retain(&all, at(40), DAY, LIVE, &past())),
            Vec::<String>::new(),
            "states of hour 16 need index 0"
        );
        let r = retain(&all, at(48), DAY, LIVE, &past());
        assert_eq!(
            keys(&r),
            [
                "generations/0000000000000002/snapshots/00000000.snapshot.lz4",
                "generations/0000000000000002/wal/00000000_00001038.wal.lz4",
                "generations/0000000000000002/wal/00000000_00000000.wal.lz4",
            ],
            "snapshot first, then the index from its end"
        );
        assert!(r.stale, "the newest snapshot is a day old");
    }

    #[test]
    fn the_only_base_is_never_deleted_however_old() {
        let all = [snap(LIVE, 3, 0), seg(LIVE, 3, 0, 0), seg(LIVE, 4, 0, 1)];
        let r = retain(&all, at(10_000), DAY, LIVE, &past());
        assert_eq!((keys(&r).len(), r.stale), (0, true));
    }

    #[test]
    fn another_generation_goes_as_a_whole_when_its_last_object_leaves_the_window() {
        let all = [snap(OLD, 0, 0), seg(OLD, 0, 0, 0), seg(OLD, 1, 0, 20), snap(LIVE, 0, 21)];
        assert!(
            retain(&all, at(43), DAY, LIVE, &past()).delete.is_empty(),
            "its newest state is 23 hours old"
        );
        assert_eq!(retain(&all, at(45), DAY, LIVE, &past()).delete.len(), 3);
    }

    #[test]
    fn an_old_generation_stays_until_the_base_of_the_next_is_as_old_as_the_retention() {
        let all = [snap(OLD, 0, 0), seg(OLD, 0, 0, 1), snap(LIVE, 0, 40), seg(LIVE, 0, 0, 50)];
        assert!(
            retain(&all, at(50), DAY, LIVE, &past()).delete.is_empty(),
            "hour 26 to 39 is what it ended with"
        );
        assert_eq!(retain(&all, at(64), DAY, LIVE, &past()).delete.len(), 2);
    }

    #[test]
    fn a_generation_that_never_had_a_base_goes_when_it_is_old() {
        let all = [seg(OLD, 0, 0, 0), snap(LIVE, 0, 40)];
        assert!(retain(&all, at(23), DAY, LIVE, &past()).delete.is_empty());
        assert_eq!(retain(&all, at(41), DAY, LIVE, &past()).delete.len(), 1);
    }

    #[test]
    fn nothing_is_deleted_when_the_listing_misses_the_live_base() {
        let all = [snap(OLD, 0, 0), seg(LIVE, 0, 0, 1)];
        assert_eq!(retain(&all, at(1000), DAY, LIVE, &past()), Retained::default());
    }
}
