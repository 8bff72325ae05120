//! One run of the supervisor around fixtures, as real PID 1 of a namespace or as a subreaper. Spawns processes.
//!
//! The fixtures `fakeapp` and `fakeagent` write what happens to them into one log with one clock, so a test can say
//! who was told what, when, and in which order.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{code, command};
use crate::programs::ours;

/// Milliseconds since the machine started, in steps of ten: the same for every process of the test.
pub fn monotonic_ms() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("there is /proc");
    let seconds: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds come first");
    (seconds * 1000.0).round() as u64
}

/// What the supervisor is to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    Pid1,
    Subreaper,
}

/// Two tests of one body: as PID 1 and as a subreaper.
#[macro_export]
macro_rules! in_both_roles {
    ($(#[$meta:meta])* fn $name:ident($role:ident) $body:block) => {
        $(#[$meta])*
        #[cfg(test)]
        mod $name {
            use super::*;
            fn test($role: $crate::supervised::As) $body
            #[test]
            fn as_pid_1() {
                test($crate::supervised::As::Pid1);
            }
            #[test]
            fn as_a_subreaper() {
                test($crate::supervised::As::Subreaper);
            }
        }
    };
}

/// A run that is being prepared: a directory, variables, flags.
#[derive(Debug)]
pub struct Scene {
    dir: tempfile::TempDir,
    role: As,
    vars: Vec<(String, String)>,
    flags: Vec<String>,
    app: Vec<String>,
    stdin: Stdio,
}

impl Scene {
    /// A supervisor with a file replica, the fake agent and the fake app, and ten seconds of grace. It answers no probes:
    /// the runs of a test share one machine's ports.
    pub fn new(role: As) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let replica = dir.path().join("replica").display().to_string();
        let database = dir.path().join("station.db").display().to_string();
        let flags = [
            "--agent",
            &path(&ours("fakeagent")),
            "--stop-grace",
            "10s",
            "--log-level",
            "debug",
            "--listen",
            "off",
        ];
        Self {
            role,
            vars: Vec::new(),
            flags: flags.map(String::from).into(),
            app: vec![path(&ours("fakeapp"))],
            stdin: Stdio::null(),
            dir,
        }
        .var("LITESTREAM_FILE_PATH", replica)
        .var("DATABASE_PATH", database)
    }

    /// The same without a replica.
    pub fn ephemeral(role: As) -> Self {
        let mut scene = Self::new(role);
        scene.vars.clear();
        scene
    }

    #[must_use]
    pub fn var(mut self, name: &str, value: impl ToString) -> Self {
        self.vars.retain(|(known, _)| known != name);
        self.vars.push((name.into(), value.to_string()));
        self
    }

    #[must_use]
    pub fn flags<const N: usize>(mut self, flags: [&str; N]) -> Self {
        self.flags.extend(flags.map(String::from));
        self
    }

    /// No flags but the agent's path.
    #[must_use]
    pub fn without_flags(mut self) -> Self {
        self.flags.truncate(2);
        self
    }

    /// The agent the supervisor finds by itself: the real one, built beside it.
    #[must_use]
    pub fn real_agent(mut self) -> Self {
        ours("holdfast");
        self.flags.drain(..2);
        self
    }

    /// Asks what a start would do.
    #[must_use]
    pub fn checking(mut self) -> Self {
        self.flags.insert(0, "check".into());
        self
    }

    /// This database and a replica beside it, both outliving the run.
    #[must_use]
    pub fn database(self, db: &Path) -> Self {
        let replica = db.with_extension("replica").display().to_string();
        self.var("LITESTREAM_FILE_PATH", replica).var("DATABASE_PATH", db.display())
    }

    /// Runs this instead of the fake app.
    #[must_use]
    pub fn app<const N: usize>(self, app: [&str; N]) -> Self {
        self.app_with(app)
    }

    /// [`Scene::app`] with words of any number.
    #[must_use]
    pub fn app_with<'a>(mut self, app: impl IntoIterator<Item = &'a str>) -> Self {
        self.app = app.into_iter().map(String::from).collect();
        self
    }

    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Answers probes on a port that was free a moment ago, and which comes back, too: `127.0.0.1:PORT`.
    pub fn listening(self) -> (Self, String) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let address = free.to_string();
        (self.flags(["--listen", &address]), address)
    }

    /// The scene's own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the supervisor. Both of its streams go to files.
    pub fn start(self) -> Supervised {
        let stdout = File::create(self.dir().join("stdout")).expect("a file for stdout");
        let stderr = File::create(self.dir().join("stderr")).expect("a file for stderr");
        self.start_under(&[], stdout, stderr)
    }

    /// As [`Scene::start`], with streams of the caller's choice and the words of `wrapper` in front.
    pub fn start_under(
        self,
        wrapper: &[&str],
        stdout: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
    ) -> Supervised {
        let mut words: Vec<String> = wrapper.iter().map(|w| (*w).to_owned()).collect();
        if self.role == As::Pid1 {
            let unshare = "unshare --user --map-root-user --pid --fork --mount-proc --kill-child=KILL --";
            words.extend(unshare.split(' ').map(String::from));
        }
        words.push(path(&ours("holdfast-supervisor")));
        words.extend(self.flags);
        words.push("--".into());
        words.extend(self.app);
        let mut command = command(&words[0]);
        command.args(&words[1..]).envs(self.vars).env("FIXTURE_LOG", self.dir.path().join("events"));
        let child =
            command.stdin(self.stdin).stdout(stdout).stderr(stderr).spawn().expect("it can be started");
        Supervised { child, role: self.role, dir: self.dir }
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path of text").into()
}

