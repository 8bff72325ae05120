//! The agent's shell in the simulator: performs what the machine decides, with other hands and another clock.
//!
//! Everything takes time, and everybody else acts in between: the hand-over goes step by step, a look at the WAL index
//! follows a `BEGIN` only later, bytes are read some time after they were asked for.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use holdfast::format::layout::{Generation, Name, Pos, WalIndex};
use holdfast::format::wal::{Checksum, HEADER_LEN, PageSize, Salt};
use holdfast::plan::database::{Action, Database, Event, Pin, SegmentJob, View, WalPos};
use holdfast::plan::handover::{HandOver, Marks, Seen, Slot, Step as Move};
use holdfast::plan::replica::{Fault, FaultKind, SEGMENT_BYTES, named};

use super::history::Seq;
use super::mutant::Mutant;
use super::profile::{MS, SECOND};
use super::sqlite::{Conn, Frame, Image, Mode, start};
use super::store::{Content, Put};
use super::world::{Job, World};

/// One process of the agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) pid: u32,
    born: u64,
    /// Which database it is attached to.
    pub(crate) db: usize,
    pub(crate) conns: [Option<Conn>; 2],
    pin: Slot,
    pinned: (Salt, Pin),
    pub(crate) machine: Database,
    round: Option<Round>,
    pub(crate) tails: BTreeMap<u64, Rc<Tail>>,
    /// The salt of the live WAL, as last looked at.
    salt: Salt,
    /// Checksums at the ends of segments of indexes that begin inside the WAL: nobody else knows them.
    chains: HashMap<(usize, Pos), Checksum>,
    snapshots: [Option<Copying>; 2],
    wake: Option<u64>,
    look_due: bool,
    pub(crate) stopping: Option<Seq>,
    acknowledged: [Option<Pos>; 2],
    /// Actions in the running second.
    busy: (u64, u32),
}

/// The held end of an incarnation.
#[derive(Debug)]
pub(crate) struct Tail {
    from: u64,
    salt: Salt,
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Round {
    machine: HandOver,
    from: Option<WalPos>,
    salt: Salt,
    doing: Doing,
    /// What each pin saw when it began.
    begun: [(Salt, Pin); 2],
    first: Option<Marks>,
}

#[derive(Debug, Clone, Copy)]
enum Doing {
    /// The next step, after this.
    Next(Seen),
    /// The transaction has begun, the marks are not looked at yet.
    Looking(Slot),
    Checkpointing(Slot),
    Capturing(u32),
}

#[derive(Debug)]
struct Copying {
    generation: Generation,
    index: WalIndex,
    /// As long as the file was at the start; what is no longer there when it is read stays 0.
    pages: Image,
    /// Pages to copy, in any order: several threads read.
    left: Vec<usize>,
    db: usize,
}

/// What the agent does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Attach,
    Pinned,
    Look,
    Check,
    Wake,
    Round,
    Inspect(usize, bool),
    Read(usize, SegmentJob, Source),
    Page(usize),
    Answer(usize, Purpose, Result<(), FaultKind>),
    Retain(usize, Generation),
    Delete(usize, Vec<Name>, bool),
    Validate(usize, Pos, u64),
    Deadline,
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
    pub(crate) fn agent_starts(&mut self) {
        if self.agent.is_some() {
            return;
        }
        self.pids += 1;
        let (policy, replicas) = (self.profile.policy.clone(), self.profile.replicas.clone());
        let machine = Database::new(policy, replicas, self.chance.roll());
        let agent = Agent {
            pid: self.pids,
            born: self.now,
            db: self.dbs.len() - 1,
            conns: [None; 2],
            pin: Slot::A,
            pinned: (Salt([0; 8]), Pin::Zero),
            machine,
            round: None,
            tails: BTreeMap::new(),
            salt: Salt([0; 8]),
            chains: HashMap::new(),
            snapshots: [None, None],
            wake: None,
            look_due: false,
            stopping: None,
            acknowledged: [None; 2],
            busy: (0, 0),
        };
        self.note(format_args!("agent {} starts", agent.pid));
        self.soon(&agent, 1, Step::Attach);
        self.soon(&agent, SECOND, Step::Check);
        self.agent = Some(agent);
    }

    pub(crate) fn agent_dies(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        for conn in agent.conns.into_iter().flatten() {
            self.dbs[agent.db].kill(conn);
        }
        self.died.insert(agent.pid, self.now);
        self.agent_locks = false;
        self.cover("agent crashed");
        self.note(format_args!("agent {} dies", agent.pid));
    }

