//! What is left to do when the loop itself is broken: a panic in the one process with which everybody else goes.
//!
//! The app is stopped as by SIGTERM and, past its share of the grace, by SIGKILL; whoever it leaves behind is killed; the
//! agent hears the end of its control socket, which to it means to drain and exit; then this process exits 70. Touches
//! processes and stderr. Needs neither the loop nor the state machine nor the log's thread, and never unwinds.
//!
//! A panic of another thread, which at most answers probes, is told and leaves that thread standing: an app does not end
//! for it.

use std::any::Any;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, RawFd};
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use holdfast_config::exit::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};

use crate::budget::Budget;
use crate::signals::Sig;
use crate::{orphans, summary, sys};

/// From now on a panic of this thread takes the emergency path.
pub(crate) fn arm() {
    let ours = thread::current().id();
    panic::set_hook(Box::new(move |info| {
        let why = describe(info);
        if thread::current().id() == ours {
            end(&why);
        }
        say(&line(&format!("bug: {why}; this thread stands still, the app goes on")));
        loop {
            thread::park();
        }
    }));
}

/// How much time the path may take, and where its summary goes, too, if that file exists.
pub(crate) fn plan(budget: Budget, termination_log: &Path) {
    // A second plan of one process would be a bug, and the first is as good.
    let _ = PLAN.set((budget, termination_log.to_owned()));
}

/// Who is there to be stopped: process ids, and our end of the agent's socket.
pub(crate) fn remember(app: Option<i32>, agent: Option<i32>, control: Option<RawFd>) {
    for (place, now) in [(&APP, app), (&AGENT, agent), (&CONTROL, control)] {
        place.store(now.unwrap_or(NOBODY), Ordering::Relaxed);
    }
}

static PLAN: OnceLock<(Budget, PathBuf)> = OnceLock::new();
static APP: AtomicI32 = AtomicI32::new(NOBODY);
static AGENT: AtomicI32 = AtomicI32::new(NOBODY);
static CONTROL: AtomicI32 = AtomicI32::new(NOBODY);
const NOBODY: i32 = -1;

fn recall(place: &AtomicI32) -> Option<i32> {
    Some(place.load(Ordering::Relaxed)).filter(|known| *known != NOBODY)
}

fn end(why: &str) -> ! {
    let since = Instant::now();
    let plan = PLAN.get();
    let budget = plan.map_or_else(|| Budget::ephemeral(Duration::from_secs(10)), |(budget, _)| *budget);
    let (app, agent) = (recall(&APP), recall(&AGENT));
    say(&line(&format!("bug: {why}; the app is stopped, then the agent, then the exit code is 70")));
    if let Some(app) = app {
        let _ = sys::kill(app, Sig::TERM);
        if !gone(app, since + budget.app) {
            let _ = sys::kill_group(app, Sig::KILL);
            gone(app, since + budget.app + budget.orphans);
        }
    }
    for left in orphans::left(std::process::id().cast_signed(), agent).unwrap_or_default() {
        let _ = sys::kill(left.pid, Sig::KILL);
    }
    if let Some(control) = recall(&CONTROL) {
        let _ = shutdown(control, Shutdown::Both);
    }
    if let Some(agent) = agent
        && !gone(agent, since + budget.sync_ends)
    {
        let _ = sys::kill(agent, Sig::KILL);
    }
    let summary = serde_json::json!({ "exit": Exit::Bug.code(), "cause": why }).to_string();
    say(&format!("{summary}\n"));
    if let Some((_, path)) = plan {
        let _ = summary::leave(path, &summary);
    }
    std::process::exit(Exit::Bug.code().into());
}

