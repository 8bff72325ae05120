//! How a loop comes to its end: who asked for it and until when it may take. Decisions only.

use std::time::Duration;

use super::database::Command;

/// Why a loop is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was told to stop. `quiesce`: the app is gone, and the proof needs the write lock.
    Stop { quiesce: bool, deadline: Duration },
    /// Another loop takes over, and with it the pin: what is not acknowledged by then is still in the WAL.
    Release { deadline: Duration },
    /// The file has left its path: what its open descriptors still show is replicated, nothing is attached to again.
    Leave { deadline: Option<Duration> },
}

impl Ending {
    /// What the outside's word makes of a loop that may be about to end already; `None` if it goes on.
    pub(super) fn told(before: Option<Self>, command: Command, now: Duration) -> Option<Self> {
        match (before, command) {
            (before, Command::Run | Command::Flush | Command::Linger { .. }) => before,
            // A file that is gone has no lock that would prove more.
            (Some(Self::Leave { .. }), Command::Stop { deadline, .. }) => {
                Some(Self::Leave { deadline: Some(now + deadline) })
            }
            (_, Command::Stop { quiesce, deadline }) => {
                Some(Self::Stop { quiesce, deadline: now + deadline })
            }
            (Some(stop @ Self::Stop { .. }), Command::Leave { .. } | Command::Release { .. }) => Some(stop),
            (Some(leave @ Self::Leave { .. }), Command::Release { .. }) => Some(leave),
            (_, Command::Release { within }) => Some(Self::Release { deadline: now + within }),
            (_, Command::Leave { within }) => {
                Some(Self::Leave { deadline: within.map(|within| now + within) })
            }
        }
    }

    /// When it ends whatever has been achieved.
    pub(super) fn deadline(self) -> Duration {
        match self {
            Self::Stop { deadline, .. } | Self::Release { deadline } => deadline,
            Self::Leave { deadline } => deadline.unwrap_or(Duration::MAX),
        }
    }

    /// The proof needs the write lock.
    pub(super) fn quiesces(self) -> bool {
        matches!(self, Self::Stop { quiesce: true, .. })
    }

    /// The file has left its path.
    pub(super) fn leaves(self) -> bool {
        matches!(self, Self::Leave { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STOP: Command = Command::Stop { quiesce: true, deadline: SECOND };

    #[test]
    fn a_loop_that_leaves_goes_on_leaving_until_the_stop_is_due() {
        let leave = Ending::told(None, Command::Leave { within: None }, SECOND);
        assert_eq!(leave, Some(Ending::Leave { deadline: None }));
        assert_eq!(leave.map(Ending::deadline), Some(Duration::MAX));
        assert_eq!(Ending::told(leave, Command::Run, SECOND), leave);
        let stopped = Ending::told(leave, STOP, 2 * SECOND);
        assert_eq!(stopped, Some(Ending::Leave { deadline: Some(3 * SECOND) }));
        assert!(!stopped.is_some_and(Ending::quiesces));
    }

    #[test]
    fn a_loop_that_is_taken_over_can_still_be_stopped_and_left() {
        let release = Command::Release { within: SECOND };
        let released = Ending::told(None, release, SECOND);
        assert_eq!(released, Some(Ending::Release { deadline: 2 * SECOND }));
        assert!(Ending::told(released, STOP, SECOND).is_some_and(Ending::quiesces));
        let leave = Command::Leave { within: None };
        assert!(Ending::told(released, leave, SECOND).is_some_and(Ending::leaves));
        let left = Ending::told(None, leave, SECOND);
        assert_eq!(Ending::told(left, release, SECOND), left);
    }

    #[test]
    fn a_stop_stays_a_stop() {
        let stop = Ending::told(None, STOP, SECOND);
        assert_eq!(stop, Some(Ending::Stop { quiesce: true, deadline: 2 * SECOND }));
        assert_eq!(Ending::told(stop, Command::Leave { within: None }, SECOND), stop);
        assert_eq!(Ending::told(stop, Command::Flush, SECOND), stop);
        assert_eq!(Ending::told(None, Command::Flush, SECOND), None);
    }
}
