//! What each signal means to PID 1. Values only; the numbers come from the platform's headers.
//!
//! The table is spec `supervisor.md` §2.3, and this is all of it that does not depend on the moment:
//!
//! | signal | meaning |
//! | --- | --- |
//! | TERM, INT, PWR, RTMIN+3 | stop |
//! | QUIT | forwarded: Go programs dump their stacks and exit 2 |
//! | HUP | the agent reads its configuration again (what we were told holds to the end); never forwarded. The kernel sends it when our terminal went away: then stop |
//! | USR1 | upload now |
//! | USR2 | write the status to the log; never forwarded (it puts an embedded NATS into lame-duck mode) |
//! | CHLD | reap |
//! | TSTP, TTIN, TTOU, PIPE | ignored |
//! | everything else | forwarded to the app |
//!
//! A [`SignalMap`] changes it where an app wants something else (SUP-220).

use std::fmt;
use std::str::FromStr;

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
    pub(crate) const STOP: Self = Self(libc::SIGSTOP);
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

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `SIGRTMIN+3`.
impl FromStr for Sig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match (name.strip_prefix("RTMIN"), name.parse()) {
            (Some(""), _) => Some(libc::SIGRTMIN()),
            (Some(more), _) => more
                .strip_prefix('+')
                .and_then(|n| n.parse::<u8>().ok())
                .map(|n| libc::SIGRTMIN() + i32::from(n)),
            (None, Ok(number)) => Some(number),
            (None, Err(_)) => {
                format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|known| known as i32)
            }
        };
        let exists = |n: &i32| (1..=31).contains(n) || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(n);
        number.filter(exists).map(Self).ok_or_else(|| format!("{text:?} is no signal; write it like TERM"))
    }
}

/// What `-signal-map` changes: `USR2=forward,TERM=QUIT,WINCH=ignore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SignalMap(Vec<(Sig, Mapped)>);

/// What is made of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapped {
    /// The app's, whatever it meant to us.
    Forward,
    /// Nobody's.
    Ignore,
    /// The app gets this one instead. What it means to us stays, if it ends a run.
    As(Sig),
}

impl SignalMap {
    pub(crate) fn meaning(&self, sig: Sig) -> Meaning {
        match (self.find(sig), sig.meaning()) {
            (None, meaning) | (Some(Mapped::As(_)), meaning @ (Meaning::Stop | Meaning::Quit)) => meaning,
            (Some(Mapped::Ignore), _) => Meaning::Ignore,
            (Some(Mapped::Forward | Mapped::As(_)), _) => Meaning::Forward,
        }
    }

    /// What the app gets when it is to get `sig`.
    pub(crate) fn for_app(&self, sig: Sig) -> Sig {
        match self.find(sig) {
            Some(Mapped::As(other)) => other,
            Some(Mapped::Forward | Mapped::Ignore) | None => sig,
        }
    }

    fn find(&self, sig: Sig) -> Option<Mapped> {
        self.0.iter().find(|(from, _)| *from == sig).map(|(_, to)| *to)
    }
}

impl FromStr for SignalMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut map = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (from, to) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} maps nothing; write it like USR2=forward or TERM=QUIT"))?;
            let from: Sig = from.trim().parse()?;
            let to = match to.trim() {
                "forward" => Mapped::Forward,
                "ignore" => Mapped::Ignore,
                other => Mapped::As(other.parse()?),
            };
            if [Sig::KILL, Sig::STOP, Sig::CHLD].contains(&from) {
                return Err(format!("{from} cannot be mapped"));
            }
            // Without it nothing would tell a stop from a crash.
            if from == Sig::TERM && !matches!(to, Mapped::As(_)) {
                return Err(format!(
                    "{from} begins the stop; it can only be mapped to another signal for the app"
                ));
            }
            if map.find(from).is_some() {
                return Err(format!("{from} is mapped twice"));
            }
            map.0.push((from, to));
        }
        Ok(map)
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
    fn a_signal_is_read_by_name_and_by_number() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(text.parse(), Ok(Sig::TERM), "{text}");
        }
        assert_eq!("RTMIN+3".parse(), Ok(Sig::new(libc::SIGRTMIN() + 3)));
        assert_eq!("SIGRTMIN".parse(), Ok(Sig::new(libc::SIGRTMIN())));
        for text in ["", "0", "32", "33", "65", "-1", "RTMIN+31", "RTMIN+x", "HANGUP"] {
            let why = text.parse::<Sig>().unwrap_err();
            assert!(why.contains("is no signal"), "{text}: {why}");
        }
    }

    #[test]
    fn a_map_changes_who_gets_a_signal_and_never_that_a_stop_is_one() {
        let map: SignalMap = "USR2=forward, hup=forward".parse().unwrap();
        assert_eq!((map.meaning(Sig::USR2), map.meaning(Sig::HUP)), (Meaning::Forward, Meaning::Forward));
        assert_eq!(map.meaning(Sig::USR1), Meaning::Flush, "the others stay");
        let map: SignalMap = "TERM=QUIT,USR1=USR2,WINCH=ignore,INT=ignore".parse().unwrap();
        assert_eq!((map.meaning(Sig::TERM), map.for_app(Sig::TERM)), (Meaning::Stop, Sig::QUIT));
        assert_eq!((map.meaning(Sig::USR1), map.for_app(Sig::USR1)), (Meaning::Forward, Sig::USR2));
        assert_eq!(map.meaning(Sig::new(libc::SIGWINCH)), Meaning::Ignore);
        assert_eq!(map.meaning(Sig::INT), Meaning::Ignore);
        assert_eq!(map.for_app(Sig::CONT), Sig::CONT);
        assert_eq!("".parse(), Ok(SignalMap::default()));
        for (wrong, says) in [
            ("TERM=ignore", "begins the stop"),
            ("TERM=forward", "begins the stop"),
            ("KILL=TERM", "cannot be mapped"),
            ("CHLD=forward", "cannot be mapped"),
            ("USR1", "maps nothing"),
            ("USR1=up", "is no signal"),
            ("USR1=USR2,10=ignore", "twice"),
        ] {
            let why = wrong.parse::<SignalMap>().unwrap_err();
            assert!(why.contains(says), "{wrong}: {why}");
        }
    }

    #[test]
    fn a_container_manager_may_stop_us_in_four_ways() {
        for n in [libc::SIGTERM, libc::SIGINT, libc::SIGPWR, libc::SIGRTMIN() + 3] {
            assert_eq!(Sig::new(n).meaning(), Meaning::Stop);
        }
    }
}
