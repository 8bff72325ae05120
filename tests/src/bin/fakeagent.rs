//! A fixture: speaks the agent's side of the control protocol and misbehaves as the environment says.
//!
//! | variable | effect |
//! | --- | --- |
//! | `FIXTURE_LOG` | appends `MILLISECONDS agent WHAT` for every event |
//! | `FG_RESTORE_EXIT` | exit codes of `restore`, one a try, the last for ever: `69,69,0`; default 0 |
//! | `FG_RESTORE_MS` | how long `restore` takes |
//! | `FG_EXIT` | `replicate` exits with this code at once |
//! | `FG_READY_MS` | how long until `ready`; default 0 |
//! | `FG_DIE_AFTER` | milliseconds from `ready` to its own SIGKILL |
//! | `FG_DIE_IN_DRAIN` | SIGKILLs itself when asked to drain |
//! | `FG_HANG` | says nothing after `ready` |
//! | `FG_DRAIN_MS` | how long a drain takes |
//! | `FG_FAIL` | the drain does not succeed |
//! | `FG_EOF_MS` | goes on for so long after the supervisor has gone |
//! | `FG_LIE` | the drain claims success with bytes of lag |
//! | `FG_BAD_STARTS` | only so many first starts misbehave; default all |
//! | `FG_GOOD_STARTS` | so many first starts do not misbehave; default none |

use std::io::{ErrorKind, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::time::{Duration, Instant};

use holdfast_config::control::{Drained, FD_VAR, FromAgent, ReadyMode, Status, ToAgent};
use nix::sys::signal::{Signal, raise};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("restore") => restore(&args),
        Some("replicate") => replicate(&args),
        other => panic!("the supervisor runs `restore` and `replicate`, not {other:?}"),
    }
}

fn restore(args: &[String]) {
    let tries = count("agent restore");
    log(&args.join(" "));
    std::thread::sleep(Duration::from_millis(number("FG_RESTORE_MS").unwrap_or(0)));
    let codes = std::env::var("FG_RESTORE_EXIT").unwrap_or_else(|_| "0".into());
    let codes: Vec<i32> =
        codes.split(',').map(|c| c.parse().expect("FG_RESTORE_EXIT holds numbers")).collect();
    exit(codes[tries.min(codes.len() - 1)]);
}

fn replicate(args: &[String]) {
    let starts = count("agent replicate");
    let starts = starts as u64;
    let bad = number("FG_BAD_STARTS").is_none_or(|n| starts < n)
        && number("FG_GOOD_STARTS").is_none_or(|n| starts >= n);
    let misbehaves = |name: &str| bad && std::env::var_os(name).is_some();
    log(&args.join(" "));
    log(&format!("start {}", std::process::id()));
    if let Some(code) = number("FG_EXIT").filter(|_| bad) {
        exit(code as i32);
    }
    let fd = std::env::var(FD_VAR).expect("the control descriptor is named").parse().expect("it is a number");
    // SAFETY: the supervisor passed this descriptor to us and nothing else in this process uses it.
    let mut socket = unsafe { UnixStream::from_raw_fd(fd) };
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket has a timeout");
    say(&mut socket, &FromAgent::Phase { name: "attach".into() });
    std::thread::sleep(Duration::from_millis(number("FG_READY_MS").unwrap_or(0)));
    say(&mut socket, &FromAgent::Ready { mode: ReadyMode::Pinned, db: "/data/station.db".into() });
    log("ready");
    let ready = Instant::now();
    let mut drain: Option<Instant> = None;
    let (mut told, mut partial) = (Instant::now(), Vec::new());
    loop {
        if misbehaves("FG_HANG") {
            std::thread::sleep(Duration::from_secs(600));
        }
        if number("FG_DIE_AFTER").is_some_and(|ms| bad && ready.elapsed() >= Duration::from_millis(ms)) {
            raise(Signal::SIGKILL).expect("a process can kill itself");
        }
        let mut chunk = [0; 512];
        match socket.read(&mut chunk) {
            Ok(0) => {
                log("eof");
                std::thread::sleep(Duration::from_millis(number("FG_EOF_MS").unwrap_or(0)));
                exit(0);
            }
            Ok(n) => partial.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => panic!("read the control socket: {e}"),
        }
        while let Some(end) = partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            match serde_json::from_slice(&line).expect("the supervisor speaks the protocol") {
                ToAgent::Flush {} => log("flush"),
                ToAgent::Reload {} => log("reload"),
                ToAgent::Exit {} => {
                    log("exit");
                    exit(0);
                }
                ToAgent::Drain { deadline_ms } => {
                    log(&format!("drain {deadline_ms}"));
                    if misbehaves("FG_DIE_IN_DRAIN") {
                        raise(Signal::SIGKILL).expect("a process can kill itself");
                    }
                    drain = Some(Instant::now() + Duration::from_millis(number("FG_DRAIN_MS").unwrap_or(0)));
                }
            }
        }
        if drain.is_some_and(|at| Instant::now() >= at) {
            drain = None;
            say(&mut socket, &FromAgent::Drained(drained(misbehaves("FG_FAIL"), misbehaves("FG_LIE"))));
        }
        if told.elapsed() >= Duration::from_millis(500) {
            told = Instant::now();
            say(
                &mut socket,
                &FromAgent::Status(Status { db: "/data/station.db".into(), ..Status::default() }),
            );
        }
    }
}

fn drained(fails: bool, lies: bool) -> Drained {
    Drained {
        ok: !fails,
        quiesced: true,
        wal_end: 4152,
        position: "0123456789abcdef/00000000:4152".into(),
        lag_bytes: if fails || lies { 4120 } else { 0 },
        ms: 1,
        error: fails.then(|| "the replica is full".into()),
    }
}

fn say(socket: &mut UnixStream, message: &FromAgent) {
    let mut line = serde_json::to_string(message).expect("a message is JSON");
    line.push('\n');
    // The supervisor may be gone already; then the next read says so.
    let _ = socket.write_all(line.as_bytes());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

/// How often `what` stands in the log already.
fn count(what: &str) -> usize {
    let log = std::env::var("FIXTURE_LOG").expect("FIXTURE_LOG is set");
    std::fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.contains(what)).count()
}

fn log(what: &str) {
    let path = std::env::var("FIXTURE_LOG").expect("FIXTURE_LOG is set");
    let mut file =
        std::fs::File::options().append(true).create(true).open(path).expect("the log can be written");
    let line = format!("{} agent {what}\n", holdfast_tests::supervised::monotonic_ms());
    file.write_all(line.as_bytes()).expect("the log can be written");
}
