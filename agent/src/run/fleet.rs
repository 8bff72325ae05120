//! The loops of all databases: starts each, hears of each, collects how each ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_config::Database;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};

use super::clock::Clock;
use super::database::{Command, Ended, Loop, Shared};
use super::limits::Limits;
use super::report::Report;
use super::stores::Stores;
use crate::source::files::Files;
use crate::source::watch::Watch;
use crate::store::StoreError;

/// Every database that is being replicated.
pub(super) struct Fleet {
    shared: Shared,
    loops: JoinSet<(PathBuf, Ended)>,
    sailing: BTreeMap<PathBuf, Sailing>,
    /// Descriptors that outlived their loop in an upload that hangs. Whoever attaches to one of these files again uses
    /// them: closing them would drop its locks.
    lingering: Vec<Files>,
}

/// One of them.
struct Sailing {
    command: watch::Sender<Command>,
    report: watch::Receiver<Report>,
}

impl Fleet {
    pub(super) fn new(limits: Limits, clock: Clock) -> Self {
        let (news, stores) = (Arc::new(Notify::new()), Stores::default());
        let shared = Shared { limits, clock, watch: Watch::new(), news, stores };
        Self { shared, loops: JoinSet::new(), sailing: BTreeMap::new(), lingering: Vec::new() }
    }

    /// Starts the loop of `database`. `found`: it was found in a directory that is watched, and ends when its file
    /// leaves its path.
    pub(super) fn start(&mut self, database: Database, found: bool) -> Result<(), StoreError> {
        let path = database.path.clone();
        for r in &database.replicas {
            tracing::info!(db = %path.display(), name = r.name, "sync-interval" = ?r.sync_interval, "replicating to");
        }
        self.lingering.retain(Files::is_shared);
        let kept = self.lingering.iter().find(|files| files.is_at(&path)).cloned();
        let (send, report) = watch::channel(Report { db: path.display().to_string(), ..Report::default() });
        let (command, commands) = watch::channel(Command::Run);
        let one = Loop::new(database, self.shared.clone(), found, kept, send)?;
        let name = path.clone();
        self.loops.spawn(async move { (name, one.run(commands).await) });
        self.sailing.insert(path, Sailing { command, report });
        Ok(())
    }

    /// Says something to one loop.
    pub(super) fn tell(&self, path: &Path, command: Command) {
        if let Some(one) = self.sailing.get(path) {
            one.command.send_replace(command);
        }
    }

    /// Says something to all.
    pub(super) fn tell_all(&self, command: Command) {
        for one in self.sailing.values() {
            one.command.send_replace(command);
        }
    }

    /// The next loop that ends; for ever pending while there is none. Safe to drop in a `select!`.
    pub(super) async fn ended(&mut self) -> Result<(PathBuf, Ended), JoinError> {
        match self.loops.join_next().await {
            Some(Ok((path, ended))) => {
                self.sailing.remove(&path);
                if let Some(files) = ended.kept.clone().filter(|f| ended.live.is_none() && f.is_shared()) {
                    self.lingering.push(files);
                }
                Ok((path, ended))
            }
            Some(Err(error)) => Err(error),
            None => std::future::pending().await,
        }
    }

    /// No loop runs.
    pub(super) fn is_empty(&self) -> bool {
        self.loops.is_empty()
    }

    /// Where each database stands, if that changed since the last call: `(report, changed)`.
    pub(super) fn reports(&mut self) -> Vec<(Report, bool)> {
        let each = self.sailing.values_mut().map(|one| {
            let changed = one.report.has_changed().unwrap_or(false);
            (one.report.borrow_and_update().clone(), changed)
        });
        each.collect()
    }

    /// Waits until any report changed since the last call. Safe to drop: the word stays.
    pub(super) fn news(&self) -> Arc<Notify> {
        self.shared.news.clone()
    }
}
