//! Which states can be restored, as far as a listing tells. No I/O, no clock.
//!
//! Of LTX files the list is exact: each point is a transaction that [`plan`] reaches, and every transaction that it
//! reaches is a point. Of v0.3 objects it is what their names and dates promise: a name says where a segment begins
//! and not how long it is, so that a segment missing at the end of an index shows only when it is restored.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::ltx::File;
use super::wal::Joined;
use super::{Item, Listing, Objects, Target, Until, plan};
use crate::format::layout::{Generation, Name};
use crate::format::ltx::Txid;
use crate::plan::ltx::{files, points};

/// A state that can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub at: At,
    /// The date of what was restored, and the time to ask for where a time is what tells it from others.
    pub created: Timestamp,
    /// Time since the point before it in the same history.
    pub since: Option<SignedDuration>,
    /// Uploads since then, its own included: all but the last of them cannot be restored by themselves any more.
    pub uploads: u64,
}

/// Where a state is in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The end of this transaction of an LTX replica.
    Txid(Txid),
    /// The end of this v0.3 object.
    Object(Name),
}

/// `000000000000003a`; `fb6eef3866c03d87/0000001f:16512`, where the segment begins; `fb6eef3866c03d87/0000001f`, a
/// snapshot alone.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Txid(txid) => txid.fmt(f),
            Self::Object(Name::Segment { generation, index, offset }) => {
                write!(f, "{generation}/{index}:{offset}")
            }
            Self::Object(Name::Snapshot { generation, index }) => write!(f, "{generation}/{index}"),
        }
    }
}

impl Point {
    /// What `restore` has to be asked for.
    pub fn target(&self) -> Target {
        match self.at {
            At::Txid(txid) => Target { until: Until::Txid(txid), ..Target::LATEST },
            At::Object(name) => {
                let generation: Option<Generation> = Some(name.generation());
                Target { generation, until: Until::Time(self.created), level: None }
            }
        }
    }
}

/// Every state there is, by date.
pub fn restore_points(listing: &Listing) -> Vec<Point> {
    let mut points: Vec<Point> = listing.generations().flat_map(|(_, objects)| of_wal(objects)).collect();
    points.extend(of_ltx(listing));
    points.sort_by_key(|p| p.created);
    points
}

fn of_ltx(listing: &Listing) -> Vec<Point> {
    let mut ends: BTreeMap<Txid, Timestamp> = BTreeMap::new();
    for of_layout in listing.ltx.values() {
        let file = |f: &File| files::File { name: f.name, created: f.created, size: f.size };
        let of_layout: files::Files = of_layout.iter().map(file).collect();
        ends.extend(points::restore_points(&of_layout).iter().map(|p| (p.txid, p.created)));
    }
    // Two layouts in one place are planned one by one, and a younger one that is broken stands in the way of the other.
    let mixed = listing.ltx.len() > 1;
    let reached = |txid: Txid| plan(listing, Target { until: Until::Txid(txid), ..Target::LATEST }).is_ok();
    let mut before: Option<(Txid, Timestamp)> = None;
    let ends = ends.into_iter().filter(|(txid, _)| !mixed || reached(*txid));
    ends.map(|(txid, created)| {
        let since = before.map(|(_, date)| created.duration_since(date));
        let uploads = txid.get() - before.map_or(0, |(txid, _)| txid.get());
        before = Some((txid, created));
        Point { at: At::Txid(txid), created, since, uploads }
    })
    .collect()
}

/// Of one generation: what the dates of its objects tell apart. Each base serves from its own date until the date of
/// one with a higher index, as in [`super::wal`].
fn of_wal(objects: &Objects) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut taken = 0;
    for (n, base) in objects.snapshots.iter().enumerate() {
        let until = objects.snapshots[n + 1..].iter().map(|s| s.created).min();
        let first = objects.segments.partition_point(|s| s.name.index() < base.name.index());
        for (last, end, date) in ends(*base, &objects.segments[first..], until) {
            let at = At::Object(last);
            let end = first + end;
            // A new base leads to the state the one before it ended with.
            if points.last().is_some_and(|p| p.at == at) {
                continue;
            }
            let since = points.last().map(|p| date.duration_since(p.created));
            let from = if points.is_empty() { first } else { taken };
            let uploads = end.saturating_sub(from).max(1) as u64;
            points.push(Point { at, created: date, since, uploads });
            taken = end;
        }
    }
    points
}

/// The states a base and its segments lead to, by the time one asks for before `until`: the last object, how many
/// segments, the earliest such time.
///
/// A base alone counts only where nothing continues it: one that was written while the database was written to is no
/// database without the WAL of that time ([`crate::format::note`]).
fn ends(base: Item, segments: &[Item], until: Option<Timestamp>) -> Vec<(Name, usize, Timestamp)> {
    let mut ends = Vec::new();
    let mut joined = Joined::to(base);
    let mut date = base.created;
    let in_time = |date: Timestamp| until.is_none_or(|until| date < until);
    for n in 0..=segments.len() {
        let next = segments.get(n);
        if next.is_none_or(|next| next.created > date) && in_time(date) {
            match n.checked_sub(1).and_then(|last| segments.get(last)) {
                Some(last) => ends.push((last.name, n, date)),
                None if segments.is_empty() => ends.push((base.name, 0, date)),
                None => {}
            }
        }
        let Some(next) = next.filter(|next| joined.step(next.name).is_ok()) else { break };
        date = date.max(next.created);
        if !in_time(date) {
            break;
        }
    }
    ends
}

#[cfg(test)]
mod tests;
