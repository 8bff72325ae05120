//! The shell's slower duties: inspecting a replica, retention, validation, and what a new generation is noted as.

use std::time::Duration;

use holdfast::format::layout::{Generation, Name, Pos, WalIndex};
use holdfast::format::lineage::Descent;
use holdfast::format::wal::{FrameHeader, HEADER_LEN};
use holdfast::plan::database::Event;
use holdfast::plan::replica::{Broken, Fault, FaultKind, Head};
use holdfast::plan::retain::{Entry, Retained, retain};
use jiff::Timestamp;

use super::agent::{Agent, Step};
use super::mutant::Mutant;
use super::restore::{Until, restore, timestamp};
use super::sqlite::Frame;
use super::store::{Content, Weather};
use super::world::{Job, World};

impl World {
    /// Where the newest generation ends, beside what the live WAL holds there.
    pub(crate) fn inspect(&mut self, a: &mut Agent, replica: usize, heard: bool) {
        let result = match heard {
            true => Ok(self.head(a, replica)),
            false => Err(Fault { kind: FaultKind::Retry, message: "simulated".into() }),
        };
        self.agent_hears(a, Event::Inspected { replica, result });
    }

    fn head(&self, a: &Agent, replica: usize) -> Option<Head> {
        let objects = &self.stores[replica].objects;
        let newest = objects.iter().max_by_key(|(_, o)| o.created)?.0.generation();
        let all = || objects.iter().filter(move |(n, _)| n.generation() == newest);
        let snapshot = all().rfind(|(n, _)| matches!(n, Name::Snapshot { .. }));
        let snapshot = snapshot.map(|(n, o)| (n.index(), Duration::from_micros(self.now - o.created)));
        let segment = all().rfind(|(n, _)| matches!(n, Name::Segment { .. }));
        let mut head = Head {
            generation: newest,
            index: snapshot.map_or(WalIndex::ZERO, |(index, _)| index),
            end: 0,
            salt: None,
            last: None,
            local: None,
            snapshot,
        };
        let Some((&Name::Segment { index, offset, .. }, object)) = segment else { return Some(head) };
        let Content::Segment { header, frames } = &*object.content else { return Some(head) };
        if index < head.index {
            return Some(head);
        }
        let size = self.profile.page_size;
        let front = if header.is_some() { HEADER_LEN as u64 } else { 0 };
        head.index = index;
        head.end = offset + front + frames.len() as u64 * size.frame_len();
        head.salt = header.or(frames.last().map(|f| f.salt));
        head.last = frames.last().map(frame_header);
        let number = size.frames_at(head.end).and_then(|n| n.checked_sub(1));
        head.local = number.and_then(|n| self.dbs[a.db].wal.frames.get(n as usize)).map(frame_header);
        Some(head)
    }

    pub(crate) fn began(&mut self, a: &Agent, replica: usize, generation: Generation, reason: Broken) {
        self.cover(&format!("began: {reason:?}"));
        self.note(format_args!("agent {} begins {generation} at {replica}: {reason}", a.pid));
        self.begun[replica].push(reason);
    }

    pub(crate) fn retain(&mut self, a: &mut Agent, replica: usize, generation: Generation) {
        if self.stores[replica].weather != Weather::Fine {
            return self.agent_hears(a, Event::Retained { replica, stale: false });
        }
        let retention = self.profile.replicas[replica].retention;
        let objects = &self.stores[replica].objects;
        let listing: Vec<Entry> =
            objects.iter().map(|(name, o)| Entry { name: *name, created: timestamp(o.created) }).collect();
        let mut decided = {
            // One lineage: whatever lies there is the database's own past.
            let past = Descent { adopts: Some(Timestamp::MAX), ..Descent::default() };
            retain(&listing, timestamp(self.now), retention, generation, &past)
        };
        if self.mutant == Some(Mutant::ForgetsBase) {
            decided = forgets_base(&listing, timestamp(self.now), retention, generation);
        }
        if !decided.delete.is_empty() {
            self.cover("retention deleted");
        }
        if decided.delete.iter().any(|n| n.generation() != generation) {
            self.cover("retention deleted of another generation");
        }
        if decided.stale {
            self.cover("retention found the snapshot stale");
        }
        self.delete(a, replica, decided.delete, decided.stale);
    }

    /// Deletes one after the other; the agent may die in between.
    pub(crate) fn delete(&mut self, a: &mut Agent, replica: usize, mut names: Vec<Name>, stale: bool) {
        if names.is_empty() || self.stores[replica].weather != Weather::Fine {
            self.check_points(replica);
            return self.agent_hears(a, Event::Retained { replica, stale });
        }
        let name = names.remove(0);
        self.stores[replica].objects.remove(&name);
        self.note(format_args!("{name} is deleted at {replica}"));
        let delay = self.stores[replica].latency / 8 + 1;
        self.after(delay, Job::Agent { pid: a.pid, step: Step::Delete(replica, names, stale) });
    }

    /// Restores to the position as a reader would and compares.
    pub(crate) fn validate(&mut self, a: &mut Agent, replica: usize, pos: Pos, asked: u64) {
        if let Some(&seq) = self.reached.get(&(replica, pos))
            && !self.is_stale()
        {
            self.cover("validated");
            let objects = &self.stores[replica].objects;
            let found = restore(objects, self.profile.page_size, Until::Pos(asked, pos));
            match found {
                Ok(Some(image)) if image == *self.history.state(seq) => {}
                other => {
                    self.violated("P1", format!("replica {replica} at {pos} is not state {seq}: {other:?}"))
                }
            }
        }
        self.agent_hears(a, Event::Validated { replica });
    }
}

/// What Litestream 0.3.13 does (spec litestream-v03 §11.14).
fn forgets_base(listing: &[Entry], now: Timestamp, retention: Duration, current: Generation) -> Retained {
    let cutoff = now.checked_sub(retention).expect("a time after 1970");
    let young = |e: &&Entry| {
        matches!(e.name, Name::Snapshot { generation, .. } if generation == current) && e.created >= cutoff
    };
    let Some(base) = listing.iter().filter(young).map(|e| e.name.index()).min() else {
        return Retained { stale: true, ..Retained::default() };
    };
    let goes = |n: &Name| n.generation() == current && n.index() < base;
    Retained { delete: listing.iter().map(|e| e.name).filter(goes).collect(), ..Retained::default() }
}

pub(crate) fn frame_header(f: &Frame) -> FrameHeader {
    FrameHeader { page: f.page, commit: f.commit, salt: f.salt, checksum: f.checksum }
}
