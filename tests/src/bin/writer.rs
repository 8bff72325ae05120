//! A small real writer: opens its database the way Station does and commits numbered rows. Writes one database and its truth file.
//!
//! Station's driver runs its pragmas on one pooled connection only: of ten connections one has `busy_timeout=30000`
//! and `synchronous=NORMAL`, nine have no busy timeout and `synchronous=FULL`. Any lock that somebody else holds for a
//! moment is therefore an error in the app nine times out of ten; this writer counts them and tries again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use holdfast_tests::chance::Chance;
use holdfast_tests::workload::{SCHEMA, Summary, body};
use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

#[derive(Debug, Parser)]
#[command(
    about = "Commits numbered rows the way Station does; prints each row's number once its commit has returned"
)]
struct Args {
    /// The database.
    #[arg(long, env = "STATION_DATABASE")]
    db: PathBuf,
    /// Append `ROW NANOSECONDS` here after every commit.
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Stop after this many commits.
    #[arg(long, default_value_t = u64::MAX)]
    commits: u64,
    /// Stop after this long.
    #[arg(long, default_value_t = f64::INFINITY)]
    seconds: f64,
    /// Commits a second at most, over all writers; 0 is as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Wait a random time between commits, up to this many milliseconds.
    #[arg(long, default_value_t = 0)]
    gap_ms: u64,
    /// On top of --gap-ms, always this long.
    #[arg(long, default_value_t = 0)]
    least_gap_ms: u64,
    /// Rows a transaction.
    #[arg(long, default_value_t = 1)]
    rows: u64,
    /// Bytes a row.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Every hundredth transaction or so has this many rows instead.
    #[arg(long, default_value_t = 0)]
    big_txn: u64,
    /// After this many commits rest once, for --rest-ms.
    #[arg(long, default_value_t = 0)]
    rest_after: u64,
    /// How long the rest is.
    #[arg(long, default_value_t = 2000)]
    rest_ms: u64,
    /// Keep this many rows; older ones are deleted in the same transaction (0 keeps all).
    #[arg(long, default_value_t = 0)]
    keep: i64,
    /// Pooled connections.
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Leave even the first connection without a busy timeout.
    #[arg(long)]
    no_timeout: bool,
    /// `wal_autocheckpoint` of every connection.
    #[arg(long, default_value_t = 1000)]
    autocheckpoint: u32,
    /// Page size of a new database.
    #[arg(long, default_value_t = 4096)]
    page_size: u32,
    /// Writing threads. They take turns, as an app's own mutex would make them.
    #[arg(long, default_value_t = 1)]
    writers: usize,
    /// Threads that read the newest rows over and over.
    #[arg(long, default_value_t = 0)]
    readers: usize,
    /// Take this file's lock around every transaction (shared with other programs that write or checkpoint).
    #[arg(long)]
    app_lock: Option<PathBuf>,
    /// After the last commit stay open, idle, until SIGTERM.
    #[arg(long)]
    hold: bool,
    /// Go on for so long when asked to end, as an app that has something to finish.
    #[arg(long, default_value_t = 0.0)]
    after_term: f64,
    /// Close all connections at the end, as Station does not.
    #[arg(long)]
    close: bool,
    /// Seed of content and timing.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    // One and the same unless it takes its time.
    let asked = if args.after_term > 0.0 { Arc::default() } else { Arc::clone(&stop) };
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&asked)) {
            eprintln!("writer: watch signal {signal}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if args.after_term > 0.0 {
        let (late, stop) = (Duration::from_secs_f64(args.after_term), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(late);
            stop.store(true, Ordering::Relaxed);
        });
    }
    match run(args, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writer: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run(args: Args, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let app = App::open(args, stop)?;
    let started = Instant::now();
    let outcome: Result<(), Failure> = std::thread::scope(|scope| {
        let app = &app;
        let writers: Vec<_> = (0..app.args.writers).map(|id| scope.spawn(move || app.write(id))).collect();
        let readers: Vec<_> = (0..app.args.readers).map(|_| scope.spawn(|| app.read())).collect();
        let mut result = Ok(());
        for writer in writers {
            result = result.and(writer.join().expect("a writer does not panic"));
        }
        app.done.store(true, Ordering::Relaxed);
        for reader in readers {
            result = result.and(reader.join().expect("a reader does not panic"));
        }
        result
    });
    outcome?;
    let summary = app.summary(started.elapsed());
    if app.args.hold {
        println!("holding");
        while !app.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    eprintln!("{}", serde_json::to_string(&summary)?);
    if !app.args.close {
        // Station leaves by `os.Exit`: connections stay open until the kernel closes them, the WAL is left behind.
        std::process::exit(0);
    }
    Ok(())
}

/// The app: its pool, its counters, its pace.
struct App {
    args: Args,
    pool: Mutex<Vec<Connection>>,
    turn: Mutex<Turn>,
    stop: Arc<AtomicBool>,
    done: AtomicBool,
    busy: AtomicU64,
}

/// What the writers share, one at a time.
struct Turn {
    truth: Option<BufWriter<File>>,
    lock: Option<File>,
    commits: u64,
    took: Vec<u32>,
    due: Instant,
}

impl App {
    fn open(args: Args, stop: Arc<AtomicBool>) -> Result<Self, Failure> {
        let lock = match &args.app_lock {
            Some(path) => Some(File::options().create(true).append(true).open(path)?),
            None => None,
        };
        let truth = match &args.truth {
            Some(path) => Some(BufWriter::new(File::options().create(true).append(true).open(path)?)),
            None => None,
        };
        let mut pool = Vec::new();
        for index in 0..args.connections.max(1) {
            pool.push(connect(&args, index == 0 && !args.no_timeout)?);
        }
        let turn = Turn { truth, lock, commits: 0, took: Vec::new(), due: Instant::now() };
        let app = Self {
            args,
            pool: Mutex::new(pool),
            turn: Mutex::new(turn),
            stop,
            done: AtomicBool::new(false),
            busy: AtomicU64::new(0),
        };
        app.persist(|db| create(db, &app.args))?;
        Ok(app)
    }

    /// One writing thread.
    fn write(&self, id: usize) -> Result<(), Failure> {
        let mut chance = Chance::new(self.args.seed.wrapping_add(id as u64));
        let until = Duration::try_from_secs_f64(self.args.seconds)
            .map_or(None, |long| Instant::now().checked_add(long));
        loop {
            if self.args.gap_ms > 0 || self.args.least_gap_ms > 0 {
                let least = Duration::from_millis(self.args.least_gap_ms);
                std::thread::sleep(chance.between(least, least + Duration::from_millis(self.args.gap_ms)));
            }
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let over =
                turn.commits >= self.args.commits || until.is_some_and(|until| Instant::now() >= until);
            if over || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.args.rest_after > 0 && turn.commits == self.args.rest_after {
                self.rest();
            }
            turn.keep_pace(self.args.rate);
            let rows = if self.args.big_txn > 0 && chance.below(100) == 0 {
                self.args.big_txn
            } else {
                self.args.rows
            };
            let began = Instant::now();
            let last = {
                let _held = turn.hold()?;
                self.persist(|db| commit(db, &self.args, rows as i64))?
            };
            let Some(last) = last else { return Ok(()) };
            turn.record(last, began.elapsed())?;
        }
    }

    /// Nobody writes for a while.
    fn rest(&self) {
        let until = Instant::now() + Duration::from_millis(self.args.rest_ms);
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One reading thread: short transactions on the newest rows.
    fn read(&self) -> Result<(), Failure> {
        while !self.stop.load(Ordering::Relaxed) && !self.done.load(Ordering::Relaxed) {
            self.persist(|db| {
                let rows: i64 = db.query_row(
                    "SELECT count(*) FROM (SELECT body FROM rows ORDER BY n DESC LIMIT 20)",
                    [],
                    |row| row.get(0),
                )?;
                Ok(rows)
            })?;
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    /// Runs `work` on a pooled connection until SQLite is not busy; counts how often it was. `None` when told to stop meanwhile.
    fn persist<T>(
        &self,
        mut work: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Failure> {
        loop {
            let mut db = self.take();
            let outcome = work(&mut db);
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).insert(0, db);
            match outcome {
                Ok(value) => return Ok(Some(value)),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    self.busy.fetch_add(1, Ordering::Relaxed);
                    if self.stop.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The connection that rested longest; waits for one when all are in use.
    fn take(&self) -> Connection {
        loop {
            if let Some(db) = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                return db;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn summary(&self, elapsed: Duration) -> Summary {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut took = turn.took.clone();
        took.sort_unstable();
        let ms = |micros: Option<&u32>| f64::from(*micros.unwrap_or(&0)) / 1000.0;
        Summary {
            seed: self.args.seed,
            commits: turn.commits,
            seconds: elapsed.as_secs_f64(),
            busy: self.busy.load(Ordering::Relaxed),
            worst_ms: ms(took.last()),
            p99_ms: ms(took.get(took.len() * 99 / 100)),
        }
    }
}

impl Turn {
    fn keep_pace(&mut self, rate: f64) {
        if rate > 0.0 {
            std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
            self.due = self.due.max(Instant::now() - Duration::from_millis(100))
                + Duration::from_secs_f64(1.0 / rate);
        }
    }

    fn hold(&self) -> Result<Option<Flock<File>>, Failure> {
        let Some(lock) = &self.lock else { return Ok(None) };
        Ok(Some(Flock::lock(lock.try_clone()?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?))
    }

    fn record(&mut self, last: i64, took: Duration) -> Result<(), Failure> {
        self.commits += 1;
        self.took.push(took.as_micros().min(u128::from(u32::MAX)) as u32);
        if let Some(truth) = &mut self.truth {
            writeln!(truth, "{last} {}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
            truth.flush()?;
        }
        Ok(())
    }
}

/// Opens one pooled connection; only the first gets Station's pragmas.
fn connect(args: &Args, first: bool) -> Result<Connection, Failure> {
    let db = Connection::open(&args.db)?;
    // Before WAL mode is set: the page size of a new database, and patience with a start-up race.
    db.busy_timeout(Duration::from_secs(30))?;
    db.pragma_update(None, "page_size", args.page_size)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update_and_check(None, "wal_autocheckpoint", args.autocheckpoint, |_| Ok(()))?;
    db.pragma_update(None, "synchronous", if first { "NORMAL" } else { "FULL" })?;
    if !first {
        db.busy_timeout(Duration::ZERO)?;
    }
    Ok(db)
}

fn create(db: &mut Connection, args: &Args) -> rusqlite::Result<()> {
    let there: Option<i64> =
        db.query_row("SELECT 1 FROM sqlite_schema WHERE name = 'tally'", [], |row| row.get(0)).optional()?;
    if there.is_some() {
        return Ok(());
    }
    let txn = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    txn.execute_batch(SCHEMA)?;
    txn.execute(
        "INSERT OR IGNORE INTO tally VALUES (1, ?1, ?2, 1, 0)",
        (args.seed as i64, args.bytes as i64),
    )?;
    txn.commit()
}

/// One transaction: the next `rows` rows, the oldest ones away if only some are kept, the tally moved. Returns the newest row.
fn commit(db: &mut Connection, args: &Args, rows: i64) -> rusqlite::Result<i64> {
    let txn = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (seed, bytes, last) = txn
        .prepare("SELECT seed, bytes, last FROM tally")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
    {
        let mut insert = txn.prepare("INSERT INTO rows VALUES (?1, ?2)")?;
        for n in last + 1..=last + rows {
            insert.execute((n, body(seed as u64, n, bytes as usize)))?;
        }
    }
    let newest = last + rows;
    if args.keep > 0 && newest > args.keep {
        txn.prepare("DELETE FROM rows WHERE n <= ?1")?.execute([newest - args.keep])?;
        txn.prepare("UPDATE tally SET first = ?1, last = ?2")?.execute([newest - args.keep + 1, newest])?;
    } else {
        txn.prepare("UPDATE tally SET last = ?1")?.execute([newest])?;
    }
    txn.commit()?;
    Ok(newest)
}
