//! What each signal means to PID 1. Values only; the numbers come from the platform's headers.
//!
//! The table is spec `supervisor.md` §2.3, and this is all of it that does not depend on the moment:
//!
//! | signal | meaning |
//! | --- | --- |
//! | TERM, INT, PWR, RTMIN+3 | stop |
//! | QUIT | forwarded: Go programs dump their stacks and exit 2 |
//! | HUP | the agent reads its configuration again; never forwarded. The kernel sends it when our terminal went away: then stop |
//! | USR1 | upload now |
//! | USR2 | write the status to the log; never forwarded (it puts an embedded NATS into lame-duck mode) |
//! | CHLD | reap |
//! | TSTP, TTIN, TTOU, PIPE | ignored |
//! | everything else | forwarded to the app |

use std::fmt;

use nix::libc;

/// A signal by number, so that real-time signals fit too. Prints as `SIGTERM` or `SIGRTMIN+3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sig(i32);

impl Sig {
    pub(crate) const HUP: Self = Self(libc::SIGHUP);
    pub(crate) const INT: Self = Self(libc::SIGINT);
    pub(crate) const QUIT: Self = Self(libc::SIGQUIT);
    pub(crate) const KILL: Self = Self(libc::SIGKILL);
    pub(crate) const USR1: Self = Self(libc::SIGUSR1);
    pub(crate) const USR2: Self = Self(libc::SIGUSR2);
    pub(crate) const PIPE: Self = Self(libc::SIGPIPE);
    pub(crate) const TERM: Self = Self(libc::SIGTERM);
    pub(crate) const CHLD: Self = Self(libc::SIGCHLD);
    pub(crate) const CONT: Self = Self(libc::SIGCONT);
    pub(crate) const TSTP: Self = Self(libc::SIGTSTP);
    pub(crate) const TTIN: Self = Self(libc::SIGTTIN);
    pub(crate) const TTOU: Self = Self(libc::SIGTTOU);
    pub(crate) const PWR: Self = Self(libc::SIGPWR);

    pub(crate) const fn new(number: i32) -> Self {
        Self(number)
    }

    pub(crate) const fn number(self) -> i32 {
        self.0
    }

    /// The shell's exit code for a process this signal ended: 128 + number.
    pub(crate) fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }

    pub(crate) fn meaning(self) -> Meaning {
        match self {
            Self::TERM | Self::INT | Self::PWR => Meaning::Stop,
            Self::QUIT => Meaning::Quit,
            Self::HUP => Meaning::Hangup,
            Self::USR1 => Meaning::Flush,
            Self::USR2 => Meaning::Report,
            Self::CHLD => Meaning::Reap,
            Self::TSTP | Self::TTIN | Self::TTOU | Self::PIPE => Meaning::Ignore,
            // systemd-nspawn and machinectl ask a container to stop this way.
            Self(n) if n == libc::SIGRTMIN() + 3 => Meaning::Stop,
            Self(_) => Meaning::Forward,
        }
    }
}

impl fmt::Display for Sig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(known) => f.write_str(known.as_str()),
            Err(_) if self.0 == libc::SIGRTMIN() => f.write_str("SIGRTMIN"),
            Err(_) => write!(f, "SIGRTMIN{:+}", self.0 - libc::SIGRTMIN()),
        }
    }
}

/// What a signal asks of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Stop,
    Quit,
    Hangup,
    Flush,
    Report,
    Reap,
    Ignore,
    Forward,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_would_harm_the_app_are_never_forwarded() {
        for sig in [Sig::HUP, Sig::USR1, Sig::USR2, Sig::TSTP, Sig::TTIN, Sig::TTOU, Sig::PIPE, Sig::CHLD] {
            assert_ne!(sig.meaning(), Meaning::Forward, "{sig}");
        }
        for n in [libc::SIGWINCH, libc::SIGCONT, libc::SIGALRM, libc::SIGRTMIN() + 5] {
            assert_eq!(Sig::new(n).meaning(), Meaning::Forward, "{}", Sig::new(n));
        }
    }

    #[test]
    fn names_and_exit_codes_are_the_shells() {
        assert_eq!(Sig::TERM.to_string(), "SIGTERM");
        assert_eq!(Sig::new(libc::SIGRTMIN() + 3).to_string(), "SIGRTMIN+3");
        assert_eq!(Sig::new(libc::SIGRTMIN()).to_string(), "SIGRTMIN");
        assert_eq!((Sig::INT.exit_code(), Sig::TERM.exit_code(), Sig::KILL.exit_code()), (130, 143, 137));
    }

    #[test]
    fn a_container_manager_may_stop_us_in_four_ways() {
        for n in [libc::SIGTERM, libc::SIGINT, libc::SIGPWR, libc::SIGRTMIN() + 3] {
            assert_eq!(Sig::new(n).meaning(), Meaning::Stop);
        }
    }
}
