//! The agent's shell in the simulator: performs what the machine decides, with other hands and another clock.
//!
//! Everything takes time, and everybody else acts in between: the hand-over goes step by step, a look at the WAL index
//! follows a `BEGIN` only later, bytes are read some time after they were asked for.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use holdfast::format::layout::{Generation, Name, Pos, WalIndex};
use holdfast::format::wal::{Checksum, Salt};
use holdfast::plan::database::{Action, Database, Event, Pin, SegmentJob, View};
use holdfast::plan::handover::{HandOver, Marks, Mode, Seen, Slot};
use holdfast::plan::ltx::replica::Done;
use holdfast::plan::position::Position;
use holdfast::plan::replica::FaultKind;

use super::history::Seq;
use super::ltx::{LtxStep, Whole};
use super::profile::{MS, SECOND};
use super::restore::timestamp;
use super::round::{Doing, Round, pinned};
use super::ship::{Copying, Purpose, Source, Tail, fault};
use super::sqlite::Conn;
use super::world::{Job, World};

/// One process of the agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) pid: u32,
    pub(crate) born: u64,
    /// Which database it is attached to.
    pub(crate) db: usize,
    pub(crate) conns: [Option<Conn>; 2],
    pub(crate) pin: Slot,
    pub(crate) pinned: (Salt, Pin),
    pub(crate) machine: Database,
    pub(crate) round: Option<Round>,
    pub(crate) tails: BTreeMap<u64, Rc<Tail>>,
    /// The salt of the live WAL, as last looked at.
    pub(crate) salt: Salt,
    /// Checksums at the ends of segments of indexes that begin inside the WAL: nobody else knows them.
    pub(crate) chains: HashMap<(usize, Pos), Checksum>,
    pub(crate) snapshots: [Option<Copying>; 2],
    pub(crate) wholes: [Option<Whole>; 2],
    /// Counts attachments: what was begun in an earlier one is void.
    pub(crate) attachment: u32,
    pub(crate) wake: Option<u64>,
    pub(crate) look_due: bool,
    pub(crate) stopping: Option<Seq>,
    pub(crate) acknowledged: [Option<Position>; 2],
    /// Actions in the running second.
    pub(crate) busy: (u64, u32),
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
    Ltx(usize, LtxStep),
    Deadline,
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
            wholes: [None, None],
            attachment: 0,
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
            if self.chance.permille(500) {
                self.agent_hears(&mut agent, Event::Flush);
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

    pub(crate) fn soon(&mut self, agent: &Agent, delay: u64, step: Step) {
        self.after(delay, Job::Agent { pid: agent.pid, step });
    }

    pub(crate) fn time(&self, agent: &Agent) -> Duration {
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
                    self.wakes += 1;
                    self.look(a);
                }
            }
            Step::Round => self.round(a),
            Step::Inspect(r, heard) if self.profile.ltx[r] => self.ltx_inspect(a, r, heard),
            Step::Inspect(r, heard) => self.inspect(a, r, heard),
            Step::Read(r, job, source) => self.read(a, r, job, source),
            Step::Page(r) => self.copy_page(a, r),
            Step::Answer(r, purpose, result) => self.answer(a, r, purpose, result),
            Step::Retain(r, generation) => self.retain(a, r, generation),
            Step::Delete(r, names, stale) => self.delete(a, r, names, stale),
            Step::Validate(r, pos, asked) => self.validate(a, r, pos, asked),
            Step::Ltx(r, step) => self.ltx_acts(a, r, step),
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

    pub(crate) fn agent_leaves(&mut self, a: &mut Agent) {
        self.detach(a);
        self.agent_locks = false;
        self.died.insert(a.pid, self.now);
        self.note(format_args!("agent {} leaves", a.pid));
        let back = self.chance.range(400 * MS, 6 * SECOND);
        self.after(back, Job::AgentStarts);
    }

    pub(crate) fn attach(&mut self, a: &mut Agent) {
        a.db = self.dbs.len() - 1;
        a.attachment += 1;
        let db = &mut self.dbs[a.db];
        let conns = [db.open(), db.open()];
        a.conns = conns.map(Some);
        a.pin = Slot::A;
        assert!(db.begin(conns[0]), "a first reader finds a mark");
        let delay = self.chance.range(5, 2 * MS);
        self.soon(a, delay, Step::Pinned);
    }

    pub(crate) fn detach(&mut self, a: &mut Agent) {
        for conn in std::mem::take(&mut a.conns).into_iter().flatten() {
            self.dbs[a.db].close(conn, true, &mut self.chance);
        }
        a.round = None;
        a.attachment += 1;
    }

    pub(crate) fn check(&mut self, a: &mut Agent) {
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

    pub(crate) fn lose(&mut self, a: &mut Agent) {
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
        for r in 0..2 {
            if a.wholes[r].take().is_some() {
                self.cover("ltx: copy given up with its pin");
                let failed = Event::LtxDone { replica: r, done: Done::Copy(Err(fault(FaultKind::Local))) };
                self.agent_hears(a, failed);
            }
        }
        let delay = self.chance.range(MS, 300 * MS);
        self.soon(a, delay, Step::Attach);
    }

    pub(crate) fn marks(&self, a: &Agent) -> Marks {
        let db = &self.dbs[a.db];
        Marks { salt: db.index.salt, frames: db.index.frames, backfilled: db.backfilled }
    }

    /// The database's thread looks, unless it is busy with a round.
    pub(crate) fn look(&mut self, a: &mut Agent) {
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
    pub(crate) fn pump(&mut self, a: &mut Agent) {
        let now = self.time(a);
        a.machine.handle(now, Event::Wall(timestamp(self.now)));
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
            let position = a.machine.position(r);
            if position != a.acknowledged[r] {
                a.acknowledged[r] = position;
                match position {
                    Some(Position::Wal(pos)) => self.acknowledged(r, pos),
                    Some(Position::Ltx(txid)) => self.ltx_acknowledged(r, txid),
                    None => {}
                }
            }
        }
    }

    pub(crate) fn perform(&mut self, a: &mut Agent, action: Action) {
        self.note(format_args!("does {action:?}"));
        match action {
            Action::Inspect { replica } => {
                let delivery = self.stores[replica].delivery(&mut self.chance);
                let delay = delivery.lands.unwrap_or(0) + delivery.answer;
                self.soon(a, delay, Step::Inspect(replica, delivery.heard));
            }
            Action::Segment { replica, job } => {
                let held = a
                    .tails
                    .get(&job.incarnation)
                    .filter(|t| t.covers(self.profile.page_size, job.from, job.to));
                let source = held.map_or(Source::Live(a.salt), |tail| Source::Held(tail.clone()));
                if matches!(source, Source::Live(_)) && a.machine.wal_end().incarnation != job.incarnation {
                    self.violated("P6", format!("replica {replica} needs {job:?}, which nobody captured"));
                }
                let delay = self.chance.range(20, 4 * MS);
                self.soon(a, delay, Step::Read(replica, job, source));
            }
            Action::Snapshot { replica, generation, index, needs } => {
                let db = &self.dbs[a.db];
                let began = self.history.began(db.index.salt, &db.file);
                self.bases.entry((replica, generation, index)).or_insert(began);
                a.snapshots[replica] =
                    Some(Copying { generation, index, needs, pages: Vec::new(), left: Vec::new(), db: a.db });
                let delay = self.chance.range(20, 4 * MS);
                self.soon(a, delay, Step::Page(replica));
            }
            Action::HandOver { mode, salt, from } => {
                self.cover(match mode {
                    Mode::Repin => "round: repin",
                    Mode::Gentle { .. } => "round: gentle",
                    Mode::Sealed => "round: sealed",
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
            Action::Ltx { replica, work } => self.ltx_begins(a, replica, work),
            Action::LtxBegan { replica, txid, reason } => self.ltx_began(a, replica, txid, reason),
        }
    }
}
