//! What the simulated shell ships: segments out of the WAL or a held tail, copies of the database file.

use std::rc::Rc;

use holdfast::format::layout::{Generation, Name, Pos, WalIndex};
use holdfast::format::wal::{Checksum, HEADER_LEN, PageSize, Salt};
use holdfast::plan::database::{Event, SegmentJob};
use holdfast::plan::replica::{Fault, FaultKind, SEGMENT_BYTES, named};

use super::agent::{Agent, Step};
use super::mutant::Mutant;
use super::profile::MS;
use super::sqlite::{Frame, Image, start};
use super::store::{Content, Delivery, Put};
use super::world::{Job, World};

/// The held end of an incarnation.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) from: u64,
    pub(crate) salt: Salt,
    pub(crate) frames: Vec<Frame>,
}

#[derive(Debug)]
pub(crate) struct Copying {
    pub(crate) generation: Generation,
    pub(crate) index: WalIndex,
    pub(crate) needs: u64,
    /// As long as the file was at the start; what is no longer there when it is read stays 0.
    pub(crate) pages: Image,
    /// Pages to copy, in any order: several threads read.
    pub(crate) left: Vec<usize>,
    pub(crate) db: usize,
}

/// Where a segment's bytes are, decided when it is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Held(Rc<Tail>),
    Live(Salt),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Segment,
    Snapshot(WalIndex),
}

impl World {
    /// Frames `first..end` of the live WAL, if they are of the incarnation `salt`.
    pub(crate) fn live(&self, db: usize, salt: Salt, first: u32, end: u32) -> Option<Vec<Frame>> {
        let wal = &self.dbs[db].wal;
        let header = wal.header.filter(|(s, _)| *s == salt)?.0;
        let before = match first {
            0 => start(header),
            n => wal.frames.get(n as usize - 1).filter(|f| f.salt == salt)?.checksum,
        };
        let list = wal.frames.get(first as usize..end.max(first) as usize)?.to_vec();
        verify(before, salt, &list).then_some(list)
    }

    /// Reads one segment and sends it off.
    pub(crate) fn read(&mut self, a: &mut Agent, r: usize, job: SegmentJob, source: Source) {
        let size = self.profile.page_size;
        let at = |offset: u64| size.frames_at(offset.max(HEADER_LEN as u64)).expect("a frame's end") as u32;
        let (first, last) = (at(job.from), at(job.to));
        // Never more than a segment takes, and whole transactions as long as one fits.
        let most = first + (SEGMENT_BYTES / size.frame_len()).max(1) as u32;
        let end = if job.exact { last } else { last.min(most) };
        let found = match &source {
            Source::Held(t) => {
                let skip = (first - at(t.from)) as usize;
                Some((t.salt, t.frames[skip..][..(end - first) as usize].to_vec()))
            }
            Source::Live(salt) => self.live(a.db, *salt, first, end).map(|list| (*salt, list)),
        };
        // A disk fails now and then.
        let found = found.filter(|_| !self.chance.permille(3));
        let Some((salt, mut frames)) = found else {
            self.cover("segment could not be read");
            return self.agent_hears(a, Event::Segment { replica: r, result: Err(fault(FaultKind::Local)) });
        };
        if matches!(source, Source::Held(_)) {
            self.cover("segment shipped from a held tail");
        }
        if end < last {
            self.cover("backlog cut into segments");
            match frames.iter().rposition(|f| f.commit > 0) {
                Some(commit) => frames.truncate(commit + 1),
                None => self.cover("segment ended inside a transaction"),
            }
        }
        let end = first + frames.len() as u32;
        let cut = size.offset_of(end.into());
        let pos =
            |offset| Pos { generation: job.generation, index: job.index, offset: named(job.base, offset) };
        let starts = job.from == job.base;
        let mut header = salt;
        if job.base > 0 {
            self.cover("segment of a split index");
            header = split(salt, at(job.base));
            let mut before = if starts { start(header) } else { a.chains[&(r, pos(job.from))] };
            for f in &mut frames {
                *f = Frame { salt: header, ..f.sealed(before) };
                before = f.checksum;
            }
            a.chains.insert((r, pos(cut)), before);
        }
        if job.exact {
            self.cover("segment repeated");
        }
        let offset = named(job.base, job.from);
        let name = Name::Segment { generation: job.generation, index: job.index, offset };
        self.reached.insert((r, pos(cut)), self.history.at(salt, end));
        let content = Rc::new(Content::Segment { header: starts.then_some(header), frames });
        self.agent_hears(a, Event::Read { replica: r, to: cut });
        self.put(a, r, name, content, Purpose::Segment);
        if self.mutant == Some(Mutant::AckBeforeUpload) {
            self.agent_hears(a, Event::Segment { replica: r, result: Ok(()) });
        }
    }

