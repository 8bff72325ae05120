//! From stored objects to the restored file, on every core and in bounded memory.
//!
//! ```text
//! fetch (async, ahead) ─▶ split into blocks ─▶ queue ─▶ decode on any worker ─▶ in turn: checksum, frames, pages
//!                                                                            └▶ out of turn: write the base's blocks
//! ```
//! Blocks are decoded in any order and accounted for in the plan's order: a worker that has decoded block `n` waits
//! for turn `n`. The oldest block is always in the hands of a worker, so somebody always has the turn.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::apply::{Applied, Applier, ApplyError, ObjectFault};
use super::fetch::{self, Missed};
use crate::durable;
use crate::format::layout::Name;
use crate::format::lz4::{Block, Cut, Splitter};
use crate::format::note::Note;
use crate::plan::restore::{Item, Plan};
use crate::store::{Store, StoreError};

/// Why the pipeline stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// This object does not restore.
    Object { name: Name, fault: ObjectFault },
    /// This object cannot be had.
    Store { name: Name, error: StoreError },
    /// The result cannot be written.
    Io(std::io::Error),
    /// No thread to be had.
    Threads(std::io::Error),
}

/// Restores `plan` into the empty `file`; `dir` is where scratch files may be. `done` counts stored bytes.
///
/// Safe to drop: the workers stop at their next block, and nothing but `file` has been touched.
pub(super) async fn run(
    store: &Store,
    plan: &Plan,
    file: &Arc<File>,
    dir: &Path,
    parallelism: usize,
    done: &AtomicU64,
) -> Result<Applied, Stop> {
    let items: Arc<[Item]> = plan.items().copied().collect();
    let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
    let line = Arc::new(Line {
        queue: Mutex::new(queue),
        turn: Mutex::new(Turn { next: 0, writing: 0, window: Vec::new(), stop: None, stopped: false }),
        moved: Condvar::new(),
        stopped: Notify::new(),
    });
    let guard = StopOnDrop(line.clone());
    let workers = {
        let (line, items, file, dir) = (line.clone(), items.clone(), file.clone(), dir.to_owned());
        tokio::task::spawn_blocking(move || work(&line, &items, &file, &dir))
    };
    let fed = feed(store, &items, parallelism, jobs, &line, done).await;
    if fed.is_err() {
        line.stop(None);
    }
    let worked = match workers.await {
        Ok(worked) => worked,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Stop::Threads(std::io::Error::other(e))),
    };
    drop(guard);
    match (fed, worked) {
        // What went wrong behind the queue comes before what that did to the feeding.
        (_, Err(stop)) if !matches!(stop, Stop::Threads(_)) => Err(stop),
        (Err(Some(stop)), _) => Err(stop),
        (_, worked) => worked,
    }
}

/// Fetches, splits and queues. `Err(None)`: the workers have stopped and know why.
async fn feed(
    store: &Store,
    items: &[Item],
    parallelism: usize,
    jobs: mpsc::Sender<Job>,
    line: &Line,
    done: &AtomicU64,
) -> Result<(), Option<Stop>> {
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    let mut parts = std::pin::pin!(fetch::parts(store, items, parallelism));
    let mut splitter = Splitter::new();
    let mut seq = 0;
    let mut fresh = true;
    let queue = async |seq: &mut u64, item, what, permit| {
        let job = Job { seq: *seq, item, what, _room: permit };
        *seq += 1;
        jobs.send(job).await.map_err(|_| None)
    };
    loop {
        let part = tokio::select! {
            biased;
            () = line.stopped.notified() => return Err(None),
            part = parts.next() => part,
        };
        let Some(part) = part else { return Ok(()) };
        let part =
            part.map_err(|Missed { item, error }| Some(Stop::Store { name: items[item].name, error }))?;
        let (item, name) = (part.item, items[part.item].name);
        let broken = |e| Some(Stop::Object { name, fault: ObjectFault::Frame(e) });
        if std::mem::take(&mut fresh) {
            queue(&mut seq, item, What::Start, None).await?;
        }
        done.fetch_add(part.bytes.len() as u64, Ordering::Relaxed);
        splitter.feed(part.bytes);
        loop {
            match splitter.cut().map_err(broken)? {
                Cut::More => break,
                Cut::Note(note) => queue(&mut seq, item, What::Note(note), None).await?,
                Cut::End { checksum, size } => {
                    queue(&mut seq, item, What::End { checksum, size }, None).await?;
                }
                Cut::Block(block) => {
                    let bytes = u32::try_from(block.stored_len()).unwrap_or(u32::MAX);
                    let permit = tokio::select! {
                        biased;
                        () = line.stopped.notified() => return Err(None),
                        permit = room.clone().acquire_many_owned(bytes) => permit.map_err(|_| None)?,
                    };
                    queue(&mut seq, item, What::Block(block), Some(permit)).await?;
                }
            }
        }
        if part.last {
            splitter.finish().map_err(broken)?;
            splitter = Splitter::new();
            fresh = true;
        }
    }
}

