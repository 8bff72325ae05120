//! What both programs tell systemd: ready, stopping, a status line, signs of life. One datagram socket, never blocking.
//!
//! The protocol is sd_notify(3): lines of `NAME=VALUE` in datagrams to the socket that `NOTIFY_SOCKET` names. Without
//! that variable nobody is told anything. [`Unit`] decides what is due, [`Notify`] sends it, [`Service`] is both.
//!
//! | we send | when |
//! | --- | --- |
//! | `READY=1` | the agent has pinned every database, or waits for it; the supervisor has started the app |
//! | `STOPPING=1` | the end has begun |
//! | `STATUS=…` | it changed, once a second at most |
//! | `WATCHDOG=1` | every half of `WATCHDOG_USEC` |
//! | `EXTEND_TIMEOUT_USEC=…` | every 10 s during a restore, for 30 s each; once at the end, for all of the grace |

mod unit;

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

pub use self::unit::{Phase, Unit, Word};
use crate::env::Env;

/// The variable that names the service manager's socket.
pub const SOCKET_VAR: &str = "NOTIFY_SOCKET";
/// The variables that ask for signs of life: how often, in microseconds, and from whom.
pub const WATCHDOG_VARS: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];

/// The way to the service manager.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notify {
    /// The socket the environment names; `None` if nobody asked to be told.
    pub fn from_env(env: &Env) -> io::Result<Option<Self>> {
        let Some(name) = env.filled(SOCKET_VAR) else { return Ok(None) };
        let manager = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
            None => {
                let problem = format!("{SOCKET_VAR}={name}: neither a path nor an abstract name");
                return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop PID 1.
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, manager }))
    }

    /// Sends `words` as one datagram: all of them arrive, or none.
    pub fn tell(&self, words: &[Word]) -> io::Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let text: String = words.iter().map(|word| format!("{word}\n")).collect();
        self.socket.send_to_addr(text.as_bytes(), &self.manager).map(drop)
    }
}

/// A service and its manager.
#[derive(Debug)]
pub struct Service {
    notify: Notify,
    unit: Unit,
    /// What did not fit into the manager's queue. It goes first the next time.
    unsent: Vec<Word>,
}

impl Service {
    /// What the environment of process `pid` asks for; `None` if nobody asked to be told.
    pub fn from_env(env: &Env, pid: u32) -> io::Result<Option<Self>> {
        let notify = Notify::from_env(env)?;
        Ok(notify.map(|notify| Self { notify, unit: Unit::new(watchdog(env, pid)), unsent: Vec::new() }))
    }

    /// Sends what is due at `now`, a time since the service's start.
    pub fn tell(&mut self, now: Duration, phase: Phase, status: &str) -> io::Result<()> {
        let mut words = std::mem::take(&mut self.unsent);
        words.extend(self.unit.due(now, phase, status));
        self.notify
            .tell(&words)
            .inspect_err(|_| self.unsent = words.into_iter().filter(Word::keeps).collect())
    }

    /// When [`Service::tell`] has something to send even if nothing happens.
    pub fn deadline(&self) -> Option<Duration> {
        self.unit.deadline()
    }
}

/// How often process `pid` owes a sign of life: half of what the manager would wait for.
pub fn watchdog(env: &Env, pid: u32) -> Option<Duration> {
    let [every, whom] = WATCHDOG_VARS.map(|name| env.filled(name));
    if whom.is_some_and(|whom| whom.parse() != Ok(pid)) {
        return None;
    }
    let every = Duration::from_micros(every?.parse().ok()?);
    (!every.is_zero()).then_some(every / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives_as_one_datagram_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").display().to_string();
        let hidden = format!("holdfast-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&hidden).unwrap()).unwrap();
        for (name, manager) in [(path, by_path), (format!("@{hidden}"), by_name)] {
            let notify = Notify::from_env(&Env::from_pairs([(SOCKET_VAR, name)])).unwrap().unwrap();
            notify.tell(&[Word::Ready, Word::Status("two\nlines".into())]).unwrap();
            notify.tell(&[]).unwrap();
            notify.tell(&[Word::Extend(Duration::from_secs(30))]).unwrap();
            let hear = || {
                let mut buffer = [0; 256];
                let length = manager.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..length].to_vec()).unwrap()
            };
            assert_eq!(hear(), "READY=1\nSTATUS=two lines\n");
            assert_eq!(hear(), "EXTEND_TIMEOUT_USEC=30000000\n");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_is_an_error_and_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let env = Env::from_pairs([(SOCKET_VAR, path.to_str().unwrap())]);
        let notify = Notify::from_env(&env).unwrap().unwrap();
        let error = std::iter::repeat_with(|| notify.tell(&[Word::Alive])).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn readiness_that_could_not_be_told_is_told_with_the_next_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let env = Env::from_pairs([(SOCKET_VAR, path.to_str().unwrap())]);
        let mut service = Service::from_env(&env, 1).unwrap().unwrap();
        service.tell(Duration::ZERO, Phase::Ready, "early").unwrap_err();
        let manager = UnixDatagram::bind(&path).unwrap();
        service.tell(Duration::from_secs(2), Phase::Ready, "late").unwrap();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(str::from_utf8(&buffer[..length]).unwrap(), "READY=1\nSTATUS=late\n");
    }

    #[test]
    fn without_the_variable_there_is_nobody_and_a_name_we_do_not_know_is_refused() {
        assert!(Notify::from_env(&Env::default()).unwrap().is_none());
        assert!(Notify::from_env(&Env::from_pairs([(SOCKET_VAR, "")])).unwrap().is_none());
        let error = Notify::from_env(&Env::from_pairs([(SOCKET_VAR, "vsock:2:1")])).unwrap_err();
        assert_eq!(error.to_string(), "NOTIFY_SOCKET=vsock:2:1: neither a path nor an abstract name");
    }

    #[test]
    fn signs_of_life_are_owed_by_the_process_that_was_asked() {
        let every = |pairs: &[(&str, &str)]| watchdog(&Env::from_pairs(pairs.iter().copied()), 7);
        assert_eq!(every(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(15)));
        assert_eq!(
            every(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")]),
            Some(Duration::from_secs(15))
        );
        assert_eq!(every(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")]), None);
        for nothing in ["", "0", "soon"] {
            assert_eq!(every(&[("WATCHDOG_USEC", nothing)]), None, "{nothing}");
        }
        assert_eq!(every(&[]), None);
    }
}