    /// SIGTERM: everything there is now has to be replicated, within a deadline.
    pub(crate) fn agent_is_stopped(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        if agent.stopping.is_none() && agent.conns[0].is_some() {
            agent.stopping = Some(self.history.seq());
            self.note(format_args!("agent {} is asked to stop", agent.pid));
            if !self.ending {
                self.soon(&agent, 8 * SECOND, Step::Deadline);
            }
            // The last chance to notice that another file stands at the path.
            if agent.db + 1 != self.dbs.len() {
                self.lose(&mut agent);
            }
            self.agent_hears(&mut agent, Event::Stop);
            self.soon(&agent, 50, Step::Look);
        }
        self.agent = Some(agent);
    }

    /// The app committed, and the agent hears of it if it listens.
    pub(crate) fn agent_notices_commit(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        let listens = agent.db + 1 == self.dbs.len() && agent.machine.wants_watch(self.time(&agent));
        if listens && !self.chance.permille(10) {
            let delay = self.chance.range(50, 3 * MS);
            self.soon(&agent, delay, Step::Look);
        }
        self.agent = Some(agent);
    }

    fn soon(&mut self, agent: &Agent, delay: u64, step: Step) {
        self.after(delay, Job::Agent { pid: agent.pid, step });
    }

    fn time(&self, agent: &Agent) -> Duration {
        Duration::from_micros(self.now - agent.born)
    }

    pub(crate) fn agent_acts(&mut self, pid: u32, step: Step) {
        let Some(mut agent) = self.agent.take_if(|a| a.pid == pid) else { return };
        let a = &mut agent;
        match step {
            Step::Attach => self.attach(a),
            Step::Pinned => {
                a.pinned = pinned(self.marks(a));
                self.look(a);
            }
            Step::Look => self.look(a),
            Step::Check => self.check(a),
            Step::Wake => {
                if a.wake.is_some_and(|at| at <= self.now) {
                    a.wake = None;
                    self.look(a);
                }
            }
            Step::Round => self.round(a),
            Step::Inspect(r, heard) => self.inspect(a, r, heard),
            Step::Read(r, job, source) => self.read(a, r, job, source),
            Step::Page(r) => self.copy_page(a, r),
            Step::Answer(r, purpose, result) => self.answer(a, r, purpose, result),
            Step::Retain(r, generation) => self.retain(a, r, generation),
            Step::Delete(r, names, stale) => self.delete(a, r, names, stale),
            Step::Validate(r, pos, asked) => self.validate(a, r, pos, asked),
            Step::Deadline => {
                self.cover("stop ran into its deadline");
                self.agent_leaves(a);
                return;
            }
        }
        if agent.stopping.is_some() && !self.ending && agent.machine.at_rest() {
            self.check_rest(&agent);
            self.cover("stop came to rest");
            self.agent_leaves(&mut agent);
            return;
        }
        self.agent = Some(agent);
    }

    fn agent_leaves(&mut self, a: &mut Agent) {
        self.detach(a);
        self.agent_locks = false;
        self.died.insert(a.pid, self.now);
        self.note(format_args!("agent {} leaves", a.pid));
        let back = self.chance.range(400 * MS, 6 * SECOND);
        self.after(back, Job::AgentStarts);
    }

    fn attach(&mut self, a: &mut Agent) {
        a.db = self.dbs.len() - 1;
        let db = &mut self.dbs[a.db];
        let conns = [db.open(), db.open()];
        a.conns = conns.map(Some);
        a.pin = Slot::A;
        assert!(db.begin(conns[0]), "a first reader finds a mark");
        let delay = self.chance.range(5, 2 * MS);
        self.soon(a, delay, Step::Pinned);
    }

    fn detach(&mut self, a: &mut Agent) {
        for conn in std::mem::take(&mut a.conns).into_iter().flatten() {
            self.dbs[a.db].close(conn, true, &mut self.chance);
        }
        a.round = None;
    }

    fn check(&mut self, a: &mut Agent) {
        self.soon(a, SECOND, Step::Check);
        if a.conns[0].is_none() {
            return;
        }
        if a.db + 1 == self.dbs.len() {
            return self.look(a);
        }
        self.note(format_args!("agent {} finds another database", a.pid));
        self.lose(a);
    }

    /// The attachment failed for a moment: an error of the disk, a lock that did not come.
    pub(crate) fn agent_loses_source(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        if agent.conns[0].is_some() {
            self.cover("attachment lost");
            self.lose(&mut agent);
        }
        self.agent = Some(agent);
    }

