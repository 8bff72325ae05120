//! The agent in a process of its own: its log, what it costs, and how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::run::limits::Limits;
use holdfast_config::Env;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use super::child::{Reaped, command, str_of};
use super::{LONG, eventually};

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Reaped,
    log: PathBuf,
}

/// What a process cost so far, as the kernel counts it.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu: Duration,
    /// Largest resident size, in bytes.
    pub peak: u64,
    /// Times a thread was given a CPU, over all threads that still live.
    pub switches: u64,
}

impl Agent {
    /// `replicate` with the configuration file `config`, logging to `log`.
    pub fn start(config: &Path, log: &Path, limits: Limits) -> Self {
        let arguments = json!({ "config": config, "tail": limits.tail_bytes, "index": limits.index_bytes });
        let file = fs::File::options().create(true).append(true).open(log).unwrap();
        let child = command("agent", &arguments)
            .stdin(std::process::Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { process: Reaped(child), log: log.into() }
    }

    /// Everything this agent and its predecessors in the same scene have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The lines that contain `text`.
    pub fn lines(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|l| l.contains(text)).map(str::to_owned).collect()
    }

    /// Waits until `text` stands in the log for the `count`-th time.
    #[track_caller]
    pub fn says(&self, text: &str, count: usize) {
        let start = Instant::now();
        while self.lines(text).len() < count {
            let log = self.log();
            assert!(start.elapsed() < LONG, "the log says {text:?} fewer than {count} times:\n{log}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM; the agent's exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> i32 {
        kill(self.process.pid(), Signal::SIGTERM).unwrap();
        self.wait()
    }

    /// SIGTERM, and the final sync must succeed.
    #[track_caller]
    pub fn stop(mut self) {
        let code = self.terminate();
        assert_eq!(code, 0, "the final sync:\n{}", self.log());
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.process.pid(), signal).unwrap();
    }

    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let mut ended = None;
        eventually("the agent ends", LONG, || {
            ended = self.process.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().code().expect("the agent was not killed")
    }

    pub fn cost(&self) -> Cost {
        let pid = self.process.0.id();
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap();
            line[name.len()..].split_ascii_whitespace().next().unwrap().parse().unwrap()
        };
        let stat = read("stat");
        // utime and stime, counted after the parenthesised name, in hundredths of a second.
        let times = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = times.map(|t| t.parse::<u64>().unwrap()).sum();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let status = threads.filter_map(|t| fs::read_to_string(t.unwrap().path().join("status")).ok());
        let switches =
            |s: String| field(&s, "voluntary_ctxt_switches:") + field(&s, "nonvoluntary_ctxt_switches:");
        Cost {
            cpu: Duration::from_millis(ticks * 10),
            peak: field(&read("status"), "VmHWM:") * 1024,
            switches: status.map(switches).sum(),
        }
    }
}

/// The role behind [`Agent`].
pub(super) fn main(arguments: &Value) -> i32 {
    holdfast::heap::share();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::stderr)
        .init();
    let path = Path::new(str_of(arguments, "config"));
    let text = fs::read_to_string(path).unwrap();
    let config = holdfast_config::parse(&text, path, &Env::from_process(), true).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let limits = Limits {
        tail_bytes: arguments["tail"].as_u64().unwrap(),
        index_bytes: arguments["index"].as_u64().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(holdfast::run::replicate::run_within(config, None, limits)).code().into()
}