/// Reaps until `pid` is no more; false if that is not so by `deadline`.
fn gone(pid: i32, deadline: Instant) -> bool {
    loop {
        while sys::reap().is_some() {}
        if !sys::exists(pid) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
}

fn describe(info: &PanicHookInfo) -> String {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text: String = said(info.payload()).chars().take(MAX_TEXT).collect();
    format!("{place}: {text}")
}

fn said(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

fn line(text: &str) -> String {
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    format!("{now} ERROR supervisor: {}\n", text.replace(['\n', '\r'], " "))
}

/// Writes to stderr without its lock, which the log's thread may hold for ever, and only if nobody has to be waited for.
fn say(text: &str) {
    let stderr = io::stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut room, PollTimeout::ZERO).is_ok_and(|ready| ready == 1)
        && let Ok(fd) = stderr.as_fd().try_clone_to_owned()
    {
        let _ = File::from(fd).write_all(text.as_bytes());
    }
}

/// Between two looks at somebody who was told to end.
const LOOK: Duration = Duration::from_millis(5);
/// A pipe with any room takes so much, and what stands around it, without blocking.
const MAX_TEXT: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Output};

    use crate::control::Control;
    use crate::sys::Birth;
    use holdfast_config::control::FD_VAR;

    /// Runs this very test again, in a process that may panic: `PANICS_IN` tells it which of the two it is.
    fn again(test: &str, dir: &Path) -> Output {
        let test = format!("emergency::tests::{test}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &test, "--nocapture"]).env("PANICS_IN", dir);
        command.output().unwrap()
    }

    fn panics_in() -> Option<PathBuf> {
        std::env::var_os("PANICS_IN").map(PathBuf::from)
    }

    /// A supervisor whose app does `on_term` and whose agent ends when its socket does, about to run into a bug.
    #[expect(clippy::zombie_processes, reason = "the emergency path reaps them")]
    fn broken(dir: &Path, on_term: &str, grace: Duration) -> ! {
        arm();
        plan(Budget::replicated(grace), &dir.join("termination-log"));
        let shell = |script: &str, birth| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(dir);
            sys::prepare(&mut command, birth, &[]);
            command
        };
        let app = format!("trap '{on_term}' TERM; echo up >>log; while :; do sleep 0.01; done");
        let app = shell(&app, Birth::App { foreground: false }).spawn().unwrap();
        let (ours, theirs) = Control::pair().unwrap();
        let fd = theirs.as_raw_fd();
        let mut agent =
            shell(&format!("cat <&${FD_VAR} >/dev/null; echo drained >>log"), Birth::Agent { control: fd });
        let agent = agent.env(FD_VAR, fd.to_string()).spawn().unwrap();
        drop(theirs);
        let pids = [&app, &agent].map(|child| Some(child.id().cast_signed()));
        remember(pids[0], pids[1], Some(ours.as_fd().as_raw_fd()));
        while !std::fs::read_to_string(dir.join("log")).is_ok_and(|log| log.contains("up")) {
            thread::sleep(LOOK);
        }
        let nothing: &[u8] = &[];
        unreachable!("{}", nothing[dir.as_os_str().len()]);
    }

    fn log(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("log")).unwrap()
    }

    #[test]
    fn a_panic_ends_the_app_then_the_agent_then_us_with_70() {
        if let Some(dir) = panics_in() {
            broken(&dir, "sleep 0.1; echo ended >>log; exit 0", Duration::from_secs(30));
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("termination-log"), "what an earlier container left").unwrap();
        let out = again("a_panic_ends_the_app_then_the_agent_then_us_with_70", dir.path());
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(70), "{said}");
        assert_eq!(log(dir.path()), "up\nended\ndrained\n");
        assert!(said.contains(" ERROR supervisor: bug: supervisor/src/emergency.rs:"), "{said}");
        assert!(said.contains("index out of bounds"), "{said}");
        let summary: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(summary["exit"], 70);
        let kept = std::fs::read_to_string(dir.path().join("termination-log")).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&kept).unwrap(), summary);
    }

    #[test]
    fn an_app_that_does_not_stop_is_killed_and_the_agent_still_drains() {
        if let Some(dir) = panics_in() {
            broken(&dir, "", Duration::from_secs(2));
        }
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let out = again("an_app_that_does_not_stop_is_killed_and_the_agent_still_drains", dir.path());
        assert_eq!(out.status.code(), Some(70), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(log(dir.path()), "up\ndrained\n");
        assert!(begun.elapsed() >= Duration::from_millis(800), "the app has its share first");
    }

    #[test]
    fn a_panic_of_another_thread_is_told_and_ends_nothing() {
        if let Some(dir) = panics_in() {
            arm();
            thread::spawn(|| panic!("in a probe"));
            while !dir.join("goes on").exists() {
                thread::sleep(LOOK);
            }
            std::process::exit(7);
        }
        let dir = tempfile::tempdir().unwrap();
        let told = {
            let dir = dir.path().to_owned();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(100));
                std::fs::write(dir.join("goes on"), "").unwrap();
            })
        };
        let out = again("a_panic_of_another_thread_is_told_and_ends_nothing", dir.path());
        told.join().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(7), "{said}");
        assert!(said.contains("in a probe; this thread stands still"), "{said}");
    }
}