    fn lose(&mut self, a: &mut Agent) {
        self.detach(a);
        self.agent_locks = false;
        // Without a pin the file does not hold still: such a copy must not be published.
        for r in 0..2 {
            if a.snapshots[r].take().is_some() {
                self.cover("snapshot given up with its pin");
                let snapshot = Purpose::Snapshot(WalIndex::ZERO);
                self.soon(a, 100, Step::Answer(r, snapshot, Err(FaultKind::Local)));
            }
        }
        self.agent_hears(a, Event::SourceLost);
        let delay = self.chance.range(MS, 300 * MS);
        self.soon(a, delay, Step::Attach);
    }

    fn marks(&self, a: &Agent) -> Marks {
        let db = &self.dbs[a.db];
        Marks { salt: db.index.salt, frames: db.index.frames, backfilled: db.backfilled }
    }

    /// The database's thread looks, unless it is busy with a round.
    fn look(&mut self, a: &mut Agent) {
        if a.round.is_some() {
            a.look_due = true;
            return;
        }
        a.look_due = false;
        if a.conns[0].is_none() {
            return self.pump(a);
        }
        let marks = self.marks(a);
        let pin = if marks.salt == a.pinned.0 { a.pinned.1 } else { Pin::Zero };
        let before = a.machine.wal_end();
        let view = View { page_size: self.profile.page_size, marks, pin };
        a.machine.handle(self.time(a), Event::View(view));
        let after = a.machine.wal_end();
        if before.incarnation != after.incarnation {
            self.cover("agent saw another incarnation");
            self.note(format_args!("agent sees incarnation {}: {marks:?} {pin:?}", after.incarnation));
        }
        a.salt = marks.salt;
        self.pump(a);
    }

    pub(crate) fn agent_hears(&mut self, a: &mut Agent, event: Event) {
        self.note(format_args!("told {event:?}"));
        a.machine.handle(self.time(a), event);
        self.pump(a);
    }

    /// Performs what the machine decides until it has nothing more to do at this instant.
    fn pump(&mut self, a: &mut Agent) {
        let now = self.time(a);
        let mut n = 0;
        while let Some(action) = a.machine.poll(now) {
            n += 1;
            if n > 40 {
                return self.violated("liveness", format!("poll does not end: {action:?}"));
            }
            self.perform(a, action);
        }
        if a.busy.0 != self.now / SECOND {
            a.busy = (self.now / SECOND, 0);
        }
        a.busy.1 += n;
        if a.busy.1 > 2_000 {
            self.violated("liveness", format!("{} actions within a second", a.busy.1));
        }
        if let Some(at) = a.machine.wake_at() {
            if at <= now {
                self.violated("liveness", format!("wake_at is {at:?}, it is {now:?}"));
            }
            let at = a.born + at.as_micros() as u64;
            if a.wake.is_none_or(|w| at < w) {
                a.wake = Some(at);
                self.soon(a, at.saturating_sub(self.now), Step::Wake);
            }
        }
        for r in 0..2 {
            if let Some(pos) = a.machine.acknowledged(r)
                && a.acknowledged[r] != Some(pos)
            {
                a.acknowledged[r] = Some(pos);
                self.acknowledged(r, pos);
            }
        }
    }

