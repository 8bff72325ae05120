//! What is due to be told: the phase and the status as they are now, and the clock, in; words out. No I/O.

use std::fmt;
use std::time::Duration;

/// One line of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Ready,
    Stopping,
    Status(String),
    Alive,
    Extend(Duration),
}

impl Word {
    /// Worth sending late: the others are overtaken by the next of their kind.
    pub(super) fn keeps(&self) -> bool {
        match self {
            Self::Ready | Self::Stopping | Self::Extend(_) => true,
            Self::Status(_) | Self::Alive => false,
        }
    }
}

impl fmt::Display for Word {
    /// `READY=1`, `STOPPING=1`, `STATUS=one line`, `WATCHDOG=1`, `EXTEND_TIMEOUT_USEC=30000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Stopping => f.write_str("STOPPING=1"),
            // A line end would begin a message of its own.
            Self::Status(text) => write!(f, "STATUS={}", text.replace(['\n', '\r'], " ")),
            Self::Alive => f.write_str("WATCHDOG=1"),
            Self::Extend(time) => write!(f, "EXTEND_TIMEOUT_USEC={}", time.as_micros()),
        }
    }
}

/// Where a service stands, as far as systemd cares. It only ever goes down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before all else, for as long as it takes: a restore has limits of its own.
    Restoring,
    Starting,
    Ready,
    /// From now on everything may take so long at most.
    Stopping(Duration),
}

/// One service's side of the conversation. Time is a `Duration` since its start.
#[derive(Debug)]
pub struct Unit {
    watchdog: Option<Duration>,
    phase: Phase,
    status: String,
    /// When the last status went out.
    said: Option<Duration>,
    /// A newer one waits for its turn.
    unsaid: bool,
    alive_at: Duration,
    extend_at: Duration,
}

impl Unit {
    /// `watchdog`: how often a sign of life is due ([`super::watchdog`]).
    pub fn new(watchdog: Option<Duration>) -> Self {
        Self {
            watchdog,
            phase: Phase::Restoring,
            status: String::new(),
            said: None,
            unsaid: false,
            alive_at: Duration::ZERO,
            extend_at: Duration::ZERO,
        }
    }

    /// What to tell at `now`, in one datagram.
    pub fn due(&mut self, now: Duration, phase: Phase, status: &str) -> Vec<Word> {
        let mut words = Vec::new();
        match (self.phase, phase) {
            (Phase::Restoring, Phase::Restoring) if now >= self.extend_at => {
                words.push(Word::Extend(EXTENSION));
                self.extend_at = now + EXTEND_EVERY;
            }
            (Phase::Restoring | Phase::Starting, Phase::Ready) => words.push(Word::Ready),
            (Phase::Restoring | Phase::Starting | Phase::Ready, Phase::Stopping(within)) => {
                words.extend([Word::Stopping, Word::Extend(within)]);
            }
            _ => {}
        }
        self.phase = self.phase.max(phase);
        self.unsaid = self.status != status;
        if self.unsaid && self.said.is_none_or(|said| now >= said + STATUS_PAUSE) {
            self.status = status.to_owned();
            (self.said, self.unsaid) = (Some(now), false);
            words.push(Word::Status(self.status.clone()));
        }
        if let Some(every) = self.watchdog
            && now >= self.alive_at
        {
            words.push(Word::Alive);
            self.alive_at = now + every;
        }
        words
    }

    /// When [`Unit::due`] has something to say even if nothing happens.
    pub fn deadline(&self) -> Option<Duration> {
        let extend = (self.phase == Phase::Restoring).then_some(self.extend_at);
        let status = self.said.filter(|_| self.unsaid).map(|said| said + STATUS_PAUSE);
        [extend, status, self.watchdog.map(|_| self.alive_at)].into_iter().flatten().min()
    }
}

/// A busy database changes its position with every commit; nobody reads that fast.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// Three times [`EXTEND_EVERY`], so that a busy machine that is late once or twice is not killed.
const EXTENSION: Duration = Duration::from_secs(30);
const EXTEND_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn told(unit: &mut Unit, at: u64, phase: Phase, status: &str) -> String {
        unit.due(ms(at), phase, status).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_life_is_told_in_order_and_each_thing_once() {
        let unit = &mut Unit::new(None);
        assert_eq!(
            told(unit, 0, Phase::Restoring, "restoring"),
            "EXTEND_TIMEOUT_USEC=30000000 STATUS=restoring"
        );
        assert_eq!(unit.deadline(), Some(ms(10_000)));
        assert_eq!(told(unit, 9_999, Phase::Restoring, "restoring"), "");
        assert_eq!(told(unit, 10_000, Phase::Restoring, "restoring"), "EXTEND_TIMEOUT_USEC=30000000");
        assert_eq!(told(unit, 11_000, Phase::Starting, "attaching"), "STATUS=attaching");
        assert_eq!(unit.deadline(), None, "pinning a WAL takes no time worth asking for");
        assert_eq!(told(unit, 12_000, Phase::Ready, "running"), "READY=1 STATUS=running");
        assert_eq!(unit.deadline(), None, "an idle service is not woken");
        assert_eq!(told(unit, 90_000, Phase::Ready, "running"), "");
        let stopping = Phase::Stopping(ms(45_000));
        assert_eq!(
            told(unit, 99_000, stopping, "stopping"),
            "STOPPING=1 EXTEND_TIMEOUT_USEC=45000000 STATUS=stopping"
        );
        assert_eq!(told(unit, 99_001, stopping, "stopping"), "");
    }

    #[test]
    fn a_service_that_never_became_ready_never_says_so() {
        let unit = &mut Unit::new(None);
        assert_eq!(told(unit, 0, Phase::Starting, ""), "");
        assert_eq!(told(unit, 1, Phase::Stopping(ms(1)), ""), "STOPPING=1 EXTEND_TIMEOUT_USEC=1000");
        assert_eq!(told(unit, 2, Phase::Ready, ""), "");
    }

    #[test]
    fn a_status_waits_its_turn_and_the_newest_goes_out() {
        let unit = &mut Unit::new(None);
        assert_eq!(told(unit, 0, Phase::Ready, "a"), "READY=1 STATUS=a");
        assert_eq!(told(unit, 10, Phase::Ready, "b"), "");
        assert_eq!(told(unit, 20, Phase::Ready, "c"), "");
        assert_eq!(unit.deadline(), Some(ms(1_000)));
        assert_eq!(told(unit, 1_000, Phase::Ready, "c"), "STATUS=c");
        assert_eq!(told(unit, 1_500, Phase::Ready, "d"), "");
        assert_eq!(told(unit, 1_600, Phase::Ready, "c"), "", "it is as it was told");
        assert_eq!(unit.deadline(), None);
    }

    #[test]
    fn signs_of_life_keep_their_pace_whatever_else_happens() {
        let unit = &mut Unit::new(Some(ms(500)));
        let mut signs = 0;
        for at in (0..=5_000).step_by(10) {
            assert!(unit.deadline().is_some_and(|d| d <= ms(at + 500)));
            let phase = if at < 2_000 { Phase::Ready } else { Phase::Stopping(ms(9)) };
            signs += told(unit, at, phase, &at.to_string()).matches("WATCHDOG=1").count();
        }
        assert_eq!(signs, 11);
    }
}
