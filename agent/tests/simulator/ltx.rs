//! What the simulated shell does for a replica of LTX files: batches, full copies, merges, deletions, the first look.

use std::collections::BTreeMap;
use std::rc::Rc;

use holdfast::format::ltx::{Level, Name, Txid, WalPos};
use holdfast::format::wal::{Checksum, HEADER_LEN};
use holdfast::plan::database::Event;
use holdfast::plan::ltx::compact::Compaction;
use holdfast::plan::ltx::files::{self, Files};
use holdfast::plan::ltx::replica::{BatchJob, CopyJob, Done, Head, Last, Shipped, Work};
use holdfast::plan::position::Position;
use holdfast::plan::replica::{Broken, Fault, FaultKind, SEGMENT_BYTES};
use jiff::Timestamp;

use super::agent::{Agent, Step};
use super::chores::frame_header;
use super::history::Seq;
use super::ltx_store::Content;
use super::mutant::Mutant;
use super::profile::MS;
use super::restore::timestamp;
use super::ship::{Source, fault};
use super::sqlite::Frame;
use super::store::{Delivery, Put, Weather};
use super::world::{Job, World};

/// A full copy that is being made.
#[derive(Debug)]
pub(crate) struct Whole {
    job: CopyJob,
    commit: u32,
    /// What the WAL has of it.
    newest: BTreeMap<u32, u32>,
    pages: BTreeMap<u32, u32>,
    last: Option<Checksum>,
    db: usize,
    seq: Seq,
}

/// What a file on its way is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Batch,
    Copy,
    Merge,
}

/// A step of work on a replica of LTX files.
#[derive(Debug, Clone)]
pub(crate) enum LtxStep {
    /// In the attachment with this number.
    Batch(BatchJob, Source, u32),
    Copy(CopyJob, u32),
    Page,
    Merge(Compaction),
    /// What is left, and what is gone.
    Delete(Vec<Name>, Vec<Name>),
    Answer(Name, Rc<Content>, Purpose, Result<(), FaultKind>),
}

impl World {
    pub(crate) fn ltx_begins(&mut self, a: &mut Agent, r: usize, work: Work) {
        let soon = self.chance.range(20, 4 * MS);
        let latency = self.stores[r].latency;
        let (delay, step) = match work {
            Work::Batch(job) => {
                let size = self.profile.page_size;
                let held = a.tails.get(&job.incarnation).filter(|t| t.covers(size, job.from, job.to));
                let source = held.map_or(Source::Live(a.salt), |tail| Source::Held(tail.clone()));
                if matches!(source, Source::Live(_)) && a.machine.wal_end().incarnation != job.incarnation {
                    self.violated("P6", format!("replica {r} needs {job:?}, which nobody captured"));
                }
                (soon, LtxStep::Batch(job, source, a.attachment))
            }
            Work::Copy(job) => (soon, LtxStep::Copy(job, a.attachment)),
            Work::Compact(job) => (latency * (2 + job.inputs.len() as u64), LtxStep::Merge(job)),
            Work::Delete(names) => (latency, LtxStep::Delete(names, Vec::new())),
        };
        self.soon(a, delay, Step::Ltx(r, step));
    }

    pub(crate) fn ltx_acts(&mut self, a: &mut Agent, r: usize, step: LtxStep) {
        match step {
            LtxStep::Batch(job, source, attachment) => self.batch(a, r, job, source, attachment),
            LtxStep::Copy(job, attachment) => self.copy(a, r, job, attachment),
            LtxStep::Page => self.copy_pages(a, r),
            LtxStep::Merge(job) => self.merge(a, r, &job),
            LtxStep::Delete(names, gone) => self.ltx_delete(a, r, names, gone),
            LtxStep::Answer(name, content, purpose, result) => {
                self.ltx_answer(a, r, name, &content, purpose, result);
            }
        }
    }

    fn ltx_hears(&mut self, a: &mut Agent, replica: usize, done: Done) {
        self.agent_hears(a, Event::LtxDone { replica, done });
    }

