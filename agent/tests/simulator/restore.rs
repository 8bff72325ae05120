//! A model of restore: what a reader of the v0.3 layout makes of a store, or what is wrong with it. No I/O.
//!
//! The rules are those of spec/litestream-v03.md §5, written down once more beside `plan::restore`, and compared with
//! it: of the generations with a base the one
//! that reaches furthest, its base with the highest index, then every WAL from its first byte on without a gap, and of
//! each only whole transactions.

use std::collections::BTreeMap;

use holdfast::format::layout::{Generation, Name, Pos, WalIndex};
use holdfast::format::wal::{HEADER_LEN, PageSize};
use holdfast::plan::restore::{self as planner, Chain, Listing, Refusal, Target};
use jiff::Timestamp;

use super::sqlite::{Image, start};
use super::store::{Content, Object};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Latest,
    /// Nothing younger than this.
    Time(u64),
    /// Nothing younger than this, and of this generation nothing from this position on.
    Pos(u64, Pos),
}

impl Until {
    fn takes(self, name: &Name, object: &Object) -> bool {
        match self {
            Self::Latest => true,
            Self::Time(t) => object.created <= t,
            Self::Pos(t, pos) => {
                let before = match *name {
                    Name::Snapshot { index, .. } => index <= pos.index,
                    Name::Segment { index, offset, .. } => (index, offset) < (pos.index, pos.offset),
                };
                object.created <= t && name.generation() == pos.generation && before
            }
        }
    }
}

/// The restored pages; `None` when there is no base to begin with.
pub(crate) fn restore(
    objects: &BTreeMap<Name, Object>,
    page_size: PageSize,
    until: Until,
) -> Result<Option<Image>, String> {
    let mut reach: BTreeMap<Generation, (bool, u64)> = BTreeMap::new();
    for (name, object) in objects {
        let (usable, last) = reach.entry(name.generation()).or_default();
        *usable |= matches!(name, Name::Snapshot { .. }) && until.takes(name, object);
        *last = (*last).max(object.created);
    }
    let best = reach.iter().filter(|(_, (usable, _))| *usable).max_by_key(|(g, (_, last))| (*last, **g));
    let Some((&generation, _)) = best else { return Ok(None) };
    let all = || objects.iter().filter(move |(n, o)| n.generation() == generation && until.takes(n, o));
    let base = all().rfind(|(n, _)| matches!(n, Name::Snapshot { .. })).expect("the generation has a base");
    let Content::Snapshot { pages, needs } = &*base.1.content else {
        return Err(format!("{} is no snapshot", base.0));
    };
    let mut image = pages.clone();
    let mut at = At { index: base.0.index(), offset: 0, wal: None };
    let from_base = objects.iter().filter(|(n, _)| {
        n.generation() == generation && matches!(n, Name::Segment { .. }) && n.index() >= base.0.index()
    });
    for (name, object) in from_base.take_while(|(n, o)| until.takes(n, o)) {
        at.apply(name, object, page_size, &mut image)?;
    }
    at.covers(base.0, *needs)?;
    Ok(Some(image))
}

/// The same with the objects that `plan::restore` chooses; `None` where it refuses for want of a base.
pub(crate) fn restore_planned(
    objects: &BTreeMap<Name, Object>,
    page_size: PageSize,
    until: Option<u64>,
) -> Result<Option<Image>, String> {
    let listing = Listing::new(objects.iter().map(|(name, o)| (name.key(), 1, timestamp(o.created))));
    let until = until.map_or(planner::Until::Latest, |t| planner::Until::Time(timestamp(t)));
    let chosen = match planner::plan(&listing, Target { until, ..Target::LATEST }) {
        Ok(chosen) => chosen,
        Err(Refusal::Empty | Refusal::NoSnapshot | Refusal::BeforeFirst { .. }) => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let Chain::Wal(chosen) = chosen.chain else { return Err("an LTX chain".into()) };
    let base = chosen.snapshot.name;
    let Content::Snapshot { pages, needs } = &*objects[&base].content else {
        return Err(format!("{base} is no snapshot"));
    };
    let mut image = pages.clone();
    let mut at = At { index: base.index(), offset: 0, wal: None };
    for segment in &chosen.segments {
        at.apply(&segment.name, &objects[&segment.name], page_size, &mut image)?;
    }
    at.covers(&base, *needs)?;
    Ok(Some(image))
}

/// The model's time on a calendar.
pub(crate) fn timestamp(micros: u64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + micros as i64).expect("a time in this century")
}

/// How far the WAL is applied.
struct At {
    index: WalIndex,
    offset: u64,
    wal: Option<Replay>,
}

struct Replay {
    salt: holdfast::format::wal::Salt,
    checksum: holdfast::format::wal::Checksum,
    pending: Vec<(u32, u32)>,
}

impl At {
    /// What a snapshot says it needs is never more than what was replicated before it.
    fn covers(&self, base: &Name, needs: u64) -> Result<(), String> {
        if (self.index, self.offset) < (base.index(), needs) {
            return Err(format!("{base} needs byte {needs} of its WAL, which ends at {}", self.offset));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        name: &Name,
        object: &Object,
        size: PageSize,
        image: &mut Image,
    ) -> Result<(), String> {
        let (Name::Segment { index, offset, .. }, Content::Segment { header, frames }) =
            (*name, &*object.content)
        else {
            return Err(format!("{name} is no segment"));
        };
        if index != self.index {
            if self.index.next() != Some(index) || self.wal.is_none() {
                return Err(format!("{name} follows index {}", self.index));
            }
            *self = Self { index, offset: 0, wal: None };
        }
        if offset != self.offset || header.is_some() != (offset == 0) {
            return Err(format!("{name} does not continue offset {}", self.offset));
        }
        if let Some(salt) = *header {
            self.wal = Some(Replay { salt, checksum: start(salt), pending: Vec::new() });
            self.offset = HEADER_LEN as u64;
        }
        let Some(wal) = &mut self.wal else { return Err(format!("{name} has no header before it")) };
        for frame in frames {
            if !frame.follows(wal.checksum, wal.salt) {
                return Err(format!("{name} holds a frame that does not verify at {}", self.offset));
            }
            wal.checksum = frame.checksum;
            self.offset += size.frame_len();
            wal.pending.push((frame.page, frame.version));
            if frame.commit > 0 {
                for (page, version) in wal.pending.drain(..) {
                    let at = page as usize - 1;
                    image.resize(image.len().max(at + 1), 0);
                    image[at] = version;
                }
                image.resize(frame.commit as usize, 0);
            }
        }
        Ok(())
    }
}
