//! The loop of one database: looks when something may have happened, performs what `plan` decides, reports.
//!
//! Everything slow runs as a task of its own and reports through one channel: attaching, rounds and reading on
//! blocking threads, requests as [`super::flights::Wing`]s. The loop itself never waits for any of them, so a replica that
//! hangs delays neither the others nor the next look.

mod attaching;
mod looking;
mod performing;
mod stopping;
mod telling;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast_config::Database as Configured;
use prometheus::Histogram;
use tokio::sync::{Notify, mpsc, watch};

use super::attach::Attempts;
use super::books::Books;
use super::clock::Clock;
use super::ending::Ending;
use super::flights::Landed;
use super::gate::Gate;
use super::limits::Limits;
use super::lineage::Keeper;
use super::report::Report;
use super::segment::Trail;
use super::silence::Silence;
use super::stores::Stores;
use super::survey::asked;
use crate::format::lineage::Descent;
use crate::plan::chance::Dice;
use crate::plan::database::{Database as Machine, Policy, ReplicaPolicy, View};
use crate::plan::holds::Seen;
use crate::plan::linger::Linger;
use crate::plan::opening::Format;
use crate::source::files::Files;
use crate::source::live::Live;
use crate::source::tail::{Tails, WalBytes};
use crate::source::watch::Watch;
use crate::store::{OpenOptions, Remark, Store, StoreError};
use attaching::Returned;
use looking::Settling;

/// What the outside asks of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Run,
    /// Send what there is without waiting for the sync interval.
    Flush,
    /// Replicate everything there is, prove it, end. `quiesce`: the app is gone, take the write lock first.
    Stop {
        quiesce: bool,
        deadline: Duration,
    },
    /// Go on until nobody else has the database, then [`Command::Stop`], all within this time.
    Linger {
        timeout: Duration,
    },
    /// Replicate everything there is within this time, and end with the pin, which another loop takes over.
    Release {
        within: Duration,
    },
    /// The file has left its path: replicate what there is of it, within this time if somebody waits, and end.
    Leave {
        within: Option<Duration>,
    },
}

/// What a loop leaves to the next one on the same file.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    /// The pin, if there is one.
    pub(super) live: Option<Box<Live>>,
    /// Descriptors that are still open.
    pub(super) kept: Option<Files>,
}

/// What all loops share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) watch: Watch,
    /// Told when a report changed.
    pub(super) news: Arc<Notify>,
    pub(super) stores: Stores,
    /// How long each sealed checkpoint held the app's writers, in seconds.
    pub(super) locks: Histogram,
}

/// How a loop ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) report: Report,
    pub(super) quiesced: bool,
    /// `None` when every replica acknowledged the end of the WAL.
    pub(super) incomplete: Option<String>,
    /// Keeps the write lock and the pin until this is dropped.
    pub(super) live: Option<Box<Live>>,
    /// The descriptors, which what is still in flight may have, too.
    pub(super) kept: Option<Files>,
}

impl Ended {
    /// How far the slowest replica came, for a reader.
    pub(super) fn position(&self) -> Option<String> {
        self.report.position().map(|p| p.to_string())
    }
}

/// One database being replicated.
pub(super) struct Loop {
    config: Configured,
    limits: Limits,
    clock: Clock,
    watch: Watch,
    news: Arc<Notify>,
    opener: Stores,
    /// Found in a directory: it ends when its file leaves its path.
    found: bool,
    ending: Option<Ending>,
    /// Waits for the app to be gone, and when all has to be over.
    linger: Option<(Linger, Duration)>,
    quiesced: bool,
    wake: Arc<Notify>,
    machine: Machine,
    stores: Vec<Store>,
    gates: Vec<Gate>,
    /// What was said of each store.
    remarks: Vec<Vec<Remark>>,
    silences: Vec<Silence>,
    live: Option<Box<Live>>,
    /// The live WAL, readable also while a blocking task has [`Loop::live`].
    wal: Option<WalBytes>,
    /// A blocking task has [`Loop::live`], or is making one.
    away: bool,
    kept: Option<Files>,
    /// Told to what is in flight when this attachment ends.
    unpinned: Arc<AtomicBool>,
    tails: Tails,
    trails: Vec<Option<Trail>>,
    /// What each replica was last seen to hold, and what of it is on hold.
    seen: Vec<Seen>,
    holds: Vec<Vec<String>>,
    /// The layout asked for, then the one that was found.
    formats: Vec<Option<Format>>,
    armed: Option<PathBuf>,
    settling: Option<Settling>,
    attempts: Attempts,
    waiting: bool,
    damaged: bool,
    dice: Dice,
    view: Option<View>,
    books: Books,
    locks: Histogram,
    /// Bytes of the database file and of the WAL's, and when they were last asked for.
    sizes: (u64, u64),
    sized: Option<Duration>,
    sent: u64,
    error: Option<String>,
    /// Where the database comes from.
    keeper: Keeper,
    landed: (mpsc::UnboundedSender<Box<Landed>>, mpsc::UnboundedReceiver<Box<Landed>>),
    returned: (mpsc::UnboundedSender<Box<Returned>>, mpsc::UnboundedReceiver<Box<Returned>>),
    report: watch::Sender<Report>,
}