    /// Every page that whole transactions of the range changed, and those the database grew by.
    fn batch(&mut self, a: &mut Agent, r: usize, job: BatchJob, source: Source, attachment: u32) {
        let size = self.profile.page_size;
        let at = |offset: u64| size.frames_at(offset.max(HEADER_LEN as u64)).expect("a frame's end") as u32;
        let (first, last) = (at(job.from), at(job.to));
        let found = match &source {
            Source::Held(t) => {
                let skip = (first - at(t.from)) as usize;
                Some((t.salt, t.frames[skip..][..(last - first) as usize].to_vec()))
            }
            Source::Live(salt) => self.live(a.db, *salt, first, last).map(|list| (*salt, list)),
        };
        // A disk fails now and then; and without a pin nothing holds still.
        let found = found.filter(|_| attachment == a.attachment && !self.chance.permille(3));
        let Some((salt, mut frames)) = found else {
            self.cover("ltx: batch could not be read");
            return self.ltx_hears(a, r, Done::Batch(Err(fault(FaultKind::Local))));
        };
        if matches!(source, Source::Held(_)) {
            self.cover("ltx: batch from a held tail");
        }
        let most = (SEGMENT_BYTES / size.frame_len()).max(1) as usize;
        if !job.exact && frames.len() > most {
            self.cover("ltx: backlog cut into batches");
            let commit = |f: &Frame| f.commit > 0;
            let fits = frames[..most].iter().rposition(commit);
            let end = fits.or_else(|| frames.iter().position(commit));
            frames.truncate(end.map_or(frames.len(), |n| n + 1));
        }
        if job.exact {
            self.cover("ltx: batch repeated");
        }
        let end = frames.last().copied().expect("a batch holds something");
        if end.commit == 0 {
            return self.violated("P1", format!("replica {r}: {job:?} ends inside a transaction"));
        }
        let mut pages: BTreeMap<u32, u32> = frames.iter().map(|f| (f.page, f.version)).collect();
        for page in job.before + 1..=end.commit {
            if !pages.contains_key(&page) && self.mutant != Some(Mutant::ForgetsGrowth) {
                self.cover("ltx: grew by a page nobody wrote");
                // A page of the freelist has no content that matters: here it is always the same.
                pages.insert(page, 0);
            }
        }
        pages.retain(|page, _| *page <= end.commit);
        let frames = first + frames.len() as u32;
        let to = size.offset_of(frames.into());
        let from = job.from.max(HEADER_LEN as u64);
        let content = Content {
            commit: end.commit,
            pages,
            stamp: job.stamp,
            wal: WalPos { offset: from, size: to - from, salt },
            node: proof(end.checksum),
            seq: self.history.at(salt, frames),
        };
        self.agent_hears(a, Event::Read { replica: r, to });
        self.ltx_put(a, r, upload(job.txid), Rc::new(content), Purpose::Batch);
    }

    fn copy(&mut self, a: &mut Agent, r: usize, job: CopyJob, attachment: u32) {
        let size = self.profile.page_size;
        let at = size.frames_at(job.at.max(HEADER_LEN as u64)).expect("a frame's end") as u32;
        let in_wal = job.in_wal && at > 0;
        let frames = if in_wal { self.live(a.db, job.salt, 0, at) } else { Some(Vec::new()) };
        let Some(frames) = frames.filter(|_| attachment == a.attachment) else {
            self.cover("ltx: copy could not be read");
            return self.ltx_hears(a, r, Done::Copy(Err(fault(FaultKind::Local))));
        };
        let db = &self.dbs[a.db];
        let seq = match at {
            0 => self.history.began(db.index.salt, &db.file),
            at => self.history.at(job.salt, at),
        };
        let stands = at.checked_sub(1).and_then(|n| db.wal.frames.get(n as usize));
        a.wholes[r] = Some(Whole {
            job,
            commit: frames.last().map_or(db.file.len() as u32, |f| f.commit),
            newest: frames.iter().map(|f| (f.page, f.version)).collect(),
            pages: BTreeMap::new(),
            last: stands.filter(|f| f.salt == job.salt).map(|f| f.checksum),
            db: a.db,
            seq,
        });
        self.copy_pages(a, r);
    }

    /// Copies a page or some, as they are at this moment.
    fn copy_pages(&mut self, a: &mut Agent, r: usize) {
        let Some(whole) = &mut a.wholes[r] else { return };
        let file = &self.dbs[whole.db].file;
        for _ in 0..self.chance.range(1, 6) {
            let page = whole.pages.len() as u32 + 1;
            if page <= whole.commit {
                let in_file = file.get(page as usize - 1).copied().unwrap_or(0);
                whole.pages.insert(page, whole.newest.get(&page).copied().unwrap_or(in_file));
            }
        }
        if (whole.pages.len() as u32) < whole.commit {
            let delay = self.chance.range(10, 3 * MS);
            return self.soon(a, delay, Step::Ltx(r, LtxStep::Page));
        }
        let Some(Whole { job, commit, newest, pages, last, db, seq }) = a.wholes[r].take() else { return };
        let same = self.dbs[db].wal.header.is_some_and(|(salt, _)| salt == job.salt);
        if !newest.is_empty() && !same {
            self.cover("ltx: copy could not be read");
            return self.ltx_hears(a, r, Done::Copy(Err(fault(FaultKind::Local))));
        }
        let (start, frame) = (HEADER_LEN as u64, self.profile.page_size.frame_len());
        let end = job.at.max(start);
        let snapshot = job.name.level == Level::SNAPSHOT;
        self.cover(if snapshot { "ltx: snapshot" } else { "ltx: full copy" });
        let offset = if snapshot { end.saturating_sub(frame).max(start) } else { start };
        let wal = WalPos { offset, size: end - offset, salt: job.salt };
        let node = last.map_or(0, proof);
        let content = Content { commit, pages, stamp: job.stamp, wal, node, seq };
        self.agent_hears(a, Event::SnapshotRead { replica: r });
        self.ltx_put(a, r, job.name, Rc::new(content), Purpose::Copy);
    }