/// A step of the restore. Jobs are numbered without gaps.
struct Job {
    seq: u64,
    item: usize,
    what: What,
    _room: Option<OwnedSemaphorePermit>,
}

enum What {
    Start,
    Note(Note),
    Block(Block),
    End { checksum: Option<u32>, size: Option<u64> },
}

/// What the workers share.
struct Line {
    queue: Mutex<mpsc::Receiver<Job>>,
    turn: Mutex<Turn>,
    moved: Condvar,
    /// For the feeding side, which does not wait on the condition.
    stopped: Notify,
}

struct Turn {
    /// The job whose turn it is.
    next: u64,
    /// Blocks of the base that are accounted for but not yet written.
    writing: usize,
    /// The end of the content so far, for frames with linked blocks.
    window: Vec<u8>,
    stop: Option<Stop>,
    stopped: bool,
}

impl Line {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reason is kept.
    fn stop(&self, reason: Option<Stop>) {
        let mut turn = self.turn();
        turn.stopped = true;
        if turn.stop.is_none() {
            turn.stop = reason;
        }
        drop(turn);
        self.moved.notify_all();
        self.stopped.notify_one();
    }

    /// Waits until `ready`; `None` if the work has stopped.
    fn wait(&self, ready: impl Fn(&Turn) -> bool) -> Option<MutexGuard<'_, Turn>> {
        let mut turn = self.turn();
        while !turn.stopped && !ready(&turn) {
            turn = self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        (!turn.stopped).then_some(turn)
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = queue.blocking_recv();
        if self.turn().stopped {
            // Whoever feeds must not wait for room that nobody makes any more.
            queue.close();
            return None;
        }
        job
    }
}

/// Stops the workers when the future is dropped, or when a worker panics.
struct StopOnDrop(Arc<Line>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

/// Runs the workers to the end of the queue.
fn work(line: &Line, items: &[Item], file: &File, dir: &Path) -> Result<Applied, Stop> {
    let applier = Mutex::new(Applier::new(items, file, dir));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let worker = || {
            // A worker that panics must not leave the others waiting for its turn.
            let alarm = PanicAlarm(line);
            while let Some(job) = line.next_job() {
                step(line, &applier, items, file, job);
            }
            drop(alarm);
        };
        for n in 1..cores.min(WORKERS) {
            let spawned =
                std::thread::Builder::new().name(format!("restore-{n}")).spawn_scoped(scope, worker);
            if let Err(e) = spawned {
                tracing::debug!(error = %e, "restoring with fewer threads");
                break;
            }
        }
        worker();
    });
    let stop = std::mem::take(&mut line.turn().stop);
    let stopped = line.turn().stopped;
    match (stop, stopped) {
        (Some(stop), _) => Err(stop),
        (None, true) => Err(Stop::Threads(std::io::Error::other("stopped"))),
        (None, false) => {
            let applier = applier.into_inner().unwrap_or_else(PoisonError::into_inner);
            applier.finish().map_err(|(name, e)| stop_at(name, e))
        }
    }
}

