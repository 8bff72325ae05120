//! Our agent with the test as its supervisor: what it acknowledges arrives as typed messages. Starts one process.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_config::control::{Drained, FD_VAR, FromAgent, Status, ToAgent};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::process::{self, Running};
use crate::tool::Tool;

/// A supervised agent. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    process: Running,
    control: UnixStream,
    heard: Arc<Heard>,
}

/// Every message so far, with its time.
#[derive(Debug, Default)]
struct Heard {
    messages: Mutex<Vec<(Instant, FromAgent)>>,
    news: Condvar,
}

impl Agent {
    /// Starts `holdfast replicate -config CONFIG` with a control socket; its log is appended to `log`.
    pub fn start(config: &Path, log: &Path) -> Self {
        Self::start_under(&[], config, log)
    }

    /// As [`Agent::start`], with the words of `wrapper` in front.
    pub fn start_under(wrapper: &[String], config: &Path, log: &Path) -> Self {
        let (control, theirs) = UnixStream::pair().expect("a socket pair");
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).expect("the agent's end survives exec");
        let mut command = match wrapper {
            [] => Tool::Holdfast.command("replicate"),
            [program, words @ ..] => {
                let mut command = process::command(program);
                command.args(words).arg(Tool::Holdfast.program()).arg("replicate");
                command
            }
        };
        command.arg("-config").arg(config).env(FD_VAR, theirs.as_raw_fd().to_string());
        let process = Running::start(&mut command, log);
        drop(theirs);
        let heard = Arc::new(Heard::default());
        let (lines, ears) = (control.try_clone().expect("a second handle"), Arc::clone(&heard));
        std::thread::spawn(move || listen(BufReader::new(lines), &ears));
        Self { process, control, heard }
    }

    /// Waits until every database is pinned, or waited for.
    #[track_caller]
    pub fn ready(&self, within: Duration) {
        self.hear("the agent is ready", within, |_, m| matches!(m, FromAgent::Ready { .. }).then_some(()));
    }

    /// Waits until the agent says that every replica holds the WAL up to `end`, while nobody writes. It may know of one
    /// transaction more, on its way into SQLite's index. Only words heard after `since` count.
    #[track_caller]
    pub fn acknowledged(&self, end: u64, since: Instant, within: Duration) -> Status {
        self.hear("everything is acknowledged", within, |at, message| match message {
            FromAgent::Status(status) if at >= since && status.wal_end >= end && status.lag_bytes == 0 => {
                Some(status.clone())
            }
            _ => None,
        })
    }

    /// Waits until its status has an error that contains `says`. Only words heard after `since` count.
    #[track_caller]
    pub fn troubled(&self, says: &str, since: Instant, within: Duration) -> Status {
        self.hear(&format!("trouble with {says:?}"), within, |at, message| match message {
            FromAgent::Status(status)
                if at >= since && status.error.as_ref().is_some_and(|e| e.contains(says)) =>
            {
                Some(status.clone())
            }
            _ => None,
        })
    }

    /// Waits until the replica holds a base, and nothing is wrong. Only words heard after `since` count.
    #[track_caller]
    pub fn untroubled(&self, since: Instant, within: Duration) -> Status {
        self.hear("nothing is wrong", within, |at, message| match message {
            FromAgent::Status(status)
                if at >= since && status.error.is_none() && !status.position.is_empty() =>
            {
                Some(status.clone())
            }
            _ => None,
        })
    }

    /// The newest status, if there was one.
    pub fn status(&self) -> Option<Status> {
        let heard = self.heard.messages.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().rev().find_map(|(_, message)| match message {
            FromAgent::Status(status) => Some(status.clone()),
            _ => None,
        })
    }

    /// Asks for the proof that the replica holds everything.
    #[track_caller]
    pub fn drain(&mut self, deadline: Duration) -> Drained {
        self.say(&ToAgent::Drain { deadline_ms: deadline.as_millis() as u64 });
        self.hear("the drain's outcome", deadline + Duration::from_secs(5), |_, message| match message {
            FromAgent::Drained(drained) => Some(drained.clone()),
            _ => None,
        })
    }

    /// Tells it to close and exit, and waits for that.
    pub fn exit(&mut self, within: Duration) -> ExitStatus {
        self.say(&ToAgent::Exit {});
        self.process.wait(within)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    fn say(&mut self, message: &ToAgent) {
        let line = serde_json::to_string(message).expect("a message is JSON");
        writeln!(self.control, "{line}").expect("the agent listens");
    }

    #[track_caller]
    fn hear<T>(&self, what: &str, within: Duration, wanted: impl Fn(Instant, &FromAgent) -> Option<T>) -> T {
        let until = Instant::now() + within;
        let mut heard = self.heard.messages.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = heard.iter().rev().find_map(|(at, message)| wanted(*at, message)) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what}: not within {within:?}; last heard {:?}; its log:\n{}",
                heard.last(),
                self.log()
            );
            let (guard, _) =
                self.heard.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner);
            heard = guard;
        }
    }
}

/// Until the agent closes its end.
fn listen(lines: BufReader<UnixStream>, heard: &Heard) {
    for line in lines.lines().map_while(Result::ok) {
        let message = serde_json::from_str(&line).unwrap_or_else(|e| panic!("the agent said {line:?}: {e}"));
        heard.messages.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), message));
        heard.news.notify_all();
    }
}

/// Appends to a log so that a reader sees where a new round of a long test began.
pub fn mark(log: &Path, what: &str) {
    let mut file = File::options().create(true).append(true).open(log).expect("the log can be written");
    writeln!(file, "---- {what}").expect("the log can be written");
}