    fn merge(&mut self, a: &mut Agent, r: usize, job: &Compaction) {
        let store = &self.stores[r];
        let inputs: Option<Vec<_>> = job.inputs.iter().map(|f| store.files.get(&f.name)).collect();
        let Some(inputs) = inputs.filter(|_| store.weather == Weather::Fine) else {
            self.cover("ltx: merge failed");
            return self.ltx_hears(a, r, Done::Compact(Err(fault(FaultKind::Retry))));
        };
        let mut pages = BTreeMap::new();
        for file in &inputs {
            for (page, version) in &file.content.pages {
                if self.mutant == Some(Mutant::OldestWins) {
                    pages.entry(*page).or_insert(*version);
                } else {
                    pages.insert(*page, *version);
                }
            }
        }
        let last = &inputs.last().expect("a merge has inputs").content;
        pages.retain(|page, _| *page <= last.commit);
        let content = Content { pages, wal: WalPos::NONE, node: 0, ..(**last).clone() };
        self.cover(&format!("ltx: merged into level {}", job.output.level));
        self.ltx_put(a, r, job.output, Rc::new(content), Purpose::Merge);
    }

    /// Deletes one after the other; the agent may die in between.
    fn ltx_delete(&mut self, a: &mut Agent, r: usize, mut names: Vec<Name>, mut gone: Vec<Name>) {
        if names.is_empty() || self.stores[r].weather != Weather::Fine {
            let failed = (!names.is_empty()).then(|| fault(FaultKind::Retry));
            self.check_points(r);
            self.check_restore(r);
            return self.ltx_hears(a, r, Done::Delete(gone, failed));
        }
        let name = names.remove(0);
        self.stores[r].files.remove(&name);
        self.cover("ltx: deleted");
        self.note(format_args!("{name} is deleted at {r}"));
        gone.push(name);
        let delay = self.stores[r].latency / 8 + 1;
        self.soon(a, delay, Step::Ltx(r, LtxStep::Delete(names, gone)));
    }

    fn ltx_put(&mut self, a: &mut Agent, replica: usize, name: Name, content: Rc<Content>, purpose: Purpose) {
        // What is left to merge may take minutes after the last commit, but each makes a file that was not there.
        let counts = purpose != Purpose::Merge || self.stores[replica].files.contains_key(&name);
        self.puts += u64::from(counts);
        let delivery = self.stores[replica].delivery(&mut self.chance);
        self.note(format_args!("puts {name} at {replica}: {delivery:?}"));
        match delivery.lands {
            Some(time) => {
                let pid = a.pid;
                let content = content.clone();
                self.after(time, Job::LtxLands { pid, replica, name, content, purpose, delivery });
            }
            None => {
                let lost = LtxStep::Answer(name, content.clone(), purpose, Err(FaultKind::Retry));
                self.soon(a, delivery.answer, Step::Ltx(replica, lost));
            }
        }
        if purpose == Purpose::Merge && self.mutant == Some(Mutant::MergedBeforeUpload) {
            let file = files::File { name, created: content.stamp, size: 200 };
            self.ltx_hears(a, replica, Done::Compact(Ok(file)));
        }
    }

    /// A file arrives at the store, whether or not anybody is left to hear of it.
    pub(crate) fn ltx_lands(
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
        let put = self.stores[replica].put_file(self.now, name, content.clone());
        self.note(format_args!("{name} lands at {replica}: {put:?}"));
        let result = match put {
            Put::Created => Ok(()),
            Put::AlreadyThere => {
                self.cover("ltx: retry found its own file");
                Ok(())
            }
            // Whatever was merged there already holds the same.
            Put::Diverged if purpose == Purpose::Merge => Ok(()),
            Put::Diverged if self.copied_before(replica, name, &content) => Ok(()),
            Put::Diverged => Err(FaultKind::Diverged),
        };
        let result = if delivery.heard { result } else { Err(FaultKind::Retry) };
        let step = Step::Ltx(replica, LtxStep::Answer(name, content.clone(), purpose, result));
        self.after(delivery.answer, Job::Agent { pid, step });
        if put == Put::Created {
            if name.level == Level::ZERO {
                self.uploads[replica].push((name.max, content.stamp, content.seq));
            }
            self.check_restore(replica);
        }
    }

