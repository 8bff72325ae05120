//! The loops of all databases: starts each, hears of each, collects how each ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_config::{Config, Database, Destination};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::clock::Clock;
use super::database::{Command, Ended, Legacy, Loop, Shared};
use super::health::{Board, lock_histogram};
use super::limits::Limits;
use super::report::Report;
use super::stores::Stores;
use crate::plan::reload::Running;
use crate::source::files::Files;
use crate::source::watch::Watch;
use crate::store::{OpenOptions, StoreError};

/// Every database that is being replicated.
pub(super) struct Fleet {
    shared: Shared,
    /// Where the loops' reports are shown.
    board: Board,
    loops: JoinSet<(PathBuf, Ended)>,
    sailing: BTreeMap<PathBuf, Sailing>,
    /// Those that begin once a loop has ended that is in their way.
    waiting: BTreeMap<PathBuf, (Running, Legacy)>,
    /// Descriptors that outlived their loop in an upload that hangs. Whoever attaches to one of these files again uses
    /// them: closing them would drop its locks.
    lingering: Vec<Files>,
    /// When the last loop began, and how often the heap was trimmed since then.
    launched: Option<(Instant, usize)>,
    /// All were told to end, whoever begins now, too.
    stopping: Option<Command>,
}

/// A loop.
struct Sailing {
    running: Running,
    /// Told to end before all are.
    ending: Option<Why>,
    command: watch::Sender<Command>,
    report: watch::Receiver<Report>,
}

/// Why a loop ends before all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Another configuration.
    Reload,
    /// Its file has left its path. It may take as long as its destination does.
    Gone,
}

impl Fleet {
    pub(super) fn new(limits: Limits, clock: Clock) -> Self {
        let (news, stores) = (Arc::new(Notify::new()), Stores::default());
        let locks = lock_histogram();
        let board = Board::new(clock, stores.clone(), locks.clone());
        let shared = Shared { limits, clock, watch: Watch::new(), news, stores, locks };
        Self {
            shared,
            board,
            loops: JoinSet::new(),
            sailing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lingering: Vec::new(),
            launched: None,
            stopping: None,
        }
    }

    /// Starts the loop of a database nobody replicates, as soon as no loop that is ending writes to the same place.
    pub(super) fn start(&mut self, running: Running) -> Result<(), StoreError> {
        self.waiting.insert(running.database.path.clone(), (running, Legacy::default()));
        self.start_waiting()
    }

    /// Ends the loop of a database and starts another in its place, which takes over the pin.
    pub(super) fn replace(&mut self, running: Running) {
        let path = running.database.path.clone();
        self.tell(&path, Why::Reload, Command::Release { within: RELEASE });
        self.waiting.insert(path, (running, Legacy::default()));
    }

    /// Ends the loop of a database that is not to be replicated any more: replicates everything there is first.
    pub(super) fn remove(&mut self, path: &Path, within: Duration) {
        self.waiting.remove(path);
        self.tell(path, Why::Reload, Command::Stop { quiesce: false, deadline: within });
    }

    /// The file has left its path.
    pub(super) fn leave(&mut self, path: &Path, within: Option<Duration>) {
        self.tell(path, Why::Gone, Command::Leave { within });
    }

    /// Asks all loops to send what they have without waiting for their intervals.
    pub(super) fn flush(&self) {
        for one in self.sailing.values() {
            one.command.send_replace(Command::Flush);
        }
    }

    /// Ends all.
    pub(super) fn stop(&mut self, quiesce: bool, deadline: Duration) {
        self.tell_all(Command::Stop { quiesce, deadline });
    }

    /// Ends all as soon as nobody else has their databases, within `timeout` in any case.
    pub(super) fn linger(&mut self, timeout: Duration) {
        self.tell_all(Command::Linger { timeout });
    }

    fn tell_all(&mut self, command: Command) {
        for (path, one) in &self.sailing {
            // One that is being replaced ends soon anyhow, and hands its pin to one that is stopped when it begins.
            if !self.waiting.contains_key(path) {
                one.command.send_replace(command);
            }
        }
        self.stopping = Some(command);
    }

    fn tell(&mut self, path: &Path, why: Why, command: Command) {
        if let Some(one) = self.sailing.get_mut(path) {
            one.ending = Some(why);
            one.command.send_replace(command);
        }
    }

    fn start_waiting(&mut self) -> Result<(), StoreError> {
        let ready: Vec<_> = self.waiting.values().filter(|(one, _)| self.is_clear(&one.database)).collect();
        let ready: Vec<PathBuf> = ready.into_iter().map(|(one, _)| one.database.path.clone()).collect();
        for path in ready {
            if let Some((running, legacy)) = self.waiting.remove(&path) {
                self.launch(running, legacy)?;
            }
        }
        Ok(())
    }

    /// Does no loop that is ending, its own predecessor above all, write where this one would?
    fn is_clear(&self, database: &Database) -> bool {
        let meets = |other: &Database| {
            let places = |d: &Destination| database.replicas.iter().any(|r| r.destination.is_at(d));
            other.replicas.iter().any(|r| places(&r.destination))
        };
        !self.sailing.contains_key(&database.path)
            && !self.sailing.values().any(|one| one.ending.is_some() && meets(&one.running.database))
    }