    fn perform(&mut self, a: &mut Agent, action: Action) {
        self.note(format_args!("does {action:?}"));
        match action {
            Action::Inspect { replica } => {
                let delivery = self.stores[replica].delivery(&mut self.chance);
                let delay = delivery.lands.unwrap_or(0) + delivery.answer;
                self.soon(a, delay, Step::Inspect(replica, delivery.heard));
            }
            Action::Segment { replica, job } => {
                let held = a.tails.get(&job.incarnation).filter(|t| t.covers(self.profile.page_size, &job));
                let source = held.map_or(Source::Live(a.salt), |tail| Source::Held(tail.clone()));
                if matches!(source, Source::Live(_)) && a.machine.wal_end().incarnation != job.incarnation {
                    self.violated("P6", format!("replica {replica} needs {job:?}, which nobody captured"));
                }
                let delay = self.chance.range(20, 4 * MS);
                self.soon(a, delay, Step::Read(replica, job, source));
            }
            Action::Snapshot { replica, generation, index } => {
                let salt = self.dbs[a.db].index.salt;
                self.bases.entry((replica, generation, index)).or_insert(self.history.at(salt, 0));
                a.snapshots[replica] =
                    Some(Copying { generation, index, pages: Vec::new(), left: Vec::new(), db: a.db });
                let delay = self.chance.range(20, 4 * MS);
                self.soon(a, delay, Step::Page(replica));
            }
            Action::HandOver { mode, salt, from } => {
                self.cover(match mode {
                    holdfast::plan::handover::Mode::Repin => "round: repin",
                    holdfast::plan::handover::Mode::Gentle { .. } => "round: gentle",
                    holdfast::plan::handover::Mode::Sealed => "round: sealed",
                });
                let begun = [a.pinned; 2];
                let machine = HandOver::new(a.pin, salt, mode);
                let doing = Doing::Next(Seen::Done);
                a.round = Some(Round { machine, from, salt, doing, begun, first: None });
                let delay = self.chance.range(5, MS);
                self.soon(a, delay, Step::Round);
            }
            Action::Forget { before } => a.tails.retain(|n, _| *n >= before),
            Action::Retain { replica, generation } => {
                let delay = self.stores[replica].latency;
                self.soon(a, delay, Step::Retain(replica, generation));
            }
            Action::Validate { replica, pos } => {
                let delay = self.stores[replica].latency * 2;
                self.soon(a, delay, Step::Validate(replica, pos, self.now));
            }
            Action::Began { replica, generation, reason } => self.began(a, replica, generation, reason),
        }
    }

    /// One step of a hand-over.
    fn round(&mut self, a: &mut Agent) {
        let Some(mut round) = a.round.take() else { return };
        let db = &mut self.dbs[a.db];
        let conn = |slot: Slot| a.conns[slot as usize].expect("an attached agent has two connections");
        // Now and then the thread is not scheduled, or a read waits for the disk.
        let mut pause =
            if self.chance.permille(20) { self.chance.range(MS, 80 * MS) } else { self.chance.range(3, 400) };
        round.doing = match round.doing {
            Doing::Looking(slot) => {
                let mut marks =
                    Marks { salt: db.index.salt, frames: db.index.frames, backfilled: db.backfilled };
                round.begun[slot as usize] = pinned(marks);
                if self.mutant == Some(Mutant::StaleMarks) {
                    match round.first {
                        Some(first) if first.salt == marks.salt => {
                            marks = Marks { backfilled: first.frames, ..first };
                        }
                        _ => round.first = Some(marks),
                    }
                }
                Doing::Next(Seen::Marks(marks))
            }
            Doing::Checkpointing(slot) => match db.step_checkpoint(conn(slot), &mut self.chance) {
                None => round.doing,
                Some(_) => Doing::Next(Seen::Done),
            },
            Doing::Capturing(frames) => Doing::Next(self.capture(a, &round, frames)),
            Doing::Next(seen) => {
                let step = round.machine.next(seen);
                self.note(format_args!("round: {seen:?} -> {step:?}"));
                let db = &mut self.dbs[a.db];
                match step {
                    Move::Begin(slot) => {
                        // Somebody recovers the WAL, or changes a mark at this moment.
                        if self.chance.permille(4) || !db.begin(conn(slot)) {
                            self.cover("pin was refused");
                            Doing::Next(Seen::Busy)
                        } else {
                            Doing::Looking(slot)
                        }
                    }
                    Move::BeginWrite(slot) => {
                        if db.begin_write(conn(slot)) {
                            self.agent_locks = true;
                            Doing::Looking(slot)
                        } else {
                            db.end(conn(slot));
                            Doing::Next(Seen::Busy)
                        }
                    }
                    Move::End(slot) => {
                        db.end(conn(slot));
                        self.agent_locks = false;
                        Doing::Next(Seen::Done)
                    }
                    Move::Checkpoint(slot) => {
                        if db.begin_checkpoint(conn(slot), Mode::Passive) {
                            Doing::Checkpointing(slot)
                        } else {
                            self.cover("checkpoint was busy");
                            Doing::Next(Seen::Busy)
                        }
                    }
                    Move::Capture { frames } => Doing::Capturing(frames),
                    Move::Pause(time) => {
                        pause = time.as_micros() as u64;
                        Doing::Next(Seen::Done)
                    }
                    Move::Look => {
                        let marks =
                            Marks { salt: db.index.salt, frames: db.index.frames, backfilled: db.backfilled };
                        let stale = round.first.filter(|f| f.salt == marks.salt);
                        Doing::Next(Seen::Marks(stale.unwrap_or(marks)))
                    }
                    Move::Finish { pin, outcome } => {
                        a.pin = pin;
                        a.pinned = round.begun[pin as usize];
                        self.check_pin(a);
                        self.cover(match outcome {
                            holdfast::plan::handover::Outcome::HandedOver(_) => "round ended: handed over",
                            holdfast::plan::handover::Outcome::NotYet(_) => "round ended: not yet",
                            holdfast::plan::handover::Outcome::TooLarge(_) => "round ended: too large",
                        });
                        let look = a.look_due || self.chance.permille(500);
                        self.agent_hears(a, Event::HandOver { outcome });
                        if look {
                            let delay = self.chance.range(1, MS);
                            self.soon(a, delay, Step::Look);
                        }
                        return;
                    }
                }
            }
        };
        a.round = Some(round);
        self.check_pin(a);
        self.soon(a, pause, Step::Round);
    }

