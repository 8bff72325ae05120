//! How long a replica has been lacking something: the age of the oldest commit it has not acknowledged. Decisions only.
//!
//! Under a writer that never pauses no replica ever has everything, so "since when is something lacking" would grow for
//! ever while each commit is there within a second. Commits are remembered by when they were first seen instead, a few
//! hundred groups of them at most: what is old is grouped coarsely, so that an age is never too small and at most about
//! a hundredth too large.

use std::collections::VecDeque;
use std::time::Duration;

/// The commits of one database that some replica lacks. Lengths are bytes of its WAL, over all incarnations.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// Bytes committed since the beginning.
    committed: u64,
    /// Groups of commits, oldest first.
    groups: VecDeque<Group>,
    /// Commits closer together than this are one group. Doubles when there are too many.
    step: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    /// When the first of them was seen.
    at: Duration,
    /// [`Backlog::committed`] behind the last of them.
    end: u64,
}

impl Backlog {
    /// `bytes` more were committed, seen at `now`.
    pub fn commit(&mut self, now: Duration, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.committed += bytes;
        match self.groups.back_mut() {
            Some(last) if now.saturating_sub(last.at) < self.step.max(STEP) => last.end = self.committed,
            Some(_) | None => self.groups.push_back(Group { at: now, end: self.committed }),
        }
        if self.groups.len() > MOST {
            self.step = self.step.max(STEP) * 2;
            let pairs: Vec<_> = self.groups.make_contiguous().chunks(2).map(joined).collect();
            self.groups = pairs.into();
        }
    }

    /// Bytes committed since the beginning.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// When the oldest of the last `lag` bytes was seen; `None` if nothing is lacking.
    pub fn since(&self, lag: u64) -> Option<Duration> {
        let has = self.committed.saturating_sub(lag);
        (lag > 0).then(|| self.groups.iter().find(|group| group.end > has).map(|group| group.at)).flatten()
    }

    /// No replica lacks more than the last `lag` bytes.
    pub fn forget(&mut self, lag: u64) {
        let has = self.committed.saturating_sub(lag);
        while self.groups.front().is_some_and(|group| group.end <= has) {
            self.groups.pop_front();
        }
        if self.groups.is_empty() {
            self.step = STEP;
        }
    }
}

/// One group of two: as old as the older.
fn joined(pair: &[Group]) -> Group {
    let (first, last) = (pair[0], pair[pair.len() - 1]);
    Group { at: first.at, end: last.end }
}

/// Finer than anybody asks for.
const STEP: Duration = Duration::from_millis(50);
/// Groups kept; 4 KiB of them.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_age_is_that_of_the_oldest_commit_that_is_lacking() {
        let mut log = Backlog::default();
        assert_eq!(log.since(0), None);
        log.commit(ms(1000), 100);
        log.commit(ms(2000), 100);
        log.commit(ms(2000), 0);
        assert_eq!(log.since(200), Some(ms(1000)));
        assert_eq!(log.since(150), Some(ms(1000)), "a part of it is lacking");
        assert_eq!(log.since(100), Some(ms(2000)));
        assert_eq!(log.since(0), None);
        // Nobody lacks the first any more.
        log.forget(100);
        assert_eq!(log.since(500), Some(ms(2000)));
        assert_eq!(log.committed(), 200);
    }

    #[test]
    fn under_a_writer_that_never_pauses_the_age_does_not_grow() {
        let mut log = Backlog::default();
        for now in 0..100_000 {
            log.commit(ms(now), 10);
            // Each commit is acknowledged one second later.
            let lag = 10 * (now + 1).min(1000);
            log.forget(lag);
            let age = now - log.since(lag).unwrap().as_millis() as u64;
            assert!((lag / 10 - 1..=lag / 10 + 50).contains(&age), "at {now} ms it is {age} ms");
        }
        assert!(log.groups.len() <= 30, "{}", log.groups.len());
    }

    #[test]
    fn an_outage_of_a_week_takes_no_memory_and_its_age_is_true() {
        let mut log = Backlog::default();
        let week = 7 * 24 * 3600;
        for second in 0..week {
            log.commit(Duration::from_secs(second), 1);
        }
        assert!(log.groups.len() <= MOST);
        for lag in [week, week / 2, 3600] {
            let (age, true_age) = (week - log.since(lag).unwrap().as_secs(), lag);
            assert!(age >= true_age && age <= true_age + week / 60, "{lag}: {age}");
        }
        log.forget(0);
        log.commit(ms(week * 1000), 1);
        log.commit(ms(week * 1000 + 60), 1);
        assert_eq!(log.since(1), Some(ms(week * 1000 + 60)), "fine again");
    }
}