    /// As the shell takes a snapshot for its own: by its header.
    fn copied_before(&mut self, replica: usize, name: Name, content: &Content) -> bool {
        let there = &self.stores[replica].files[&name].content;
        let proven = there.wal == content.wal && there.node != 0 && content.node != 0;
        let same = there.commit == content.commit && (!proven || there.node == content.node);
        if name.level != Level::SNAPSHOT || !same {
            return false;
        }
        let equal = there.pages == content.pages;
        self.cover("ltx: snapshot found its own of another time");
        if !equal && !self.happened("object landed after its writer died") {
            self.violated("P4", format!("{name} at {replica} is taken for another"));
        }
        true
    }

    fn ltx_answer(
        &mut self,
        a: &mut Agent,
        replica: usize,
        name: Name,
        content: &Content,
        purpose: Purpose,
        result: Result<(), FaultKind>,
    ) {
        if result == Err(FaultKind::Diverged) {
            self.cover("ltx: number was taken");
            // Only a dead writer's last file may be in the way.
            if !self.happened("object landed after its writer died") {
                self.violated("P4", format!("replica {replica} holds another {name} than the machine sends"));
            }
        }
        if purpose == Purpose::Merge && self.mutant == Some(Mutant::MergedBeforeUpload) {
            return;
        }
        let file = files::File { name, created: content.stamp, size: 200 };
        let shipped = result.map(|()| Shipped { file, commit: content.commit }).map_err(fault);
        self.ltx_hears(
            a,
            replica,
            match purpose {
                Purpose::Batch => Done::Batch(shipped),
                Purpose::Copy => Done::Copy(shipped),
                Purpose::Merge => Done::Compact(shipped.map(|s| s.file)),
            },
        );
    }

    /// What there is, and whether the newest upload ends where the live WAL can go on.
    pub(crate) fn ltx_inspect(&mut self, a: &mut Agent, replica: usize, heard: bool) {
        if !heard {
            let failed = Fault { kind: FaultKind::Retry, message: "simulated".into() };
            return self.agent_hears(a, Event::Inspected { replica, result: Err(failed) });
        }
        let store = &self.stores[replica];
        // A directory shows the date a file was given, a bucket when it was stored.
        let created = |f: &super::ltx_store::Stored| match replica {
            0 => f.content.stamp,
            _ => timestamp(f.landed),
        };
        let files: Files = store
            .files
            .iter()
            .map(|(name, f)| files::File { name: *name, created: created(f), size: 200 })
            .collect();
        let size = self.profile.page_size;
        let last = files.newest(Level::ZERO).map(|file| {
            let content = &store.files[&file.name].content;
            let wal = content.wal;
            let number = size.frames_at(wal.offset + wal.size).and_then(|n| n.checked_sub(1));
            let local = number.and_then(|n| self.dbs[a.db].wal.frames.get(n as usize));
            let local = local.filter(|f| f.salt == wal.salt);
            Last {
                name: file.name,
                page_size: size,
                commit: content.commit,
                stamp: content.stamp,
                wal,
                local: local.map(frame_header),
                same: local.is_some_and(|f| content.node == proof(f.checksum)),
            }
        });
        let known = a.machine.position(replica).is_some();
        self.agent_hears(a, Event::LtxInspected { replica, result: Ok(Head { files, last }) });
        if !known && matches!(a.machine.position(replica), Some(Position::Ltx(_))) {
            self.cover("ltx: went on where another agent stopped");
        }
    }

    pub(crate) fn ltx_began(&mut self, a: &Agent, replica: usize, txid: Txid, reason: Broken) {
        self.cover(&format!("ltx began: {reason:?}"));
        self.note(format_args!("agent {} begins anew with {txid} at {replica}: {reason}", a.pid));
        self.begun[replica].push(reason);
    }
}

/// An upload's name.
pub(crate) fn upload(txid: Txid) -> Name {
    Name { level: Level::ZERO, min: txid, max: txid }
}

fn proof(checksum: Checksum) -> u64 {
    u64::from(checksum.s0) << 32 | u64::from(checksum.s1)
}

/// Every upload that ever arrived: its number, its date, its state.
pub(crate) type Uploads = Vec<(Txid, Timestamp, Seq)>;
