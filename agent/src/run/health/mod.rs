//! What probes and scrapers may ask of the agent: over HTTP, answered from memory. Touches the sockets of its listener
//! and, for what the process costs, `/proc/self`.
//!
//! Nothing is kept up to date for them but numbers that the loops count anyway, and no answer asks a destination, a
//! database or a disk: who asks every second costs no request. Without `addr` nothing listens. The tasks share the loop's
//! one thread, so that an answer is proof that it turns.
//!
//! | file | one idea |
//! | --- | --- |
//! | `answer` | decisions: a view in, a status and a body out |
//! | `metrics` | the same as Prometheus text |
//! | `process` | what the process costs |
//! | `serve` | connections, and how many |

mod answer;
mod metrics;
mod process;
mod serve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::Histogram;
use tokio::sync::watch;

use super::clock::Clock;
use super::report::Report;
use super::stores::Stores;
use crate::store::Requests;

pub(super) use metrics::lock_histogram;
pub(super) use serve::Listener;

/// Where the run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Databases are being found and opened.
    Starting,
    Running,
    /// The end was asked for; the final sync is under way.
    Stopping,
    /// The final sync is over: every replica holds every commit, or not.
    Ended {
        complete: bool,
    },
}

/// What every answer is made of; the loops and the run put it here. Cloning shares it.
#[derive(Clone)]
pub(super) struct Board {
    clock: Clock,
    /// When the agent started.
    began: Timestamp,
    stores: Stores,
    locks: Histogram,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    phase: Phase,
    reports: BTreeMap<PathBuf, watch::Receiver<Report>>,
    /// Every database was pinned or waited for once.
    started: bool,
    /// See [`View::max_lag`].
    max_lag: Duration,
    reloads: Reloads,
}

/// How often the configuration was read again, and whether the last time went well.
#[derive(Debug, Clone, Copy, Default)]
struct Reloads {
    done: u64,
    refused: u64,
    last_refused: bool,
}

/// How things stand at one moment.
#[derive(Debug, Clone)]
struct View {
    now: Duration,
    phase: Phase,
    started: bool,
    /// How old a commit may be that a replica lacks before the agent is not ready; zero is any age.
    max_lag: Duration,
    reports: Vec<Report>,
    reloads: Reloads,
}

impl Board {
    pub(super) fn new(clock: Clock, stores: Stores, locks: Histogram) -> Self {
        let shared = Shared {
            phase: Phase::Starting,
            reports: BTreeMap::new(),
            started: false,
            max_lag: Duration::ZERO,
            reloads: Reloads::default(),
        };
        Self { clock, began: Clock::wall(), stores, locks, shared: Arc::new(Mutex::new(shared)) }
    }

    /// The loop of `path` tells here where it stands.
    pub(super) fn enter(&self, path: &Path, report: watch::Receiver<Report>) {
        self.lock().reports.insert(path.to_owned(), report);
    }

    /// There is no such loop any more.
    pub(super) fn leave(&self, path: &Path) {
        self.lock().reports.remove(path);
    }

    pub(super) fn set_max_lag(&self, max_lag: Duration) {
        self.lock().max_lag = max_lag;
    }

    /// The loops of all databases there are have been started.
    pub(super) fn runs(&self) {
        self.lock().phase = Phase::Running;
    }

    pub(super) fn stops(&self) {
        self.lock().phase = Phase::Stopping;
    }

    pub(super) fn ended(&self, complete: bool) {
        self.lock().phase = Phase::Ended { complete };
    }

    pub(super) fn reloaded(&self, done: bool) {
        let reloads = &mut self.lock().reloads;
        *(if done { &mut reloads.done } else { &mut reloads.refused }) += 1;
        reloads.last_refused = !done;
    }

    fn view(&self) -> View {
        let mut shared = self.lock();
        let reports: Vec<_> = shared.reports.values().map(|report| report.borrow().clone()).collect();
        shared.started |= shared.phase != Phase::Starting && reports.iter().all(|r| r.pinned || r.waiting);
        View {
            now: self.clock.now(),
            phase: shared.phase,
            started: shared.started,
            max_lag: shared.max_lag,
            reports,
            reloads: shared.reloads,
        }
    }

    fn requests(&self) -> Vec<(&'static str, Requests)> {
        self.stores.requests()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing panics while it holds it, and each value is whole at any time.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
