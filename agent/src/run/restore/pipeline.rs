//! From stored objects to the restored file, on every core and in bounded memory.
//!
//! ```text
//! fetch (async, ahead) ─▶ cut into steps ─▶ queue ─▶ decode on any worker ─▶ in turn: checksums, order
//!                                                                        └▶ out of turn: write what has its place
//! ```
//! What the steps are is the layout's: see [`super::wal`] and [`super::ltx`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::apply::{Applied, ApplyError, ObjectFault};
use super::fetch::{self, Missed};
use super::line::{Job, Line, PanicAlarm, StopOnDrop};
use crate::store::{Store, StoreError};

/// Why the pipeline stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// This object does not restore.
    Object { key: String, fault: ObjectFault },
    /// This object cannot be had.
    Store { key: String, error: StoreError },
    /// The result cannot be written.
    Io(std::io::Error),
    /// No thread to be had.
    Threads(std::io::Error),
}

/// Cuts the stored bytes of one object after the other into steps.
pub(super) trait Cut {
    type Step: Send + 'static;

    /// The next object begins.
    fn start(&mut self) -> Option<Self::Step>;
    fn feed(&mut self, stored: Bytes);
    /// The next step in what was fed, with the stored bytes it keeps; `None` to be fed more.
    fn next(&mut self) -> Result<Option<(Self::Step, usize)>, ObjectFault>;
    /// The object has no more bytes.
    fn finish(&mut self) -> Result<(), ObjectFault>;
}

/// Does the steps, on several threads at a time.
pub(super) trait Apply: Send + Sync + 'static {
    type Step: Send + 'static;

    /// Does step number `seq`, which is about object `item`: what can be done alone first, then what has to wait for
    /// its turn. Returns when `line` has stopped, too.
    fn step(
        &self,
        line: &Line<Self::Step>,
        seq: u64,
        item: usize,
        step: Self::Step,
    ) -> Result<(), ApplyError>;

    /// Every step is done. An error comes with the object at fault.
    fn finish(self) -> Result<Applied, (usize, ApplyError)>;
}

