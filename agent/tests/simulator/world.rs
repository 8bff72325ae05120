//! One seed's world: the clock, the queue of what happens next, and the checks that must hold throughout.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;
use std::rc::Rc;

use holdfast::format::layout::{Generation, Name, Pos, WalIndex};
use holdfast::format::ltx;
use holdfast::plan::replica::Broken;

use super::agent::{Agent, Step};
use super::app::App;
use super::chance::Chance;
use super::history::{History, Seq};
use super::ltx::{Purpose as LtxPurpose, Uploads};
use super::ltx_store;
use super::mutant::Mutant;
use super::profile::{Profile, SECOND};
use super::ship::Purpose;
use super::sqlite::Sqlite;
use super::store::{Content, Delivery, Store, Weather};

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Job {
    AppStarts,
    App {
        life: u32,
        actor: usize,
    },
    AgentStarts,
    Agent {
        pid: u32,
        step: Step,
    },
    Lands {
        pid: u32,
        replica: usize,
        name: Name,
        content: Rc<Content>,
        purpose: Purpose,
        delivery: Delivery,
    },
    LtxLands {
        pid: u32,
        replica: usize,
        name: ltx::Name,
        content: Rc<ltx_store::Content>,
        purpose: LtxPurpose,
        delivery: Delivery,
    },
    Chaos,
    Weather(usize),
    /// Writes stop and faults cease.
    Quiet,
    /// From here on nobody has anything to do.
    Idle,
    /// Everything must be replicated.
    Settled,
    End,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) text: String,
}

/// How a seed went.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violation: Option<Violation>,
    /// Of everything that happened, in order.
    pub(crate) trace: u64,
    pub(crate) coverage: BTreeMap<String, u64>,
    /// Why generations began, for each replica.
    pub(crate) begun: [Vec<Broken>; 2],
    /// Largest lag of the first replica in states, and commits in all.
    pub(crate) commits: Seq,
    /// Longest time from a commit to the first replica's acknowledgement, microseconds.
    pub(crate) worst_lag: u64,
    /// Largest WAL, frames.
    pub(crate) longest_wal: u32,
    /// Writers turned away while the agent held the write lock.
    pub(crate) busy: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    queue: BinaryHeap<Entry>,
    serial: u64,
    pub(crate) chance: Chance,
    pub(crate) profile: Profile,
    pub(crate) mutant: Option<Mutant>,
    /// The live database is the last one.
    pub(crate) dbs: Vec<Sqlite>,
    pub(crate) history: History,
    pub(crate) app: App,
    pub(crate) agent: Option<Agent>,
    pub(crate) pids: u32,
    /// When which agent died.
    pub(crate) died: BTreeMap<u32, u64>,
    pub(crate) stores: Vec<Store>,
    /// For each replica: since when which state counts as replicated.
    pub(crate) acks: [Vec<(u64, Seq)>; 2],
    /// The state at each position that was ever uploaded.
    pub(crate) reached: HashMap<(usize, Pos), Seq>,
    /// The state a WAL began with, for generations whose base is all there is.
    pub(crate) bases: HashMap<(usize, Generation, WalIndex), Seq>,
    /// For each replica of LTX files every upload that arrived.
    pub(crate) uploads: [Uploads; 2],
    pub(crate) begun: [Vec<Broken>; 2],
    pub(crate) quiet: bool,
    /// The last stop was asked for.
    pub(crate) ending: bool,
    /// The agent holds the write lock.
    pub(crate) agent_locks: bool,
    pub(crate) busy: u64,
    pub(crate) puts: u64,
    /// How often the machine wanted to be woken.
    pub(crate) wakes: u64,
    /// Puts and wakes before nobody had anything to do.
    pub(crate) idle: Option<(u64, u64)>,
    /// When each state was committed, as far as the first replica has not acknowledged it.
    waiting: BTreeMap<Seq, u64>,
    worst_lag: u64,
    longest_wal: u32,
    coverage: BTreeMap<String, u64>,
    trace: u64,
    verbose: bool,
    violation: Option<Violation>,
}

