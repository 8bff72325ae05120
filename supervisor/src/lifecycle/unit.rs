//! What systemd may know of a run: its phase, and one line about it. Values out.

use std::time::Duration;

use holdfast_config::systemd::Phase;

use super::{Lifecycle, Stage};

impl Lifecycle {
    /// Ready is: the app is started. Whether it serves already only the app knows.
    pub(crate) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Boot | Stage::Restoring { .. } | Stage::Waiting { .. } => Phase::Restoring,
            Stage::Attaching => Phase::Starting,
            Stage::Running => Phase::Ready,
            Stage::Aborting { .. }
            | Stage::Stopping { .. }
            | Stage::Killed { .. }
            | Stage::Orphans { .. }
            | Stage::Draining(_)
            | Stage::Leaving { .. }
            | Stage::Gone(_) => Phase::Stopping(self.rules.budget.grace.max(AFTER_A_CRASH)),
        }
    }

    /// [`Lifecycle::describe`] without the time that passes: it changes when something happens.
    ///
    /// ```text
    /// run: app: running, agent: ready (0 restarts), /data/x.db at 0a1b…/00000003:41232 with 0 bytes of lag
    /// ```
    pub(crate) fn status(&self) -> String {
        format!("{}: {}", self.stage.name(), self.standing())
    }
}

/// An app that ended by itself leaves the final sync 30 s, and its orphans up to 2 s twice.
const AFTER_A_CRASH: Duration = Duration::from_secs(40);