    pub(crate) fn put(
        &mut self,
        a: &mut Agent,
        replica: usize,
        name: Name,
        content: Rc<Content>,
        purpose: Purpose,
    ) {
        self.puts += 1;
        let delivery = self.stores[replica].delivery(&mut self.chance);
        self.note(format_args!("puts {name} at {replica}: {delivery:?}"));
        match delivery.lands {
            Some(time) => {
                let pid = a.pid;
                self.after(time, Job::Lands { pid, replica, name, content, purpose, delivery });
            }
            None => {
                let lost = Step::Answer(replica, purpose, Err(FaultKind::Retry));
                self.soon(a, delivery.answer, lost);
            }
        }
    }

    pub(crate) fn answer(
        &mut self,
        a: &mut Agent,
        replica: usize,
        purpose: Purpose,
        result: Result<(), FaultKind>,
    ) {
        if let Err(FaultKind::Diverged) = result {
            self.cover("store answered: diverged");
            // One writer, and every repetition the same: only a dead writer's last object may be in the way.
            let segment = matches!(purpose, Purpose::Segment);
            if segment && !self.happened("object landed after its writer died") {
                self.violated("P4", format!("replica {replica} holds something else than the machine sends"));
            }
        }
        match purpose {
            Purpose::Segment if self.mutant == Some(Mutant::AckBeforeUpload) => {}
            Purpose::Segment => {
                self.agent_hears(a, Event::Segment { replica, result: result.map_err(fault) })
            }
            Purpose::Snapshot(index) => {
                // An answer was lost: the one that is there is ours, and restores with its index all the same.
                let result = if result == Err(FaultKind::Diverged) { Ok(()) } else { result };
                let result = result.map(|()| index).map_err(fault);
                self.agent_hears(a, Event::Snapshot { replica, result });
            }
        }
    }

    /// Copies a page or some of the database file as it is at this moment.
    pub(crate) fn copy_page(&mut self, a: &mut Agent, r: usize) {
        let Some(job) = &mut a.snapshots[r] else { return };
        let file = &self.dbs[job.db].file;
        if job.pages.is_empty() {
            job.pages = vec![0; file.len()];
            job.left = (0..file.len()).rev().collect();
            for n in 1..job.left.len() {
                let near = n - self.chance.range(0, n.min(8) as u64) as usize;
                job.left.swap(n, near);
            }
        }
        for _ in 0..self.chance.range(1, 6) {
            let Some(page) = job.left.pop() else { break };
            job.pages[page] = file.get(page).copied().unwrap_or(0);
        }
        if !job.left.is_empty() {
            let delay = self.chance.range(10, 3 * MS);
            return self.soon(a, delay, Step::Page(r));
        }
        let Some(Copying { generation, index, needs, pages, .. }) = a.snapshots[r].take() else { return };
        self.agent_hears(a, Event::SnapshotRead { replica: r });
        let content = Rc::new(Content::Snapshot { pages, needs });
        self.put(a, r, Name::Snapshot { generation, index }, content, Purpose::Snapshot(index));
    }

    /// What was on the wire when its writer died may still arrive, for a moment.
    pub(crate) fn is_lost(&mut self, pid: u32) -> bool {
        let Some(died) = self.died.get(&pid) else { return false };
        if self.now - died > 300 * MS || self.chance.permille(500) {
            return true;
        }
        self.cover("object landed after its writer died");
        false
    }

    /// An object arrives at the store, whether or not anybody is left to hear of it.
    pub(crate) fn lands(
        &mut self,
        pid: u32,
        replica: usize,
        name: Name,
        content: Rc<Content>,
        purpose: Purpose,
        delivery: Delivery,
    ) {
        if self.is_lost(pid) {
            return;
        }
        let put = self.stores[replica].put(self.now, name, content);
        self.note(format_args!("{name} lands at {replica}: {put:?}"));
        let result = match put {
            Put::Created => Ok(()),
            Put::AlreadyThere => {
                self.cover("retry found its own object");
                Ok(())
            }
            Put::Diverged => Err(FaultKind::Diverged),
        };
        if !delivery.heard {
            self.cover("response lost");
        }
        let result = if delivery.heard { result } else { Err(FaultKind::Retry) };
        self.after(delivery.answer, Job::Agent { pid, step: Step::Answer(replica, purpose, result) });
        if put == Put::Created {
            self.check_restore(replica);
        }
    }
}

impl Tail {
    pub(crate) fn covers(&self, size: PageSize, from: u64, to: u64) -> bool {
        let first = size.frames_at(self.from.max(HEADER_LEN as u64)).expect("a tail begins with a frame");
        self.from <= from && to <= size.offset_of(first + self.frames.len() as u64)
    }
}

/// The salt of an index that begins inside the WAL.
fn split(salt: Salt, frames: u32) -> Salt {
    Salt((u64::from_be_bytes(salt.0) ^ u64::from(frames)).to_be_bytes())
}

pub(crate) fn verify(mut before: Checksum, salt: Salt, frames: &[Frame]) -> bool {
    frames.iter().all(|f| {
        let good = f.follows(before, salt);
        before = f.checksum;
        good
    })
}

pub(crate) fn fault(kind: FaultKind) -> Fault {
    Fault { kind, message: "simulated".into() }
}