struct PanicAlarm<'a>(&'a Line);

impl Drop for PanicAlarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(None);
        }
    }
}

/// Does one job, and stops everything if it fails.
fn step(line: &Line, applier: &Mutex<Applier<'_>>, items: &[Item], file: &File, job: Job) {
    let name = items[job.item].name;
    if let Err(e) = try_step(line, applier, file, &name, job) {
        line.stop(Some(stop_at(name, e)));
    }
}

fn try_step(
    line: &Line,
    applier: &Mutex<Applier<'_>>,
    file: &File,
    name: &Name,
    job: Job,
) -> Result<(), ApplyError> {
    let Job { seq, item, what, _room } = job;
    let applier = || applier.lock().unwrap_or_else(PoisonError::into_inner);
    let base = matches!(name, Name::Snapshot { .. });
    match what {
        What::Start => {
            // WAL is applied over the base: all of it has to be in the file.
            let Some(mut turn) = line.wait(|t| t.next == seq && t.writing == 0) else { return Ok(()) };
            turn.window.clear();
            applier().start(item)?;
            advance(line, turn);
        }
        What::Note(note) => {
            let Some(turn) = line.wait(|t| t.next == seq) else { return Ok(()) };
            applier().note(note)?;
            advance(line, turn);
        }
        What::End { checksum, size } => {
            let Some(turn) = line.wait(|t| t.next == seq && t.writing == 0) else { return Ok(()) };
            applier().end(checksum, size)?;
            advance(line, turn);
        }
        What::Block(block) if block.is_linked() => {
            let Some(mut turn) = line.wait(|t| t.next == seq) else { return Ok(()) };
            let window = &mut turn.window;
            let keep = window.len().min(64 << 10);
            window.drain(..window.len() - keep);
            block.decode_linked(window).map_err(broken)?;
            let plain = &window[keep..];
            match base {
                true => {
                    let at = applier().base(plain);
                    file.write_all_at(plain, at).map_err(ApplyError::Io)?;
                }
                false => applier().segment(plain)?,
            }
            advance(line, turn);
        }
        What::Block(block) => PLAIN.with_borrow_mut(|plain| {
            if plain.len() < block.max() {
                plain.resize(block.max(), 0);
            }
            let len = block.decode_into(plain).map_err(broken)?;
            let plain = &plain[..len];
            let Some(mut turn) = line.wait(|t| t.next == seq) else { return Ok(()) };
            if !base {
                applier().segment(plain)?;
                advance(line, turn);
                return Ok(());
            }
            let at = applier().base(plain);
            turn.writing += 1;
            advance(line, turn);
            let written = file.write_all_at(plain, at).map_err(ApplyError::Io);
            // The disk works while the rest is decoded; the fsync at the end then finds little to do.
            durable::start_writing(file, at, len as u64);
            line.turn().writing -= 1;
            line.moved.notify_all();
            written
        })?,
    }
    Ok(())
}

thread_local! {
    /// A worker's decoded block: as large as the largest block the frame may hold.
    static PLAIN: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn advance(line: &Line, mut turn: MutexGuard<'_, Turn>) {
    turn.next += 1;
    drop(turn);
    line.moved.notify_all();
}

fn broken(e: crate::format::lz4::Error) -> ApplyError {
    ApplyError::Object(ObjectFault::Frame(e))
}

fn stop_at(name: Name, e: ApplyError) -> Stop {
    match e {
        ApplyError::Object(fault) => Stop::Object { name, fault },
        ApplyError::Io(e) => Stop::Io(e),
    }
}

/// Threads that decode; more of them would only hold more blocks.
const WORKERS: usize = 4;
/// Jobs waiting for a worker, and the stored bytes of those waiting or being decoded: two of the largest blocks.
const QUEUE_JOBS: usize = 64;
const QUEUE_BYTES: usize = 8 << 20;
