//! How long an agent that was told to end goes on because the app has its database still. Values in, values out.
//!
//! Where a platform tells all containers of a pod, or all services, to end at the same moment, an agent that ends at once
//! lacks what the app commits on its way out (spec/supervisor.md SUP-242). So it may go on until nobody else has the
//! database, within the time it has for its end, of which the final sync keeps a part.

use std::time::Duration;

/// What SIGTERM means to an agent without a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnTerm {
    /// The final sync begins at once.
    #[default]
    Drain,
    /// The final sync begins when no other process has the database open.
    DrainWhenAppGone,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on, and look again then.
    Look(Duration),
    /// Nobody has it any more.
    Gone,
    /// Somebody has it, and there is no more time.
    Late,
}

/// Waits for an app to be gone. Times are since the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linger {
    until: Duration,
    /// Since when nobody has been seen.
    free: Option<Duration>,
}

impl Linger {
    /// Of an agent that was told at `now` to have ended `timeout` later.
    pub fn new(now: Duration, timeout: Duration) -> Self {
        let share = (timeout / 4).min(FINAL_SYNC);
        Self { until: now + (timeout - share), free: None }
    }

    /// `held`: another process has the database open at `now`.
    pub fn next(&mut self, now: Duration, held: bool) -> Next {
        self.free = if held { None } else { self.free.or(Some(now)) };
        match self.free {
            Some(since) if now >= since + QUIET => Next::Gone,
            Some(_) | None if now >= self.until => {
                if held {
                    Next::Late
                } else {
                    Next::Gone
                }
            }
            Some(_) | None => Next::Look((now + LOOK).min(self.until)),
        }
    }
}

/// What the final sync keeps of the time, at most.
const FINAL_SYNC: Duration = Duration::from_secs(5);
/// An app may open and close its database around each statement.
const QUIET: Duration = Duration::from_millis(500);
/// Between two looks, each a system call.
const LOOK: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn it_goes_on_while_somebody_has_the_database_and_half_a_second_longer() {
        let mut linger = Linger::new(ms(1_000), ms(10_000));
        assert_eq!(linger.next(ms(1_000), true), Next::Look(ms(1_200)));
        assert_eq!(linger.next(ms(1_200), false), Next::Look(ms(1_400)));
        assert_eq!(linger.next(ms(1_400), true), Next::Look(ms(1_600)), "between two statements");
        assert_eq!(linger.next(ms(1_600), false), Next::Look(ms(1_800)));
        assert_eq!(linger.next(ms(2_099), false), Next::Look(ms(2_299)));
        assert_eq!(linger.next(ms(2_100), false), Next::Gone);
    }

    #[test]
    fn the_final_sync_keeps_a_quarter_of_the_time_or_five_seconds() {
        for (timeout, until) in [(8_000, 6_000), (30_000, 25_000), (0, 0)] {
            let mut linger = Linger::new(ms(0), ms(timeout));
            if until > 0 {
                assert_eq!(linger.next(ms(until - 1), true), Next::Look(ms(until)), "{timeout}");
            }
            assert_eq!(linger.next(ms(until), true), Next::Late, "{timeout}");
            assert_eq!(Linger::new(ms(0), ms(timeout)).next(ms(until), false), Next::Gone, "{timeout}");
        }
    }
}