    /// P6 begins here: somebody always holds the WAL.
    fn check_pin(&mut self, a: &Agent) {
        let held = a.conns.iter().flatten().any(|c| self.dbs[a.db].reading(*c).is_some());
        if !held {
            self.violated("P6", "nobody pins the WAL".into());
        }
    }

    fn capture(&mut self, a: &mut Agent, round: &Round, frames: u32) -> Seen {
        let Some(from) = round.from else { return Seen::Done };
        if self.mutant == Some(Mutant::NoCapture) {
            return Seen::Done;
        }
        let size = self.profile.page_size;
        let end = size.offset_of(frames.into());
        if end.saturating_sub(from.offset) > self.profile.policy.tail_bytes {
            self.cover("tail too large");
            return Seen::TooLarge;
        }
        let first =
            size.frames_at(from.offset.max(HEADER_LEN as u64)).expect("a cursor stands on a frame") as u32;
        let Some(list) = self.live(a.db, round.salt, first, frames) else {
            self.cover("captured too late");
            return Seen::Gone;
        };
        let tail = Tail { from: from.offset, salt: round.salt, frames: list };
        a.tails.insert(from.incarnation, Rc::new(tail));
        Seen::Done
    }

    /// Frames `first..end` of the live WAL, if they are of the incarnation `salt`.
    fn live(&self, db: usize, salt: Salt, first: u32, end: u32) -> Option<Vec<Frame>> {
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
    fn read(&mut self, a: &mut Agent, r: usize, job: SegmentJob, source: Source) {
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

    fn put(&mut self, a: &mut Agent, replica: usize, name: Name, content: Rc<Content>, purpose: Purpose) {
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

    fn answer(&mut self, a: &mut Agent, replica: usize, purpose: Purpose, result: Result<(), FaultKind>) {
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
    fn copy_page(&mut self, a: &mut Agent, r: usize) {
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
        let Some(Copying { generation, index, pages, .. }) = a.snapshots[r].take() else { return };
        self.agent_hears(a, Event::SnapshotRead { replica: r });
        let content = Rc::new(Content::Snapshot(pages));
        self.put(a, r, Name::Snapshot { generation, index }, content, Purpose::Snapshot(index));
    }

    /// An object arrives at the store, whether or not anybody is left to hear of it.
    pub(crate) fn lands(
        &mut self,
        pid: u32,
        replica: usize,
        name: Name,
        content: Rc<Content>,
        purpose: Purpose,
        delivery: super::store::Delivery,
    ) {
        if let Some(died) = self.died.get(&pid) {
            // What was on the wire may still arrive, for a moment.
            if self.now - died > 300 * MS || self.chance.permille(500) {
                return;
            }
            self.cover("object landed after its writer died");
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
    fn covers(&self, size: PageSize, job: &SegmentJob) -> bool {
        let first = size.frames_at(self.from.max(HEADER_LEN as u64)).expect("a tail begins with a frame");
        self.from <= job.from && job.to <= size.offset_of(first + self.frames.len() as u64)
    }
}

fn pinned(marks: Marks) -> (Salt, Pin) {
    (marks.salt, if marks.full() { Pin::Zero } else { Pin::Mark(marks.frames) })
}

/// The salt of an index that begins inside the WAL.
fn split(salt: Salt, frames: u32) -> Salt {
    Salt((u64::from_be_bytes(salt.0) ^ u64::from(frames)).to_be_bytes())
}

fn verify(mut before: Checksum, salt: Salt, frames: &[Frame]) -> bool {
    frames.iter().all(|f| {
        let good = f.follows(before, salt);
        before = f.checksum;
        good
    })
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, message: "simulated".into() }
}
