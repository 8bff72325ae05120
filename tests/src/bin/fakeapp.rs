//! A fixture: an app that does to its supervisor what the environment says, and writes down what is done to it.
//!
//! | variable | effect |
//! | --- | --- |
//! | `FIXTURE_LOG` | appends `MILLISECONDS app WHAT` for every event; the clock is the machine's monotonic one |
//! | `FA_EXIT` | the exit code; default 0 |
//! | `FA_RUN_MS` | ends by itself after so long; default: only on SIGTERM or SIGINT |
//! | `FA_STOP_MS` | goes on for so long after the signal |
//! | `FA_IGNORE` | names of signals it only writes down: `TERM,INT` |
//! | `FA_KILL` | sends itself this signal instead of ending |
//! | `FA_ORPHANS` | leaves so many processes behind, each started by a child that ends at once |
//! | `FA_ORPHAN_MS`, `FA_ORPHAN_IGNORE` | how long an orphan lives; the signals it only writes down |
//! | `FA_DUMP` | a directory for its `environ` and `status` as they were at its start |

use std::io::Write;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;

#[expect(clippy::zombie_processes, reason = "to leave a child behind is what this fixture is for")]
fn main() {
    match number("FA_GENERATION") {
        // The child between us and the orphan: it ends, and nobody is left but the supervisor.
        Some(1) => {
            Command::new(itself()).env("FA_GENERATION", "2").spawn().expect("an orphan can be started");
        }
        Some(_) => live("orphan", "FA_ORPHAN_IGNORE", number("FA_ORPHAN_MS"), 0, None),
        None => app(),
    }
}

fn app() {
    if let Ok(dir) = std::env::var("FA_DUMP") {
        for name in ["environ", "status"] {
            std::fs::copy(format!("/proc/self/{name}"), format!("{dir}/{name}"))
                .expect("the dump can be written");
        }
    }
    for _ in 0..number("FA_ORPHANS").unwrap_or(0) {
        let middle = Command::new(itself()).env("FA_GENERATION", "1").spawn();
        middle.expect("a child can be started").wait().expect("it ends");
    }
    let code = number("FA_EXIT").unwrap_or(0);
    live("app", "FA_IGNORE", number("FA_RUN_MS"), code, std::env::var("FA_KILL").ok());
}

/// Runs for `run_ms`, or until a stop signal and `FA_STOP_MS` more; then ends with `code` or by a signal of its own.
fn live(who: &str, ignored: &str, run_ms: Option<u64>, code: u64, suicide: Option<String>) {
    let signals = SigSet::all();
    signals.thread_block().expect("signals can be blocked");
    let arrive = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK).expect("signals can be read");
    let ignored = std::env::var(ignored).unwrap_or_default();
    log(who, &format!("start {}", std::process::id()));
    let mut end = run_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut stopping = false;
    while end.is_none_or(|end| Instant::now() < end) {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()).as_millis() + 1);
        let timeout = left.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).expect("a short test"));
        poll(&mut [PollFd::new(arrive.as_fd(), PollFlags::POLLIN)], timeout).expect("poll works");
        while let Ok(Some(info)) = arrive.read_signal() {
            let number = info.ssi_signo as i32;
            let name =
                Signal::try_from(number).map_or_else(|_| format!("{number}"), |s| s.as_str()[3..].to_owned());
            log(who, &format!("signal {name}"));
            let stops = ["TERM", "INT"].contains(&name.as_str()) && !ignored.split(',').any(|i| i == name);
            if stops && !stopping {
                stopping = true;
                end = Some(Instant::now() + Duration::from_millis(number_or("FA_STOP_MS", 0)));
            }
        }
    }
    log(who, "end");
    if let Some(name) = suicide {
        let signal: Signal = format!("SIG{name}").parse().expect("FA_KILL names a signal");
        SigSet::all().thread_unblock().expect("signals can be unblocked");
        // Twice: std's handler of SIGSEGV puts the default back and expects the fault to come again.
        for _ in 0..2 {
            raise(signal).expect("a signal can be raised");
        }
    }
    exit(code as i32);
}

fn itself() -> std::path::PathBuf {
    std::env::current_exe().expect("a program knows its own path")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

fn number_or(name: &str, default: u64) -> u64 {
    number(name).unwrap_or(default)
}

fn log(who: &str, what: &str) {
    let Ok(path) = std::env::var("FIXTURE_LOG") else { return };
    let mut file =
        std::fs::File::options().append(true).create(true).open(path).expect("the log can be written");
    let line = format!("{} {who} {what}\n", holdfast_tests::supervised::monotonic_ms());
    file.write_all(line.as_bytes()).expect("the log can be written");
}