impl Loop {
    pub(super) fn new(
        config: Configured,
        shared: Shared,
        found: bool,
        legacy: Legacy,
        report: watch::Sender<Report>,
    ) -> Result<Self, StoreError> {
        let Shared { limits, clock, watch, news, stores: opener, locks } = shared;
        let seed = crate::durable::random();
        let policy = Policy {
            min_checkpoint_pages: config.min_checkpoint_pages,
            max_checkpoint_pages: config.max_checkpoint_pages,
            checkpoint_interval: config.checkpoint_interval,
            max_wal_bytes: config.max_wal_bytes,
            tail_bytes: limits.tail_bytes,
            index_bytes: limits.index_bytes,
        };
        let keeper = if found { Keeper::none() } else { Keeper::of(&config.path) };
        let options = OpenOptions::for_database(&config.path);
        let stores = config.replicas.iter().map(|r| opener.open(&r.destination, &options.of(r)));
        let stores: Vec<Store> = stores.collect::<Result<_, _>>()?;
        let replicas = config.replicas.iter().zip(&stores).map(|(r, store)| ReplicaPolicy {
            sync_interval: r.sync_interval,
            snapshot_interval: r.snapshot_interval,
            retention: r.retention,
            retention_check_interval: r.retention_check_interval,
            validation_interval: r.validation_interval,
            ltx: levels(&r.ltx, keeper.known(&store.to_string())),
        });
        let machine = Machine::new(policy, replicas.collect(), seed);
        let count = config.replicas.len();
        let trails = vec![None; count];
        let formats = config.replicas.iter().map(|r| asked(r.layout)).collect();
        let gates = config.replicas.iter().map(|r| opener.gate(&r.destination)).collect();
        Ok(Self {
            config,
            limits,
            clock,
            watch,
            news,
            opener,
            found,
            ending: None,
            linger: None,
            quiesced: false,
            wake: Arc::new(Notify::new()),
            machine,
            stores,
            gates,
            remarks: vec![Vec::new(); trails.len()],
            silences: trails.iter().map(|_| Silence::default()).collect(),
            wal: legacy.live.as_ref().map(|live| live.wal()),
            kept: legacy.live.as_ref().map(|live| live.files()).or(legacy.kept),
            live: legacy.live,
            away: false,
            unpinned: Arc::default(),
            tails: Tails::default(),
            trails,
            seen: vec![Seen::default(); count],
            holds: vec![Vec::new(); count],
            formats,
            armed: None,
            settling: None,
            attempts: Attempts::default(),
            waiting: false,
            damaged: false,
            dice: Dice::new(seed ^ 1),
            view: None,
            books: Books::new(count),
            locks,
            sizes: (0, 0),
            sized: None,
            sent: 0,
            error: None,
            keeper,
            landed: mpsc::unbounded_channel(),
            returned: mpsc::unbounded_channel(),
            report,
        })
    }

    /// Runs until told to stop and done, or past its deadline.
    pub(super) async fn run(mut self: Box<Self>, mut commands: watch::Receiver<Command>) -> Ended {
        self.look(self.clock.now());
        loop {
            let now = self.clock.now();
            if let Some(ending) = self.ending {
                // A round has the pin for a moment only, and somebody wants it.
                let pinless = self.away && matches!(ending, Ending::Release { .. });
                let hopeless = (now >= ending.deadline() || self.hopeless()) && !pinless;
                if self.finished(ending) || hopeless {
                    return self.end(ending, hopeless);
                }
                if ending.quiesces() && !self.quiesced {
                    self.start_quiesce();
                }
            }
            let waits = self.wait_for_the_app(now);
            self.start_attach(now);
            self.perform(now);
            self.publish(now);
            if self.arm(now) {
                if !self.look(now) && self.settling.is_none() && self.in_the_making() {
                    self.settle(now);
                }
                continue;
            }
            let until = self.next_look(now).min(self.ending.map_or(Duration::MAX, Ending::deadline));
            let until = until.min(waits.unwrap_or(Duration::MAX));
            let asking = self.stores.iter().any(|store| store.unanswered().is_some());
            let until = if asking { until.min(now + LISTENING) } else { until };
            tokio::select! {
                biased;
                changed = commands.changed() => {
                    let command = *commands.borrow_and_update();
                    self.obey(if changed.is_err() { GONE } else { command });
                }
                Some(returned) = self.returned.1.recv() => {
                    if self.take_back(*returned) {
                        self.quiesced = true;
                        self.begin_stop();
                    }
                }
                Some(landed) = self.landed.1.recv() => self.take_in(*landed),
                () = self.wake.notified() => self.on_change(),
                () = self.clock.reach(until) => self.on_time(),
            }
        }
    }

    /// Opens each replica's store; again for a directory, which takes modes and owner from the database, once there is
    /// one. What is known of a bucket is worth keeping.
    fn open_stores(&mut self) -> Result<(), StoreError> {
        let options = OpenOptions::for_database(&self.config.path);
        let opened = self.config.replicas.iter().enumerate().map(|(n, r)| match self.stores.get(n) {
            Some(store) if !store.is_local() => Ok(store.clone()),
            Some(_) | None => self.opener.open(&r.destination, &options.of(r)),
        });
        self.stores = opened.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Not attached, and no round has what would be.
    fn detached(&self) -> bool {
        self.live.is_none() && self.view.is_none()
    }
}

/// The configured pace of a replica of LTX files, and what is known of its past.
fn levels(ltx: &holdfast_config::Ltx, past: Option<Descent>) -> crate::plan::ltx::Policy {
    crate::plan::ltx::Policy {
        levels: ltx.levels.clone(),
        snapshot_interval: ltx.snapshot_interval,
        snapshot_retention: ltx.snapshot_retention,
        l0_retention: ltx.l0_retention,
        check_interval: ltx.l0_retention_check_interval,
        deletes: ltx.retention_enabled,
        foreign: past.is_none(),
        hold: past.and_then(|past| past.hold),
    }
}

/// How often to look whether what was asked is answered.
const LISTENING: Duration = Duration::from_secs(1);
/// Whoever commands is gone: stop as well as possible.
const GONE: Command = Command::Stop { quiesce: false, deadline: Duration::from_secs(10) };
