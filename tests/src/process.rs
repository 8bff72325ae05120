//! Programs under test: started in a clean environment, watched through their log, always reaped. Spawns processes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A command with only what every program may see of our environment. Credentials, proxies and certificate
/// overrides of the person at the keyboard have no place in a test; real Litestream even refuses some of them.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR", "USER", "LANG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A running program whose two output streams go to one log file. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
    read_from: u64,
}

impl Running {
    /// Starts `command`; its output is appended to `log`. [`Running::wait_log`] sees only what comes from now on.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log can be written");
        let read_from = file.metadata().expect("the log has a size").len();
        let again = file.try_clone().expect("a descriptor can be doubled");
        let child = command.stdout(file).stderr(again).spawn();
        let child = child.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Self { child, log: log.to_path_buf(), read_from }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a program that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid() as i32), signal);
    }

    /// What it has printed since it was started.
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        let mut file = File::open(&self.log).expect("the log can be read");
        file.seek(SeekFrom::Start(self.read_from)).expect("a log can be searched");
        file.read_to_end(&mut text).expect("the log can be read");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The first line for which `wanted` is true, waiting for it. Panics with the log when it does not come.
    pub fn wait_log(&mut self, what: &str, within: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + within;
        loop {
            let gone = self.child.try_wait().expect("a child can be waited for");
            let log = self.log();
            if let Some(line) = log.lines().find(|line| wanted(line)) {
                return line.to_owned();
            }
            if let Some(status) = gone {
                panic!("{what}: it ended with {status} before; its log:\n{log}");
            }
            assert!(Instant::now() < until, "{what}: nothing within {within:?}; the log:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end, whatever the reason. Panics, and kills it, when it does not come in time.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "pid {} did not end within {within:?}; its log:\n{}",
                self.pid(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, then [`Running::wait`].
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(within)
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a program that was run to its end ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; 128+n when signal n ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Panics with both streams unless it exited 0.
    #[track_caller]
    pub fn expect_success(self, what: &str) -> Self {
        assert_eq!(
            self.code, 0,
            "{what}: exit {}\nstdout:\n{}\nstderr:\n{}",
            self.code, self.stdout, self.stderr
        );
        self
    }
}

/// Runs `command` to its end. Panics, and kills it, when that takes longer than `within`.
pub fn run(command: &mut Command, within: Duration) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let stdout = File::create(&out).expect("a temporary file");
    let stderr = File::create(&err).expect("a temporary file");
    let child = command.stdout(stdout).stderr(stderr).spawn();
    let child = child.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    let mut running = Running { child, log: err.clone(), read_from: 0 };
    let status = running.wait(within);
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("its output")).into_owned();
    Finished { code: code(status), stdout: text(&out), stderr: text(&err) }
}

/// Holds the main thread of process `pid`, as if it were stuck in the kernel, until the answer is dropped. Its other threads go
/// on, and of all signals only SIGKILL reaches it. `log` is a file of the holder's own.
pub fn hold(pid: i32, log: &Path) -> Running {
    let attach = format!(
        "import ctypes, os, time\n\
         assert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0  # PTRACE_ATTACH\n\
         os.waitpid({pid}, 0x40000000)\n\
         print('held', flush=True)\n\
         time.sleep(600)"
    );
    let mut holder = Running::start(command("python3").args(["-c", &attach]), log);
    holder.wait_log("the process is held", Duration::from_secs(30), |line| line == "held");
    holder
}

/// The number a shell would show: the exit code, or 128+n for signal n.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_program_ended_by_a_signal_reports_128_plus_n() {
        let done = run(command("/bin/sh").args(["-c", "kill -KILL $$"]), SOON);
        assert_eq!(done.code, 137);
    }

    #[test]
    fn children_do_not_see_our_credentials() {
        let done = run(command("/usr/bin/env").env("KEPT", "1"), SOON).expect_success("env");
        assert!(done.stdout.contains("KEPT=1"));
        assert!(
            done.stdout.lines().all(|l| !l.starts_with("AWS_") && !l.starts_with("CARGO")),
            "{}",
            done.stdout
        );
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(command("/bin/sleep").arg("60"), &dir.path().join("log"));
        let pid = running.pid();
        drop(running);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_line_that_comes_late_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(
            command("/bin/sh").args(["-c", "sleep 0.2; echo ready; sleep 60"]),
            &dir.path().join("log"),
        );
        assert_eq!(running.wait_log("sh", SOON, |l| l.starts_with("ready")), "ready");
    }
}
