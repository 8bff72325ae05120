//! Decisions about what has to be said more than once: logs are rotated, and the line of the start is gone by then.

use std::time::Duration;

use super::{Lifecycle, Stage};

impl Lifecycle {
    /// When [`super::Rules::reminder`] is due again.
    pub(super) fn reminder_due(&self) -> Option<Duration> {
        let wanted = self.rules.reminder.is_some() && self.stage == Stage::Running;
        wanted.then(|| self.reminded + EVERY)
    }

    pub(super) fn remind(&mut self, now: Duration) {
        if self.reminder_due().is_some_and(|due| due <= now)
            && let Some((level, line)) = self.rules.reminder.clone()
        {
            self.reminded = now;
            self.log(level, line);
        }
    }
}

/// Spec §5.4.
const EVERY: Duration = Duration::from_secs(6 * 3600);