impl World {
    /// Runs one seed to its end or to the first violation.
    pub(crate) fn run(
        seed: u64,
        profile: fn(&mut Chance) -> Profile,
        mutant: Option<Mutant>,
        verbose: bool,
    ) -> Report {
        let mut chance = Chance::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let profile = profile(&mut chance);
        let mut world = Self::new(chance, profile, mutant, verbose);
        world.note(format_args!("{:?}", world.profile.clone()));
        world.begin();
        while let Some(Entry { at, job, .. }) = world.queue.pop() {
            world.now = at;
            if matches!(job, Job::End) || world.violation.is_some() {
                break;
            }
            world.happens(job);
            let frames = world.dbs.last().map_or(0, |db| db.index.frames);
            world.longest_wal = world.longest_wal.max(frames);
        }
        if world.violation.is_none() {
            world.check_end();
        }
        Report {
            violation: world.violation,
            trace: world.trace,
            coverage: world.coverage,
            begun: world.begun,
            commits: world.history.seq(),
            worst_lag: world.worst_lag,
            longest_wal: world.longest_wal,
            busy: world.busy,
        }
    }

    fn new(mut chance: Chance, profile: Profile, mutant: Option<Mutant>, verbose: bool) -> Self {
        let mut history = History::new();
        let image: Vec<u32> = (0..chance.range(1, 12)).map(|_| history.version()).collect();
        history.begin(image.clone());
        let stores = profile.latency.iter().map(|&latency| Store {
            objects: BTreeMap::new(),
            files: BTreeMap::new(),
            weather: Weather::Fine,
            latency,
            losing: profile.losing,
        });
        Self {
            now: 0,
            queue: BinaryHeap::new(),
            serial: 0,
            stores: stores.collect(),
            chance,
            profile,
            mutant,
            dbs: vec![Sqlite::new(image)],
            history,
            app: App::default(),
            agent: None,
            pids: 0,
            died: BTreeMap::new(),
            acks: [Vec::new(), Vec::new()],
            reached: HashMap::new(),
            bases: HashMap::new(),
            uploads: [Vec::new(), Vec::new()],
            begun: [Vec::new(), Vec::new()],
            quiet: false,
            ending: false,
            agent_locks: false,
            busy: 0,
            puts: 0,
            wakes: 0,
            idle: None,
            waiting: BTreeMap::new(),
            worst_lag: 0,
            longest_wal: 0,
            coverage: BTreeMap::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            verbose,
            violation: None,
        }
    }

    fn begin(&mut self) {
        // Either may be first, and the app may have written for a while.
        let (app, agent) = (self.chance.range(0, SECOND), self.chance.range(0, 2 * SECOND));
        self.after(app, Job::AppStarts);
        self.after(agent, Job::AgentStarts);
        if self.profile.chaos > 0 {
            let at = self.chance.around(self.profile.chaos);
            self.after(at, Job::Chaos);
        }
        if self.profile.storms > 0 {
            for replica in 0..self.stores.len() {
                let at = self.chance.around(self.profile.storms);
                self.after(at, Job::Weather(replica));
            }
        }
        if self.profile.second_is_down {
            self.stores[1].weather = Weather::Failing;
        }
        let quiet = self.profile.quiet_at;
        self.after(quiet, Job::Quiet);
        self.after(quiet + 400 * SECOND, Job::Idle);
        self.after(quiet + 430 * SECOND, Job::Settled);
        self.after(quiet + 490 * SECOND, Job::End);
    }

    fn happens(&mut self, job: Job) {
        match job {
            Job::AppStarts => self.app_starts(),
            Job::App { life, actor } => {
                if self.app.open && self.app.life == life {
                    self.app_acts(actor);
                }
            }
            Job::AgentStarts => self.agent_starts(),
            Job::Agent { pid, step } => self.agent_acts(pid, step),
            Job::Lands { pid, replica, name, content, purpose, delivery } => {
                self.lands(pid, replica, name, content, purpose, delivery);
            }
            Job::LtxLands { pid, replica, name, content, purpose, delivery } => {
                self.ltx_lands(pid, replica, name, content, purpose, delivery);
            }
            Job::Chaos => self.chaos(),
            Job::Weather(replica) => self.weather(replica),
            Job::Quiet => {
                self.note(format_args!("it is quiet from here on"));
                self.quiet = true;
                for store in &mut self.stores {
                    (store.weather, store.losing) = (Weather::Fine, 0);
                }
            }
            Job::Idle => self.idle = Some((self.puts, self.wakes)),
            Job::Settled => self.settled(),
            Job::End => {}
        }
    }

