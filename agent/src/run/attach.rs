//! When to try to attach to the database. Decisions only: what happened and the time in, a time out.
//!
//! Between two attempts lies a pause, whatever the directory of the database sounds like: an app in rollback mode
//! creates and deletes its journal with every commit.

use std::time::Duration;

use crate::plan::chance::Dice;

/// The attempts of one database.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// When the next one is due.
    at: Duration,
    /// When the last one began; `None` when the next need not keep its distance.
    last: Option<Duration>,
    failures: u32,
}

impl Attempts {
    /// When the next attempt is due.
    pub(super) fn at(&self) -> Duration {
        self.at
    }

    /// An attempt begins; the next one waits for how it goes.
    pub(super) fn begin(&mut self, now: Duration) {
        (self.at, self.last) = (Duration::MAX, Some(now));
    }

    /// Attached.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// There is nothing to attach to yet. `interval`: how often to look although nothing is heard.
    pub(super) fn wait(&mut self, now: Duration, interval: Duration) {
        self.at = self.at.min(now + interval);
    }

    /// Something is in the way.
    pub(super) fn fail(&mut self, now: Duration, dice: &mut Dice) {
        self.failures += 1;
        self.at = now + dice.backoff(self.failures);
    }

    /// Something changed, or may have while nobody listened.
    pub(super) fn hear(&mut self, now: Duration) {
        let soonest = self.last.map_or(now, |last| last + PAUSE);
        self.at = self.at.min(soonest.max(now));
    }

    /// Nothing is due but by the interval: the time to listen.
    pub(super) fn calm(&self) -> bool {
        self.last.is_some_and(|last| self.at > last + PAUSE)
    }

    /// There is no time to lose any more.
    pub(super) fn hurry(&mut self, now: Duration) {
        (self.at, self.last) = (now, None);
    }

    /// Has it been tried since there was no time to lose?
    pub(super) fn tried(&self) -> bool {
        self.last.is_some()
    }
}

/// The shortest time between two attempts: nobody notices it, and it costs less than one percent of a core.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_directory_that_never_rests_is_tried_twenty_times_a_second() {
        let (mut attempts, mut tried) = (Attempts::default(), 0);
        for ms in 0..1000 {
            let now = Duration::from_millis(ms);
            attempts.hear(now);
            if attempts.at() <= now {
                tried += 1;
                attempts.begin(now);
                attempts.wait(now, SECOND);
            }
        }
        assert_eq!(tried, 20);
    }

    #[test]
    fn nobody_listens_while_an_attempt_is_due_anyway() {
        let mut attempts = Attempts::default();
        assert!(!attempts.calm());
        attempts.begin(SECOND);
        attempts.wait(SECOND, SECOND);
        assert!(attempts.calm());
        attempts.hear(SECOND);
        assert!(!attempts.calm());
    }

    #[test]
    fn a_change_heard_during_an_attempt_leads_to_another() {
        let mut attempts = Attempts::default();
        attempts.begin(SECOND);
        attempts.hear(SECOND);
        attempts.wait(SECOND, 10 * SECOND);
        assert_eq!(attempts.at(), SECOND + PAUSE);
    }

    #[test]
    fn without_a_sound_it_is_tried_once_an_interval_and_after_failures_ever_more_rarely() {
        let (mut attempts, mut dice) = (Attempts::default(), Dice::new(1));
        assert_eq!(attempts.at(), Duration::ZERO);
        attempts.begin(SECOND);
        attempts.wait(SECOND, SECOND);
        assert_eq!(attempts.at(), 2 * SECOND);
        let mut waits = [0; 5].map(|_| {
            attempts.begin(SECOND);
            attempts.fail(SECOND, &mut dice);
            attempts.at() - SECOND
        });
        assert!(waits.is_sorted(), "{waits:?}");
        attempts.succeed();
        attempts.begin(SECOND);
        attempts.fail(SECOND, &mut dice);
        waits[0] = attempts.at() - SECOND;
        assert!(waits[0] < waits[4] / 4, "{waits:?}");
    }

    #[test]
    fn a_hurried_attempt_is_due_now_and_counts_once_it_began() {
        let mut attempts = Attempts::default();
        attempts.begin(SECOND);
        attempts.wait(SECOND, SECOND);
        assert!(attempts.tried());
        attempts.hurry(SECOND);
        assert_eq!((attempts.at(), attempts.tried()), (SECOND, false));
        attempts.begin(SECOND);
        assert!(attempts.tried());
    }
}
