//! The machine of one replica of LTX files, inside that of its database, told short stories.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::format::ltx::Level;
use crate::format::wal::Checksum;
use crate::plan::database::{Action, Database, Event, Pin, Policy as Pace, ReplicaPolicy, View};
use crate::plan::handover::Marks;
use crate::plan::ltx::Policy;
use crate::plan::replica::FaultKind;

const PAGE: u32 = 4096;
const COMMIT: u32 = 9;

struct Story {
    machine: Database,
    now: Duration,
}

impl Story {
    fn new() -> Self {
        let pace = Pace {
            min_checkpoint_pages: 10_000,
            max_checkpoint_pages: 0,
            checkpoint_interval: Duration::ZERO,
            max_wal_bytes: 1 << 40,
            tail_bytes: 1 << 30,
            index_bytes: 1 << 40,
        };
        let replica = ReplicaPolicy {
            sync_interval: Duration::ZERO,
            snapshot_interval: Duration::ZERO,
            retention: Duration::ZERO,
            retention_check_interval: Duration::ZERO,
            validation_interval: Duration::ZERO,
            ltx: Policy::default(),
        };
        Self { machine: Database::new(pace, vec![replica], 1), now: Duration::ZERO }
    }

    /// Tells it, and returns everything it then does.
    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.now += Duration::from_secs(60);
        self.machine.handle(self.now, Event::Wall(at(self.now.as_secs())));
        self.machine.handle(self.now, event);
        std::iter::from_fn(|| self.machine.poll(self.now)).collect()
    }

    /// Looks at a WAL with this salt.
    fn look(&mut self, n: u8, frames: u32, pin: Pin) -> Vec<Action> {
        let marks = Marks { salt: Salt([n; 8]), frames, backfilled: 0 };
        self.tell(Event::View(View { page_size: size(), marks, pin }))
    }

    fn inspected(&mut self, files: &[(u8, u64, u64)], last: Option<Last>) -> Vec<Action> {
        let files = files.iter().map(|&(level, min, max)| file(level, min, max)).collect();
        self.tell(Event::LtxInspected { replica: 0, result: Ok(Head { files, last }) })
    }

    fn done(&mut self, done: Done) -> Vec<Action> {
        self.tell(Event::LtxDone { replica: 0, done })
    }

    /// One that follows `frames` frames, its base and its snapshot being there.
    fn following(frames: u32) -> Self {
        let mut story = Self::new();
        story.look(1, frames, Pin::Mark(frames));
        let base = copy(&story.inspected(&[], None));
        story.tell(Event::SnapshotRead { replica: 0 });
        let snapshot = copy(&story.done(Done::Copy(Ok(shipped(base.name)))));
        story.tell(Event::SnapshotRead { replica: 0 });
        let next = story.done(Done::Copy(Ok(shipped(snapshot.name))));
        assert_eq!((snapshot.name.level, next), (Level::SNAPSHOT, Vec::new()));
        story
    }
}

fn size() -> PageSize {
    PageSize::new(PAGE).unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second as i64).unwrap()
}

fn end(frames: u64) -> u64 {
    size().offset_of(frames)
}

fn name(level: u8, min: u64, max: u64) -> Name {
    Name { level: Level::new(level).unwrap(), min: Txid::new(min).unwrap(), max: Txid::new(max).unwrap() }
}

fn file(level: u8, min: u64, max: u64) -> File {
    File { name: name(level, min, max), created: at(max), size: 200 }
}

fn shipped(name: Name) -> Shipped {
    Shipped { file: File { name, created: at(0), size: 200 }, commit: COMMIT }
}

/// The newest upload, of the first `frames` frames of the WAL `n`, which are there.
fn last(txid: u64, n: u8, frames: u64) -> Last {
    let salt = Salt([n; 8]);
    Last {
        name: name(0, txid, txid),
        page_size: size(),
        commit: COMMIT,
        stamp: at(0),
        wal: Range { offset: 32, size: end(frames) - 32, salt },
        local: Some(FrameHeader { page: 1, commit: COMMIT, salt, checksum: Checksum::default() }),
        same: true,
    }
}

/// The full copy that was asked for, alone or with the word that it begins anew.
fn copy(actions: &[Action]) -> CopyJob {
    match actions {
        [.., Action::Ltx { work: Work::Copy(job), .. }] => *job,
        other => panic!("{other:?}"),
    }
}

fn batch(actions: &[Action]) -> BatchJob {
    match actions {
        [.., Action::Ltx { work: Work::Batch(job), .. }] => *job,
        other => panic!("{other:?}"),
    }
}

fn retry() -> Fault {
    Fault { kind: FaultKind::Retry, message: "put: unavailable".into() }
}

#[test]
fn an_empty_replica_begins_with_a_full_copy_and_its_snapshot_and_then_gets_what_is_committed() {
    let mut story = Story::following(3);
    let job = batch(&story.look(1, 5, Pin::Mark(3)));
    assert_eq!((job.txid, job.from, job.to, job.before), (Txid::new(2).unwrap(), end(3), end(5), COMMIT));
    assert_eq!(story.machine.position(0).unwrap().to_string(), "0000000000000001");
    story.tell(Event::Read { replica: 0, to: end(5) });
    story.done(Done::Batch(Ok(shipped(name(0, 2, 2)))));
    assert_eq!(story.machine.position(0).unwrap().to_string(), "0000000000000002");
    assert_eq!(story.machine.lag_bytes(0), 0);
}