    fn weather(&mut self, replica: usize) {
        if self.quiet || (self.profile.second_is_down && replica == 1) {
            return;
        }
        let store = &mut self.stores[replica];
        store.weather = match store.weather {
            Weather::Fine => self.chance.one_of(&[Weather::Failing, Weather::Hanging]),
            Weather::Failing | Weather::Hanging => Weather::Fine,
        };
        let weather = store.weather;
        let time = match weather {
            Weather::Fine => self.chance.around(self.profile.storms),
            Weather::Failing | Weather::Hanging => self.chance.range(SECOND / 5, 12 * SECOND),
        };
        self.cover(&format!("weather: {weather:?}"));
        self.note(format_args!("weather at {replica}: {weather:?}"));
        self.after(time, Job::Weather(replica));
    }

    pub(crate) fn after(&mut self, delay: u64, job: Job) {
        self.serial += 1;
        self.queue.push(Entry { at: self.now + delay, serial: self.serial, job });
    }

    pub(crate) fn db(&mut self) -> &mut Sqlite {
        self.dbs.last_mut().expect("a database exists")
    }

    pub(crate) fn cover(&mut self, what: &str) {
        match self.coverage.get_mut(what) {
            Some(n) => *n += 1,
            None => drop(self.coverage.insert(what.into(), 1)),
        }
    }

    pub(crate) fn happened(&self, what: &str) -> bool {
        self.coverage.contains_key(what)
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let mut hash = Fnv(self.trace);
        // Writing into a number cannot fail.
        let _ = fmt::write(&mut hash, format_args!("{} {what}", self.now));
        self.trace = hash.0;
        if self.verbose {
            eprintln!("{:>12.6} {what}", self.now as f64 / SECOND as f64);
        }
    }

    pub(crate) fn violated(&mut self, property: &'static str, text: String) {
        self.note(format_args!("VIOLATED {property}: {text}"));
        self.violation.get_or_insert(Violation { property, text });
    }

    /// A commit happened.
    pub(crate) fn committed(&mut self) {
        self.waiting.insert(self.history.seq(), self.now);
    }

    /// The machine says that this much is replicated.
    pub(crate) fn acknowledged(&mut self, replica: usize, pos: Pos) {
        let last = self.acks[replica].last().map_or(0, |(_, seq)| *seq);
        let seq = match self.reached.get(&(replica, pos)) {
            Some(seq) => *seq,
            // Nothing of this WAL yet: whatever was before it.
            None if pos.offset <= 32 => {
                self.bases.get(&(replica, pos.generation, pos.index)).copied().unwrap_or(last)
            }
            None => {
                return self.violated("P2", format!("replica {replica} acknowledges {pos}, never uploaded"));
            }
        };
        self.note(format_args!("replica {replica} acknowledges {pos}, state {seq}"));
        self.acknowledged_state(replica, seq);
    }

    /// This state counts as replicated from now on.
    pub(crate) fn acknowledged_state(&mut self, replica: usize, seq: Seq) {
        let last = self.acks[replica].last().map_or(0, |(_, seq)| *seq);
        if seq > last {
            self.acks[replica].push((self.now, seq));
        }
        if replica == 0 {
            let rest = self.waiting.split_off(&(seq + 1));
            for (_, at) in std::mem::replace(&mut self.waiting, rest) {
                self.worst_lag = self.worst_lag.max(self.now - at);
            }
        }
        self.check_restore(replica);
    }
}

#[derive(Debug)]
struct Entry {
    at: u64,
    serial: u64,
    job: Job,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest first out of a heap that gives the greatest.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Reverse((self.at, self.serial)).cmp(&Reverse((other.at, other.serial)))
    }
}

struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for b in s.bytes() {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}
