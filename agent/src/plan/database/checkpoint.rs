//! When the pin moves, so that the WAL may restart: which round is due, and what holds it back. Decisions only.

use std::time::Duration;

use super::{Action, Database, Pin, Wal, WalPos};
use crate::format::wal::Salt;
use crate::plan::follower::Follower;
use crate::plan::handover::Mode;
use crate::plan::replica::Broken;

/// When the next round may run.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) running: Option<Running>,
    pub(super) not_before: Duration,
    pub(super) last: Duration,
    pub(super) failures: u32,
    /// When the last one of them failed.
    pub(super) failed: Duration,
    /// Where the WAL stood when a round last began in a lull, before its time.
    pub(super) lull: Option<(Salt, u32)>,
}

/// A round that has not ended yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) mode: Mode,
    pub(super) from: Option<WalPos>,
    /// It did not wait for its time, because the writer paused.
    pub(super) early: bool,
}

impl Database {
    pub(super) fn decide_checkpoint(&mut self, now: Duration, wal: &Wal) {
        let Some(mode) = self.round(now, wal) else { return };
        if self.replicas.iter().any(Follower::holds_the_pin) {
            return;
        }
        let over = wal.end() >= self.policy.max_wal_bytes;
        for r in &mut self.replicas {
            if over && r.failing() && r.cursor().is_some() && r.behind(wal) > self.policy.tail_bytes {
                r.break_off(Broken::FellBehind);
            }
        }
        let cursors = || self.replicas.iter().filter_map(Follower::cursor);
        let from = cursors()
            .map(|c| if c.incarnation == wal.incarnation { c.offset } else { 0 })
            .min()
            .map(|offset| WalPos { incarnation: wal.incarnation, offset });
        // A replica nobody has looked at yet keeps the WAL as it is, and so does one that is far behind: what it
        // lacks would not fit in memory. At the cap the app's disk comes first.
        let unknown = self.replicas.iter().any(|r| r.is_unknown() && !(over && r.failing()));
        let tail = from.map_or(0, |from| wal.end().saturating_sub(from.offset));
        let held: u64 = self.held.iter().sum();
        if mode != Mode::Repin && (unknown || tail + held > self.policy.tail_bytes) {
            return;
        }
        let early = now < self.checkpoint.not_before;
        if early {
            self.checkpoint.lull = Some((wal.view.marks.salt, wal.view.marks.frames));
        }
        self.checkpoint.running = Some(Running { mode, from, early });
        self.out.push_back(Action::HandOver { mode, salt: wal.view.marks.salt, from });
    }

    /// Which round is due, if any.
    fn round(&self, now: Duration, wal: &Wal) -> Option<Mode> {
        let frames = wal.view.marks.frames;
        if !self.may_restart(wal) {
            return None;
        }
        if now < self.due_at(wal)? {
            return None;
        }
        // On READ_LOCK(0) the pin stops every backfill, and the app's autocheckpoint would sort the whole WAL at each
        // commit only to find that out.
        if wal.view.pin == Pin::Zero {
            return Some(Mode::Repin);
        }
        let pages = self.policy.max_checkpoint_pages;
        let over_max = pages > 0 && frames >= pages;
        let lull = now < self.checkpoint.not_before;
        let sealed =
            wal.end() >= self.policy.max_wal_bytes && self.checkpoint.failures >= SEAL_AFTER && !lull;
        Some(match (sealed, over_max) {
            (true, _) => Mode::Sealed,
            (false, true) => Mode::Gentle { tries: TRIES_OVER_MAX },
            (false, false) => Mode::Gentle { tries: TRIES },
        })
    }

    /// When the next round is due, as things stand.
    fn due_at(&self, wal: &Wal) -> Option<Duration> {
        let wanted = |r: &Follower| r.wants_new_index() || r.waits_for_handover(wal, &self.policy);
        let at_once = wal.view.pin == Pin::Zero
            || wal.view.marks.frames >= self.policy.min_checkpoint_pages
            || self.replicas.iter().any(wanted);
        let due = if at_once { Some(Duration::ZERO) } else { self.interval_ends(wal) };
        due.map(|t| t.max(self.held_off(wal)))
    }

    /// Until when rounds that failed keep the next one back. A writer that pauses at last leaves the gap they lacked:
    /// then a round runs at once, but only one for each place at which the WAL comes to a stop.
    fn held_off(&self, wal: &Wal) -> Duration {
        let at = (wal.view.marks.salt, wal.view.marks.frames);
        let lull = (wal.moved + LULL).max(self.checkpoint.failed + LULL_PACE);
        let lull = (self.checkpoint.lull != Some(at)).then_some(lull);
        lull.map_or(self.checkpoint.not_before, |lull| lull.min(self.checkpoint.not_before))
    }

    /// The WAL has frames whose restart has not been allowed yet.
    fn may_restart(&self, wal: &Wal) -> bool {
        let frames = wal.view.marks.frames;
        frames > 0 && wal.handed.is_none() && self.stop.is_none()
    }

    fn interval_ends(&self, wal: &Wal) -> Option<Duration> {
        let interval = self.policy.checkpoint_interval;
        (!interval.is_zero()).then(|| self.checkpoint.last.max(wal.since) + interval)
    }

    pub(super) fn checkpoint_wake(&self) -> Option<Duration> {
        let wal = self.wal.as_ref().filter(|w| self.may_restart(w))?;
        if self.checkpoint.running.is_some() {
            return None;
        }
        self.due_at(wal)
    }
}

/// Attempts in one round. Each costs a checkpoint's fsyncs, so a writer that never pauses is left alone for a while.
const TRIES: u32 = 8;
const TRIES_OVER_MAX: u32 = 30;
/// Without a commit for this long, a writer is taken to pause: many times what a round needs.
const LULL: Duration = Duration::from_millis(50);
/// The least time from a round that failed to one in a pause: a writer that pauses again and again while somebody reads
/// pays for no more than one a second.
pub(super) const LULL_PACE: Duration = Duration::from_secs(1);
/// Rounds without a lock that must have failed before one with a lock.
const SEAL_AFTER: u32 = 3;