/// One line of the fixtures' log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Of [`monotonic_ms`].
    pub at: u64,
    /// `app signal TERM`, `agent drain 9200`, …
    pub what: String,
}

/// A supervisor at work. Dropping it kills it, and as PID 1 everything below it.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    role: As,
    dir: tempfile::TempDir,
}

impl Supervised {
    /// The supervisor's process id, seen from here.
    pub fn pid(&self) -> i32 {
        let child = self.child.id().cast_signed();
        match self.role {
            As::Subreaper => child,
            As::Pid1 => until("unshare has forked", SOON, || children(child).first().copied()),
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the supervisor lives");
    }

    /// [`Supervised::signal`] for one that may have ended by now.
    pub fn try_signal(&self, signal: Signal) {
        let child = self.child.id().cast_signed();
        let pid = match self.role {
            As::Subreaper => Some(child),
            As::Pid1 => children(child).first().copied(),
        };
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Everything that happened so far.
    pub fn happened(&self) -> Vec<Happening> {
        happened(self.dir.path())
    }

    /// Waits for the first happening that begins with `what`.
    #[track_caller]
    pub fn wait_for(&self, what: &str) -> Happening {
        self.wait_for_nth(what, 1)
    }

    /// Waits for the `nth` happening (from 1) that begins with `what`.
    #[track_caller]
    pub fn wait_for_nth(&self, what: &str, nth: usize) -> Happening {
        let found = || self.happened().into_iter().filter(|h| h.what.starts_with(what)).nth(nth - 1);
        let end = Instant::now() + SOON;
        loop {
            if let Some(happening) = found() {
                return happening;
            }
            assert!(Instant::now() < end, "no {what:?}: {:#?}\n{}", self.happened(), self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line on stderr that contains `what`.
    #[track_caller]
    pub fn wait_log(&self, what: &str) -> String {
        let end = Instant::now() + SOON;
        loop {
            if let Some(line) = self.stderr().lines().find(|line| line.contains(what)) {
                return line.into();
            }
            assert!(Instant::now() < end, "no {what:?} in the log:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits for the supervisor's end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                let at = monotonic_ms();
                let text = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
                let (stdout, stderr) = (text("stdout"), text("stderr"));
                return Ended { code: code(status), at, stdout, stderr, happened: self.happened() };
            }
            assert!(Instant::now() < end, "still running: {:#?}\n{}", self.happened(), self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // A subreaper's children would live on: take them first.
            let mut all = vec![self.child.id().cast_signed()];
            let mut next = 0;
            while next < all.len() {
                all.extend(children(all[next]));
                next += 1;
            }
            for pid in all {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    /// When, of [`monotonic_ms`].
    pub at: u64,
    pub stdout: String,
    pub stderr: String,
    pub happened: Vec<Happening>,
}

impl Ended {
    /// Panics with everything there is to know unless it ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{:#?}\n{}", self.happened, self.stderr);
        self
    }

    /// How often something that begins with `what` happened.
    pub fn count(&self, what: &str) -> usize {
        self.happened.iter().filter(|h| h.what.starts_with(what)).count()
    }

    /// The first happening that begins with `what`.
    #[track_caller]
    pub fn first(&self, what: &str) -> &Happening {
        let found = self.happened.iter().find(|h| h.what.starts_with(what));
        found.unwrap_or_else(|| panic!("no {what:?}: {:#?}\n{}", self.happened, self.stderr))
    }

    /// The JSON summary: the last line of stderr that is an object.
    #[track_caller]
    pub fn summary(&self) -> serde_json::Value {
        let line = self.stderr.lines().rev().find(|line| line.starts_with('{'));
        let line = line.unwrap_or_else(|| panic!("no summary:\n{}", self.stderr));
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

fn happened(dir: &Path) -> Vec<Happening> {
    let text = fs::read_to_string(dir.join("events")).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            let (at, what) = line.split_once(' ').expect("a time and an event");
            Happening { at: at.parse().expect("a time"), what: what.into() }
        })
        .collect()
}

/// The children of a process, by the table.
pub fn children(parent: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").expect("there is /proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_ascii_whitespace().nth(1) == Some(&parent.to_string())
        })
        .collect()
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, answer: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
