//! The only clock. Everything else takes the time as an argument.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Time since the agent started, which is what `plan` counts in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Sleeps until `at`.
    pub(super) async fn reach(&self, at: Duration) {
        tokio::time::sleep_until(self.0 + at).await;
    }

    /// The time of day, for the dates of objects and what is shown of them.
    pub(super) fn wall() -> Timestamp {
        Timestamp::now()
    }
}
