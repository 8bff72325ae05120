//! The app that owns the database: a connection in a process of its own, or a statement repeated as fast as asked.
//!
//! A program answers on stdout in lines that begin with `= `; everything else there is the test harness's.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use serde_json::{Value, json};

use super::child::{Reaped, command, str_of};

/// A process with one connection and no busy timeout. Dropping it kills the process: nothing is closed.
#[derive(Debug)]
pub struct App {
    process: Reaped,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl App {
    /// Opens the database, creating it, without a pragma.
    pub fn start(db: &Path) -> Self {
        let mut child = command("connection", &json!({ "db": db }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut app = Self { process: Reaped(child), input, output };
        assert_eq!(app.answer(), "open");
        app
    }

    /// As [`App::start`], in WAL mode with `synchronous=NORMAL`.
    pub fn wal(db: &Path) -> Self {
        let mut app = Self::start(db);
        app.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;");
        app
    }

    /// Runs statements; returns what the last of them that is a query says, columns joined by `|`.
    #[track_caller]
    pub fn run(&mut self, sql: &str) -> String {
        self.try_run(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub fn try_run(&mut self, sql: &str) -> Result<String, String> {
        writeln!(self.input.as_ref().unwrap(), "{}", json!(sql)).unwrap();
        let answer = self.answer();
        match answer.split_once(' ').unwrap() {
            ("ok", row) => Ok(row.into()),
            (_, error) => Err(error.into()),
        }
    }

    /// Closes the connection and ends the process.
    pub fn close(mut self) {
        drop(self.input.take());
        assert!(self.process.0.wait().unwrap().success());
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }

    fn answer(&mut self) -> String {
        loop {
            let line = self.output.next().expect("the app still runs").unwrap();
            if let Some(answer) = line.strip_prefix("= ") {
                return answer.to_owned();
            }
        }
    }
}

/// A process that repeats a statement until told to stop.
#[derive(Debug)]
pub struct Repeating {
    process: Reaped,
}

/// How often a repeated statement succeeded, met `SQLITE_BUSY`, and how long the slowest success took.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    pub done: u64,
    pub busy: u64,
    pub slowest: Duration,
}

impl Repeating {
    /// Runs `sql` on a connection without a busy timeout, with a pause up to `gap` at random between two.
    pub fn start(db: &Path, sql: &str, gap: Duration) -> Self {
        Self::with_timeout(db, sql, gap, Duration::ZERO)
    }

    pub fn with_timeout(db: &Path, sql: &str, gap: Duration, busy_timeout: Duration) -> Self {
        let arguments = json!({
            "db": db, "sql": sql, "gap": gap.as_micros() as u64, "timeout": busy_timeout.as_millis() as u64,
        });
        let child =
            command("repeat", &arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { process: Reaped(child) }
    }

    /// Still at it?
    #[track_caller]
    pub fn stop(mut self) -> Tally {
        drop(self.process.0.stdin.take());
        let output = self.process.0.stdout.take().unwrap();
        let lines = BufReader::new(output).lines().map(Result::unwrap);
        let last = lines.filter_map(|l| l.strip_prefix("= ").map(str::to_owned)).last();
        assert!(self.process.0.wait().unwrap().success(), "a repeated statement failed: {last:?}");
        let tally: Value = serde_json::from_str(&last.unwrap()).unwrap();
        let number = |key: &str| tally[key].as_u64().unwrap();
        Tally {
            done: number("done"),
            busy: number("busy"),
            slowest: Duration::from_micros(number("slowest")),
        }
    }
}

/// The role behind [`App`]: a line of JSON in, a line out; the end of input closes the connection.
pub(super) fn connection(arguments: &Value) -> i32 {
    let db = open(arguments);
    println!("= open");
    for line in std::io::stdin().lines() {
        let sql: String = serde_json::from_str(&line.unwrap()).unwrap();
        match run(&db, &sql) {
            Ok(row) => println!("= ok {row}"),
            Err(e) => println!("= failed {e}"),
        }
    }
    db.close().unwrap();
    0
}

/// The role behind [`Repeating`].
pub(super) fn repeat(arguments: &Value) -> i32 {
    static STOP: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        std::io::stdin().lines().for_each(drop);
        STOP.store(true, Ordering::Relaxed);
    });
    let db = open(arguments);
    db.busy_timeout(Duration::from_millis(arguments["timeout"].as_u64().unwrap())).unwrap();
    db.execute_batch("PRAGMA synchronous=NORMAL").unwrap();
    let (sql, gap) = (str_of(arguments, "sql"), arguments["gap"].as_u64().unwrap());
    let (mut done, mut busy, mut slowest, mut chance) = (0u64, 0u64, Duration::ZERO, 12345u64);
    while !STOP.load(Ordering::Relaxed) {
        let start = Instant::now();
        match run(&db, sql) {
            Ok(_) => {
                done += 1;
                slowest = slowest.max(start.elapsed());
            }
            Err(e) if matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy)) => {
                busy += 1;
                if !db.is_autocommit() {
                    db.execute_batch("ROLLBACK").unwrap();
                }
            }
            Err(e) => {
                println!("= {sql}: {e}");
                return 1;
            }
        }
        if gap > 0 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_micros((chance >> 33) % gap));
        }
    }
    db.close().unwrap();
    println!("= {}", json!({ "done": done, "busy": busy, "slowest": slowest.as_micros() as u64 }));
    0
}

fn open(arguments: &Value) -> Connection {
    let db = Connection::open(str_of(arguments, "db")).unwrap();
    db.busy_timeout(Duration::ZERO).unwrap();
    db
}

/// Runs every statement of `sql`, which has no `;` but between two, to its end; returns the last row of the last query.
fn run(db: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut last = String::new();
    for sql in sql.split(';').filter(|s| !s.trim().is_empty()) {
        let mut statement = db.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let value = |n| row.get::<_, rusqlite::types::Value>(n).map(text);
            last = (0..columns).map(value).collect::<rusqlite::Result<Vec<_>>>()?.join("|");
        }
    }
    Ok(last)
}

fn text(value: rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => String::new(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Text(t) => t,
        Value::Blob(b) => format!("{} bytes", b.len()),
    }
}
