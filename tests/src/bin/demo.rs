//! `cargo demo`: the main job, on this machine, with nothing configured. Writes one temporary directory.
//!
//! A small real app runs under `holdfast-supervisor` with a directory as its replica; it is stopped, its database
//! deleted, brought back and compared, and an earlier moment is restored beside it. Exit 0 only if all of it held.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use holdfast_tests::oracle::{self, State};
use holdfast_tests::process::{self, Running, code};
use holdfast_tests::replica::{self, Replica};
use holdfast_tests::workload::{self, truth_of};
use holdfast_tests::{programs, scene, wal};
use nix::sys::signal::Signal;

/// How long anything that should take a moment may take before the demo calls it failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Err(why) = build() {
        eprintln!("demo: {why}");
        return ExitCode::FAILURE;
    }
    let started = Instant::now();
    match Demo::prepare().and_then(|demo| demo.play()) {
        Ok(verdicts) => {
            println!("\nSummary ({:.1} s after the build)", started.elapsed().as_secs_f64());
            for verdict in &verdicts {
                println!("  {} {}", if verdict.held { "✓" } else { "✗" }, verdict.claim);
            }
            if verdicts.iter().all(|verdict| verdict.held) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("\ndemo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the programs the demo runs, with the profile it was built with itself.
fn build() -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(programs::root()).args(["build", "--release", "--bins"]);
    cargo.args(["-p", "holdfast", "-p", "holdfast-supervisor", "-p", "holdfast-tests"]);
    let status = cargo.status().map_err(|e| format!("run {cargo:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{cargo:?}: {status}")) }
}

/// One comparison and its outcome.
struct Verdict {
    claim: String,
    held: bool,
}

impl Verdict {
    fn of(claim: impl Display, held: bool) -> Self {
        println!("      {} {claim}", if held { "✓" } else { "✗" });
        Self { claim: claim.to_string(), held }
    }
}

/// The stage: a temporary directory with a configuration.
struct Demo {
    dir: tempfile::TempDir,
}

impl Demo {
    fn prepare() -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("holdfast-demo-").tempdir();
        let demo = Self { dir: dir.map_err(|e| format!("make a temporary directory: {e}"))? };
        let config = replica::config(&demo.db(), &[], &Replica::File(demo.replica()), &[]);
        std::fs::write(demo.config(), config)
            .map_err(|e| format!("write {}: {e}", demo.config().display()))?;
        Ok(demo)
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("station.db")
    }

    fn replica(&self) -> PathBuf {
        self.dir.path().join("replica")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("litestream.yml")
    }

    fn play(&self) -> Result<Vec<Verdict>, String> {
        println!("Holdfast keeps a SQLite database alive across containers. Everything below happens in");
        println!("{}.\n", self.dir.path().display());

        println!(
            "1. An app starts under holdfast-supervisor: ten pooled connections, a busy timeout on one of them."
        );
        let mut run =
            self.supervise("first", &["--rate", "400", "--bytes", "400", "--rest-after", "1200"])?;
        let earlier = self.watch_first_half(&mut run)?;
        self.watch(&run, Duration::from_secs(3));

        println!("\n2. SIGTERM, as `docker stop` sends it.");
        let ended = self.stop(&mut run);
        self.show(&run, &["stopping", "app exited", "final sync proven"]);
        let proven = run.log().contains("final sync proven");
        let before = oracle::state(&self.db())?;
        let acknowledged = workload::truth(&truth_of(&self.db())).last().map_or(0, |row| row.n);
        let summary = workload::summary(app_lines(&run.log()).as_str());
        let mut verdicts = vec![
            Verdict::of(format!("the supervisor exited with the app's code, {ended}"), ended == 0),
            Verdict::of(
                format!("the final sync was proven; the app met SQLITE_BUSY {} times", summary.busy),
                proven && summary.busy == 0,
            ),
            Verdict::of(
                format!("the database holds every row the app was told is committed: {acknowledged}"),
                before.last == acknowledged,
            ),
        ];

        println!("\n3. The machine is lost: the database, its -wal and its -shm are deleted.");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(wal::beside(&self.db(), suffix));
        }

        println!("\n4. A new start, same command.");
        let mut run = self.supervise("second", &["--commits", "0", "--hold"])?;
        run.wait_log("the app starts again", PATIENCE, |line| line == "holding");
        self.show(&run, &["restoring generation", "restored in", "app started"]);
        let restored = oracle::state(&self.db())?;
        verdicts.push(equal("the restored database", &restored, &before));
        let ended = self.stop(&mut run);
        verdicts.push(Verdict::of(format!("the second run ended in peace, {ended}"), ended == 0));

        println!("\n5. An earlier moment, {}.", earlier.at);
        verdicts.push(self.restore_earlier(&earlier)?);
        Ok(verdicts)
    }

    /// Watches until the app rests, and notes the moment and what the database holds at that moment.
    fn watch_first_half(&self, run: &mut Running) -> Result<Earlier, String> {
        run.wait_log("the app starts", PATIENCE, |line| line.contains("app started"));
        let until = Instant::now() + PATIENCE;
        let mut seen = (0, Instant::now());
        loop {
            self.watch(run, Duration::from_millis(500));
            let newest = oracle::newest(&self.db()).unwrap_or(0);
            if newest != seen.0 {
                seen = (newest, Instant::now());
            } else if newest > 0 && seen.1.elapsed() >= Duration::from_millis(500) {
                // Quiet, and a sync interval has passed since: the replica has this, and nothing newer.
                std::thread::sleep(Duration::from_millis(600));
                let earlier = Earlier { at: scene::now(), state: oracle::state(&self.db())? };
                println!("      the app rests at row {newest}; remember {}", earlier.at);
                return Ok(earlier);
            }
            if Instant::now() > until {
                return Err(format!("the app did not get to its rest; its log:\n{}", run.log()));
            }
        }
    }

    /// Shows position, lag and bytes twice a second, as the supervisor reports them on SIGUSR2.
    fn watch(&self, run: &Running, how_long: Duration) {
        let until = Instant::now() + how_long;
        while Instant::now() < until {
            run.signal(Signal::SIGUSR2);
            std::thread::sleep(
                Duration::from_millis(500).min(until.saturating_duration_since(Instant::now())),
            );
            let log = run.log();
            let status = log
                .lines()
                .rev()
                .find(|line| line.contains("of lag"))
                .and_then(|line| line.split_once(" at "));
            let status = match status {
                Some((_, rest)) if !rest.starts_with(' ') => format!("replica at {rest}"),
                _ => "the replica waits for its first base".to_owned(),
            };
            let rows = workload::truth(&truth_of(&self.db())).last().map_or(0, |row| row.n);
            progress(&format!(
                "{rows:>6} rows committed · {status} · {} stored",
                Bytes(size_of(&self.replica()))
            ));
        }
        if std::io::stdout().is_terminal() {
            println!();
        }
    }

    fn restore_earlier(&self, earlier: &Earlier) -> Result<Verdict, String> {
        let out = self.dir.path().join("earlier.db");
        let mut restore = process::command(programs::ours("holdfast"));
        restore.arg("restore").arg("-config").arg(self.config()).args(["-timestamp", &earlier.at]);
        let done = process::run(restore.arg("-o").arg(&out).arg(self.db()), PATIENCE);
        for line in done.stderr.lines() {
            println!("      │ {line}");
        }
        if done.code != 0 {
            return Err(format!("holdfast restore -timestamp {}: exit {}", earlier.at, done.code));
        }
        Ok(equal("that moment's database", &oracle::state(&out)?, &earlier.state))
    }

    fn supervise(&self, name: &str, app: &[&str]) -> Result<Running, String> {
        let mut command = process::command(programs::ours("holdfast-supervisor"));
        command.arg("-config").arg(self.config()).args(["-stop-grace", "10s", "--"]);
        command.arg(programs::ours("writer")).arg("--truth").arg(truth_of(&self.db())).args(app);
        // Ctrl-C reaches the demo, which then stops what it started.
        command.process_group(0);
        println!("      $ holdfast-supervisor -config litestream.yml -- writer {}", app.join(" "));
        Ok(Running::start(&mut command, &self.dir.path().join(format!("{name}.log"))))
    }

    fn stop(&self, run: &mut Running) -> i32 {
        code(run.stop(PATIENCE))
    }

    /// The lines of the run's log that tell this part of the story.
    fn show(&self, run: &Running, wanted: &[&str]) {
        for line in run.log().lines().filter(|line| wanted.iter().any(|word| line.contains(word))) {
            println!("      │ {line}");
        }
    }
}

/// A moment to come back to.
struct Earlier {
    at: String,
    state: State,
}

fn equal(what: &str, found: &State, expected: &State) -> Verdict {
    let rows = found.last - found.first + 1;
    Verdict::of(
        format!(
            "{what} equals what was there then: {rows} rows, content {:016x}, integrity ok",
            found.digest
        ),
        found == expected,
    )
}

/// The app's own words, without the supervisor's and the agent's.
fn app_lines(log: &str) -> String {
    log.lines().filter(|line| line.starts_with("{\"seed\"")).collect::<Vec<_>>().join("\n")
}

/// One line that replaces itself on a terminal, and follows the others elsewhere.
fn progress(text: &str) {
    if std::io::stdout().is_terminal() {
        print!("\r\x1b[2K      {text}");
        let _ = std::io::stdout().flush();
    } else {
        println!("      {text}");
    }
}

fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// `812 B`, `81.2 KB`, `8.1 MB`.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n @ 0..1000 => write!(f, "{n} B"),
            n @ 1000..1_000_000 => write!(f, "{:.1} KB", n as f64 / 1e3),
            n => write!(f, "{:.1} MB", n as f64 / 1e6),
        }
    }
}