#[test]
fn a_proof_lets_it_go_on_without_a_copy() {
    let mut story = Story::new();
    story.look(1, 5, Pin::Mark(5));
    let job = batch(&story.inspected(&[(0, 7, 7), (9, 1, 7)], Some(last(7, 1, 3))));
    assert_eq!((job.txid.get(), job.from, job.to), (8, end(3), end(5)));
}

#[test]
fn numbers_go_on_after_the_highest_of_any_level() {
    for (held, next) in [(&[(9u8, 1u64, 41u64)][..], 42), (&[(0, 7, 7), (2, 2, 90)][..], 91)] {
        let mut story = Story::new();
        story.look(1, 5, Pin::Mark(5));
        let newest = held.iter().find(|f| f.0 == 0).map(|f| last(f.1, 1, 3));
        assert_eq!(copy(&story.inspected(held, newest)).name, name(0, next, next), "after {held:?}");
    }
}

#[test]
fn an_empty_wal_proves_nothing() {
    let mut story = Story::new();
    // A copy that was made beside no WAL; since then one came and went.
    let upload =
        Last { wal: Range { offset: 32, size: 0, salt: Salt([0; 8]) }, local: None, ..last(3, 0, 0) };
    story.look(0, 0, Pin::Zero);
    assert_eq!(copy(&story.inspected(&[(0, 3, 3)], Some(upload))).name, name(0, 4, 4));
}

#[test]
fn what_the_wal_contradicts_is_no_proof() {
    let other_salt = last(3, 2, 3);
    let longer = last(3, 1, 6);
    let overwritten = Last { same: false, ..last(3, 1, 3) };
    let other_size = Last { commit: COMMIT + 1, ..last(3, 1, 3) };
    for wrong in [other_salt, longer, overwritten, other_size] {
        let mut story = Story::new();
        story.look(1, 5, Pin::Mark(5));
        let job = copy(&story.inspected(&[(0, 3, 3)], Some(wrong)));
        assert_eq!((job.name, job.at, job.in_wal), (name(0, 4, 4), end(5), true), "{wrong:?}");
    }
}

#[test]
fn a_batch_that_failed_is_repeated_with_its_number_its_bounds_and_its_date() {
    let mut story = Story::following(3);
    let first = batch(&story.look(1, 5, Pin::Mark(3)));
    story.tell(Event::Read { replica: 0, to: end(4) });
    story.done(Done::Batch(Err(retry())));
    // More is committed meanwhile: it has to wait.
    let again = batch(&story.look(1, 9, Pin::Mark(3)));
    assert_eq!(again, BatchJob { to: end(4), exact: true, ..first });
}

#[test]
fn of_a_number_that_is_taken_the_replica_is_looked_at_again() {
    let mut story = Story::following(3);
    batch(&story.look(1, 5, Pin::Mark(3)));
    story.tell(Event::Read { replica: 0, to: end(5) });
    let taken = Fault { kind: FaultKind::Diverged, message: "exists".into() };
    story.done(Done::Batch(Err(taken)));
    assert_eq!(story.look(1, 5, Pin::Mark(3)), [Action::Inspect { replica: 0 }]);
    // It is ours, of an attempt whose answer was lost: nothing begins anew.
    let next = batch(&{
        story.inspected(&[(0, 1, 1), (0, 2, 2), (9, 1, 1)], Some(last(2, 1, 5)));
        story.look(1, 6, Pin::Mark(3))
    });
    assert_eq!((next.txid.get(), next.from), (3, end(5)));
}

#[test]
fn no_base_is_read_while_the_pin_may_be_past_the_last_look() {
    let mut story = Story::new();
    story.look(1, 3, Pin::Mark(3));
    story.tell(Event::SourceLost);
    story.look(1, 3, Pin::Mark(5));
    assert_eq!(story.inspected(&[], None), [], "the file may hold frames 4 and 5");
    assert_eq!(copy(&story.look(1, 5, Pin::Mark(5))).at, end(5));
}

#[test]
fn a_wal_that_restarted_behind_the_pin_is_healed_by_a_full_copy_with_the_next_number() {
    let mut story = Story::following(3);
    let job = copy(&story.look(2, 1, Pin::Mark(1)));
    assert_eq!((job.name, job.at), (name(0, 2, 2), end(1)));
}

#[test]
fn after_a_change_of_the_page_size_a_snapshot_follows_the_full_copy_at_once() {
    let mut story = Story::new();
    story.look(1, 5, Pin::Mark(5));
    let old = Last { page_size: PageSize::new(512).unwrap(), ..last(3, 1, 3) };
    let base = copy(&story.inspected(&[(0, 3, 3), (9, 1, 2)], Some(old)));
    assert_eq!((base.name, base.page_size), (name(0, 4, 4), size()));
    story.tell(Event::SnapshotRead { replica: 0 });
    assert_eq!(copy(&story.done(Done::Copy(Ok(shipped(base.name))))).name, name(9, 1, 4));
}

#[test]
fn a_snapshot_that_is_due_does_not_wait_for_a_writer_to_pause() {
    let mut story = Story::new();
    story.look(1, 5, Pin::Mark(3));
    let actions = story.inspected(&[(0, 1, 1), (0, 2, 2)], Some(last(2, 1, 3)));
    let [first, rest @ ..] = &actions[..] else { panic!("{actions:?}") };
    let snapshot = copy(std::slice::from_ref(first));
    assert_eq!((snapshot.name, snapshot.at), (name(9, 1, 2), end(3)));
    assert_eq!((batch(rest).txid.get(), batch(rest).from), (3, end(3)), "and that goes on beside it");
}
