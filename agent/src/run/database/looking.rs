//! When to look at the WAL, and what a look leads to. Reads the WAL's index; listens.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Command, Loop};
use crate::plan::database::Event;
use crate::run::ending::Ending;
use crate::source::files::SourceError;

/// An event came and nothing was committed yet: the frames are written before the WAL index says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settling {
    at: Duration,
    wait: Duration,
}

impl Settling {
    /// Looks come thicker than anybody could listen. A transaction that spills makes thousands of events.
    fn is_young(&self) -> bool {
        self.wait < SETTLE_LISTEN
    }
}

impl Loop {
    /// Looks at the WAL and tells the machine. `true` when something was new.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        let Some(live) = &self.live else { return false };
        match live.look() {
            Ok(view) => {
                let new = self.view.is_none_or(|old| old.marks != view.marks);
                self.view = Some(view);
                self.machine.handle(now, Event::View(view));
                self.books.looked(now, self.machine.wal_end());
                new
            }
            // A writer without a CPU stands between the header's two copies. What it committed shows when it is done.
            Err(e) if e.is_busy() => false,
            Err(e) => {
                self.lose(now, e);
                true
            }
        }
    }

    /// Gives the attachment up; the next one starts from what the replicas prove.
    pub(super) fn lose(&mut self, now: Duration, error: SourceError) {
        tracing::error!(db = %self.config.path.display(), %error, "lost the database; attaching again");
        self.error = Some(error.to_string());
        self.books.lost();
        self.disarm();
        std::mem::take(&mut self.unpinned).store(true, Ordering::SeqCst);
        if let Some(live) = self.live.take() {
            self.kept = Some(live.files());
        }
        (self.view, self.wal, self.settling) = (None, None, None);
        self.machine.handle(now, Event::SourceLost);
        self.attempts.hear(now);
    }

    pub(super) fn on_change(&mut self) {
        let now = self.clock.now();
        self.disarm();
        if self.detached() {
            self.attempts.hear(now);
        } else if !self.look(now) {
            self.settle(now);
        }
    }

    pub(super) fn settle(&mut self, now: Duration) {
        self.settling = Some(Settling { at: now + SETTLE_FIRST, wait: SETTLE_FIRST });
    }

    /// Was something written whose commit is yet to come, before anybody listened?
    pub(super) fn in_the_making(&self) -> bool {
        self.live.as_ref().zip(self.view).is_some_and(|(live, view)| live.in_the_making(&view))
    }

    pub(super) fn on_time(&mut self) {
        let now = self.clock.now();
        let new = self.look(now);
        match self.settling {
            Some(_) if new => self.settling = None,
            Some(s) if s.wait >= SETTLE_LAST => self.settling = None,
            Some(s) if s.at <= now => {
                self.settling = Some(Settling { at: now + s.wait * 2, wait: s.wait * 2 })
            }
            Some(_) | None => {}
        }
        self.check_same(now);
    }

    /// Does the path still lead to the file we have? A database found in a directory that has left its path leaves,
    /// with everything its descriptors still show; another one is attached to again, as what the path leads to now.
    pub(super) fn check_same(&mut self, now: Duration) {
        let Some(Err(e)) = self.live.as_ref().map(|l| l.check_same()) else { return };
        match self.ending {
            Some(Ending::Leave { .. } | Ending::Release { .. }) => {}
            None if self.found => {
                tracing::info!(db = %self.config.path.display(), "the database has left its path");
                self.obey(Command::Leave { within: None });
            }
            Some(Ending::Stop { deadline, .. }) if self.found && !self.config.path.exists() => {
                self.ending = Some(Ending::Leave { deadline: Some(deadline) });
            }
            Some(Ending::Stop { .. }) | None => self.lose(now, e),
        }
    }

    /// Listens for the next commit if it would be acted upon. `true` when a look is due because it just began to.
    pub(super) fn arm(&mut self, now: Duration) -> bool {
        let waiting = self.detached();
        if !(waiting || self.live.is_some() && self.machine.wants_watch(now)) {
            self.disarm();
            return false;
        }
        let later = if waiting { !self.attempts.calm() } else { self.settling.is_some_and(|s| s.is_young()) };
        if self.armed.is_some() || later {
            return false;
        }
        let path = if waiting {
            self.config.path.parent().map(PathBuf::from).unwrap_or_default()
        } else {
            self.live.as_ref().map(|l| l.wal_path().to_owned()).unwrap_or_default()
        };
        if !self.watch.arm(&path, &self.wake) {
            return false;
        }
        self.armed = Some(path);
        if waiting {
            self.attempts.hear(now);
        }
        true
    }

    pub(super) fn disarm(&mut self) {
        if let Some(path) = self.armed.take() {
            self.watch.disarm(&path, &self.wake);
        }
    }

    /// When to look although nothing was heard.
    pub(super) fn next_look(&self, now: Duration) -> Duration {
        let polled = if self.armed.is_some() && self.live.is_some() {
            SAFETY_POLL
        } else {
            self.config.monitor_interval
        };
        // On a grid shared by all databases, so that two hundred of them wake the machine once.
        let period = polled.max(Duration::from_millis(10)).as_nanos();
        let grid = (now.as_nanos() / period + 1).saturating_mul(period);
        let grid = Duration::from_nanos(u64::try_from(grid).unwrap_or(u64::MAX));
        let attach =
            (self.live.is_none() && !self.away && !self.leaves()).then_some(self.attempts.at().max(now));
        let others = [self.machine.wake_at(), self.settling.map(|s| s.at), attach];
        // While the pace holds the next look back, there is nothing to poll for either.
        let safety = if self.live.is_some() && self.armed.is_none() { now + SAFETY_POLL } else { grid };
        others.into_iter().flatten().fold(safety.max(now), Duration::min)
    }
}

/// Looks without an event, in case one was missed. Costs two small reads.
const SAFETY_POLL: Duration = Duration::from_secs(10);
/// After an event that showed nothing, looks at doubling distances: a commit is in the WAL before it is in the index,
/// by an fsync at most. A rolled back transaction never gets there.
/// From a while after the event on, there is listening again, too: a long transaction commits at its end.
const SETTLE_FIRST: Duration = Duration::from_micros(500);
const SETTLE_LISTEN: Duration = Duration::from_millis(32);
const SETTLE_LAST: Duration = Duration::from_secs(4);