    fn launch(&mut self, running: Running, mut legacy: Legacy) -> Result<(), StoreError> {
        let path = running.database.path.clone();
        for r in &running.database.replicas {
            tracing::info!(db = %path.display(), name = r.name, "sync-interval" = ?r.sync_interval, "replicating to");
        }
        self.lingering.retain(Files::is_shared);
        let lingering = || self.lingering.iter().find(|files| files.is_at(&path)).cloned();
        legacy.kept = legacy.kept.or_else(lingering);
        let (send, report) = watch::channel(Report { db: path.display().to_string(), ..Report::default() });
        let (command, commands) = watch::channel(Command::Run);
        // Boxed, because the task would hold it several times over.
        let one = Loop::new(running.database.clone(), self.shared.clone(), running.found, legacy, send)?;
        let one = Box::new(one);
        if let Some(stop) = self.stopping {
            command.send_replace(stop);
        }
        let name = path.clone();
        self.board.enter(&path, report.clone());
        self.loops.spawn(async move { (name, one.run(commands).await) });
        self.sailing.insert(path, Sailing { running, ending: None, command, report });
        self.launched = Some((Instant::now(), 0));
        Ok(())
    }

    /// The next loop that ends; for ever pending while there is none. Safe to drop in a `select!`.
    pub(super) async fn ended(&mut self) -> Result<(PathBuf, Ended), JoinError> {
        match self.loops.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Takes note that the loop of `path` has ended, and starts what waited for that. `true` if another loop takes over.
    /// `keep`: whoever asks needs the pin and its locks, which else are let go.
    pub(super) fn on_ended(
        &mut self,
        path: &Path,
        ended: &mut Ended,
        keep: bool,
    ) -> Result<bool, StoreError> {
        self.sailing.remove(path);
        let heir = self.waiting.get_mut(path);
        let inherited = heir.is_some();
        // At the end of all, the last word of each stays to be read.
        if !keep && !inherited {
            self.board.leave(path);
        }
        if let Some((_, legacy)) = heir {
            *legacy = Legacy { live: ended.live.take(), kept: ended.kept.take() };
        } else if !keep {
            drop(ended.live.take());
            self.lingering.extend(ended.kept.take().filter(Files::is_shared));
        }
        self.start_waiting()?;
        Ok(inherited)
    }

    /// No loop runs, and none will.
    pub(super) fn is_empty(&self) -> bool {
        self.loops.is_empty() && self.waiting.is_empty()
    }

    /// Nothing is left to do of the last reload.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && !self.sailing.values().any(|one| one.ending == Some(Why::Reload))
    }

    /// When the memory is worth giving back that the start of many loops took.
    pub(super) fn trim_at(&self) -> Option<Instant> {
        let (launched, trims) = self.launched?;
        TRIMS.get(trims).map(|after| launched + *after)
    }

    /// Gives it back.
    pub(super) fn trim(&mut self) {
        crate::heap::trim();
        self.launched = self.launched.map(|(launched, trims)| (launched, trims + 1));
    }

    /// What runs, and is to go on.
    pub(super) fn running(&self) -> BTreeMap<PathBuf, Running> {
        let all = self.sailing.iter().filter(|(_, one)| one.ending.is_none());
        all.map(|(path, one)| (path.clone(), one.running.clone())).collect()
    }

    /// Opens every replica of `config` without a request, and lets go of what only an older one had opened if that
    /// works.
    pub(super) fn try_stores(&self, config: &Config) -> Result<(), StoreError> {
        let all = || config.databases.iter().chain(config.directories.iter().map(|d| &d.each));
        for replica in all().flat_map(|d| &d.replicas) {
            self.shared.stores.open(&replica.destination, &OpenOptions::default().of(replica))?;
        }
        let root = |d: &Destination| d.in_bucket().map(|(root, _)| root);
        let used: Vec<_> = all().flat_map(|d| &d.replicas).filter_map(|r| root(&r.destination)).collect();
        self.shared.stores.keep(|root| used.contains(root));
        Ok(())
    }

    /// Where each database stands, and whether that changed since the last call.
    pub(super) fn reports(&mut self) -> Vec<(Report, bool)> {
        let each = self.sailing.values_mut().map(|one| {
            let changed = one.report.has_changed().unwrap_or(false);
            (one.report.borrow_and_update().clone(), changed)
        });
        each.collect()
    }

    /// What is shown of all this.
    pub(super) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Told when any report changed.
    pub(super) fn news(&self) -> Arc<Notify> {
        self.shared.news.clone()
    }
}

/// How long after the last start the heap is trimmed. A start that takes longer is one over a network.
const TRIMS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(60)];
/// How long a loop that is replaced may take to have everything acknowledged. The pin stays, so that what is not is
/// still there for the next; a destination that is replaced because it does not answer must not hold it up for long.
const RELEASE: Duration = Duration::from_secs(5);