/// Brings `objects`, keys with their stored bytes, through `cutter` to `applier`. `done` counts stored bytes.
///
/// Safe to drop: the workers stop at their next step.
pub(super) async fn run<C: Cut, A: Apply<Step = C::Step>>(
    store: &Store,
    objects: Arc<[(String, u64)]>,
    cutter: C,
    applier: A,
    parallelism: usize,
    done: &AtomicU64,
) -> Result<Applied, Stop> {
    let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
    let line = Arc::new(Line::new(queue));
    let mut queue = Queue { jobs, seq: 0 };
    let guard = StopOnDrop(line.clone());
    let workers = {
        let (line, objects) = (line.clone(), objects.clone());
        tokio::task::spawn_blocking(move || work(&line, &objects, applier))
    };
    let fed = feed(store, &objects, cutter, parallelism, &mut queue, &line, done).await;
    if fed.is_err() {
        // Before the queue ends: to the workers its end says that everything was in it.
        line.stop(None);
    }
    drop(queue);
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

/// Fetches, cuts and queues. `Err(None)`: the workers have stopped and know why.
async fn feed<C: Cut>(
    store: &Store,
    objects: &[(String, u64)],
    mut cutter: C,
    parallelism: usize,
    queue: &mut Queue<C::Step>,
    line: &Line<C::Step>,
    done: &AtomicU64,
) -> Result<(), Option<Stop>> {
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    let mut parts = std::pin::pin!(fetch::parts(store, objects, parallelism));
    let mut fresh = true;
    loop {
        let part = tokio::select! {
            biased;
            () = line.stopped() => return Err(None),
            part = parts.next() => part,
        };
        let Some(part) = part else { return Ok(()) };
        let part =
            part.map_err(|Missed { item, error }| Some(Stop::Store { key: objects[item].0.clone(), error }))?;
        let item = part.item;
        let broken = |fault| Some(Stop::Object { key: objects[item].0.clone(), fault });
        if std::mem::take(&mut fresh)
            && let Some(step) = cutter.start()
        {
            queue.push(item, step, None).await?;
        }
        done.fetch_add(part.bytes.len() as u64, Ordering::Relaxed);
        cutter.feed(part.bytes);
        while let Some((step, bytes)) = cutter.next().map_err(broken)? {
            let permit = match u32::try_from(bytes).unwrap_or(u32::MAX) {
                0 => None,
                bytes => Some(tokio::select! {
                    biased;
                    () = line.stopped() => return Err(None),
                    permit = room.clone().acquire_many_owned(bytes) => permit.map_err(|_| None)?,
                }),
            };
            queue.push(item, step, permit).await?;
        }
        if part.last {
            cutter.finish().map_err(broken)?;
            fresh = true;
        }
    }
}

/// Numbers the jobs.
struct Queue<S> {
    jobs: mpsc::Sender<Job<S>>,
    seq: u64,
}

impl<S> Queue<S> {
    async fn push(
        &mut self,
        item: usize,
        step: S,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Option<Stop>> {
        let seq = self.seq;
        self.seq += 1;
        self.jobs.send(Job { seq, item, step, room }).await.map_err(|_| None)
    }
}

/// Runs the workers to the end of the queue.
fn work<A: Apply>(line: &Line<A::Step>, objects: &[(String, u64)], applier: A) -> Result<Applied, Stop> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let worker = || {
            let alarm = PanicAlarm(line);
            while let Some(Job { seq, item, step, room }) = line.next_job() {
                if let Err(e) = applier.step(line, seq, item, step) {
                    line.stop(Some(stop_at(&objects[item].0, e)));
                }
                drop(room);
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
    match line.why() {
        Some(stop) => Err(stop),
        None => applier.finish().map_err(|(item, e)| stop_at(&objects[item].0, e)),
    }
}

fn stop_at(key: &str, e: ApplyError) -> Stop {
    match e {
        ApplyError::Object(fault) => Stop::Object { key: key.to_owned(), fault },
        ApplyError::Io(e) => Stop::Io(e),
    }
}

/// Threads that decode; more of them would only hold more blocks.
const WORKERS: usize = 4;
/// Jobs waiting for a worker, and the stored bytes of those waiting or being decoded: two of the largest blocks.
const QUEUE_JOBS: usize = 64;
const QUEUE_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a step of each part, and finds every object broken at its end.
    struct Broken(bool);

    impl Cut for Broken {
        type Step = ();

        fn start(&mut self) -> Option<()> {
            None
        }

        fn feed(&mut self, _: Bytes) {
            self.0 = true;
        }

        fn next(&mut self) -> Result<Option<((), usize)>, ObjectFault> {
            Ok(std::mem::take(&mut self.0).then_some(((), 0)))
        }

        fn finish(&mut self) -> Result<(), ObjectFault> {
            Err(ObjectFault::Short { found: 1, expected: 2 })
        }
    }

    struct Nothing;

    impl Apply for Nothing {
        type Step = ();

        fn step(&self, line: &Line<()>, seq: u64, _: usize, (): ()) -> Result<(), ApplyError> {
            line.wait(seq).into_iter().for_each(|turn| line.advance(turn));
            Ok(())
        }

        fn finish(self) -> Result<Applied, (usize, ApplyError)> {
            Err((0, ApplyError::Io(std::io::Error::other("looked at what was not all there"))))
        }
    }

    #[tokio::test]
    async fn an_object_that_breaks_off_is_what_is_wrong_and_not_what_it_leaves_undone() {
        let store = Store::in_memory();
        store.put("a", Bytes::from_static(b"a")).await.unwrap();
        for _ in 0..2000 {
            let (objects, done) = (Arc::from([("a".to_owned(), 1)]), AtomicU64::new(0));
            let stop = run(&store, objects, Broken(false), Nothing, 1, &done).await.unwrap_err();
            assert!(matches!(&stop, Stop::Object { key, .. } if key == "a"), "{stop:?}");
        }
    }
}
