//! What the simulator found, each as its shortest story.

use super::super::replica::{FaultKind, SEGMENT_BYTES, named};
use super::checkpoint::LULL_PACE;
use super::*;
use crate::format::wal::{Checksum, FrameHeader};

/// A machine with one replica, and what it is told.
struct Story {
    machine: Database,
    now: Duration,
}

const PAGE: u32 = 4096;

fn size() -> PageSize {
    PageSize::new(PAGE).unwrap()
}

fn end(frames: u64) -> u64 {
    size().offset_of(frames)
}

fn salt(n: u8) -> Salt {
    Salt([n; 8])
}

impl Story {
    fn new() -> Self {
        Self::with_index_bytes(1 << 40)
    }

    fn with_index_bytes(index_bytes: u64) -> Self {
        let policy = Policy {
            min_checkpoint_pages: 10_000,
            max_checkpoint_pages: 0,
            checkpoint_interval: Duration::ZERO,
            max_wal_bytes: 1 << 40,
            tail_bytes: 1 << 30,
            index_bytes,
        };
        let replica = ReplicaPolicy {
            sync_interval: Duration::ZERO,
            snapshot_interval: Duration::ZERO,
            retention: Duration::ZERO,
            retention_check_interval: Duration::ZERO,
            ltx: ltx::Policy::default(),
            validation_interval: Duration::ZERO,
        };
        Self { machine: Database::new(policy, vec![replica], 1), now: Duration::ZERO }
    }

    /// Tells it, and returns everything it then does.
    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.now += Duration::from_secs(60);
        self.machine.handle(self.now, event);
        std::iter::from_fn(|| self.machine.poll(self.now)).collect()
    }

    /// From here on a round is due whenever there are frames.
    fn eager(mut self) -> Self {
        self.machine.policy.min_checkpoint_pages = 1;
        self
    }

    fn look(&mut self, n: u8, frames: u32, backfilled: u32, pin: Pin) -> Vec<Action> {
        let marks = Marks { salt: salt(n), frames, backfilled };
        self.tell(Event::View(View { page_size: size(), marks, pin }))
    }

    fn inspected(&mut self, head: Option<Head>) -> Vec<Action> {
        self.tell(Event::Inspected { replica: 0, result: Ok(head) })
    }

    fn sent(&mut self, to: u64) -> Vec<Action> {
        let mut all = self.tell(Event::Read { replica: 0, to });
        all.extend(self.tell(Event::Segment { replica: 0, result: Ok(()) }));
        all
    }

    fn copied(&mut self) -> Vec<Action> {
        let mut all = self.tell(Event::SnapshotRead { replica: 0 });
        all.extend(self.tell(Event::Snapshot { replica: 0, result: Ok(WalIndex::ZERO) }));
        all
    }

    fn handed_over(&mut self, n: u8, frames: u32) -> Vec<Action> {
        let marks = Marks { salt: salt(n), frames, backfilled: frames };
        self.tell(Event::HandOver { outcome: Outcome::HandedOver(marks) })
    }

    /// A replica that follows the first `frames` frames, pinned at `mark`.
    fn following(frames: u32, mark: u32) -> Self {
        let mut story = Self::new();
        story.look(1, frames, 0, Pin::Mark(mark));
        story.inspected(None);
        story.sent(end(frames.into()));
        story.copied();
        assert_eq!(story.machine.acknowledged(0).map(|p| p.offset), Some(end(frames.into())));
        story
    }
}

/// A replica that ends with frame number `frames` of the WAL `n`.
fn head(n: u8, frames: u64) -> Head {
    let frame = FrameHeader { page: 1, commit: 1, salt: salt(n), checksum: Checksum::default() };
    Head {
        generation: Generation::new(7),
        index: WalIndex::ZERO,
        end: end(frames),
        salt: Some(salt(n)),
        last: Some(frame),
        local: Some(frame),
        snapshot: Some((WalIndex::ZERO, Duration::ZERO)),
    }
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, message: "put object: refused".into() }
}

fn segment(actions: &[Action]) -> SegmentJob {
    let job = actions.iter().find_map(|a| match a {
        Action::Segment { job, .. } => Some(*job),
        _ => None,
    });
    job.unwrap_or_else(|| panic!("no segment in {actions:?}"))
}

fn rounds(actions: &[Action]) -> Vec<Option<u64>> {
    actions
        .iter()
        .filter_map(|a| match a {
            Action::HandOver { from, .. } => Some(from.map(|f| f.offset)),
            _ => None,
        })
        .collect()
}

fn looks(actions: &[Action]) -> bool {
    actions.iter().any(|a| matches!(a, Action::Inspect { .. }))
}

fn copies(actions: &[Action]) -> bool {
    actions.iter().any(|a| matches!(a, Action::Snapshot { .. }))
}

fn reasons(actions: &[Action]) -> Vec<Broken> {
    let reason = |a: &Action| match a {
        Action::Began { reason, .. } => Some(*reason),
        _ => None,
    };
    actions.iter().filter_map(reason).collect()
}

#[test]
fn a_replica_known_only_after_a_hand_over_gets_a_round_of_its_own() {
    let mut story = Story::new();
    let at_once = story.look(1, 20, 20, Pin::Zero);
    assert_eq!(rounds(&at_once), [None], "nobody is known to need anything");
    story.handed_over(1, 20);
    let known = story.inspected(Some(head(1, 5)));
    assert_eq!(segment(&known).from, end(5));
    let read = story.tell(Event::Read { replica: 0, to: end(20) });
    assert_eq!(rounds(&read), [Some(end(5))], "what it lacks has to be held before the WAL restarts");
}

#[test]
fn a_replica_known_only_after_a_hand_over_begins_anew_when_the_wal_restarts_first() {
    let mut story = Story::new();
    story.look(1, 20, 20, Pin::Zero);
    story.handed_over(1, 20);
    // Both before anything else is decided.
    story.machine.handle(story.now, Event::Inspected { replica: 0, result: Ok(Some(head(1, 5))) });
    let restarted = story.look(2, 1, 0, Pin::Zero);
    assert_eq!(reasons(&restarted), [Broken::WalRestarted], "nobody holds frames 5 to 20");
}

#[test]
fn a_replica_that_has_everything_goes_on_after_a_restart() {
    let mut story = Story::following(20, 20).eager();
    assert_eq!(rounds(&story.look(1, 20, 0, Pin::Mark(20))), [Some(end(20))]);
    story.handed_over(1, 20);
    let restarted = story.look(2, 3, 0, Pin::Zero);
    let job = segment(&restarted);
    assert_eq!((job.index.get(), job.from, job.to), (1, 0, end(3)));
}

#[test]
fn the_base_of_a_new_generation_reaches_what_the_old_one_acknowledged() {
    let mut story = Story::following(8, 2);
    story.look(1, 9, 0, Pin::Mark(2));
    story.tell(Event::Read { replica: 0, to: end(9) });
    let anew = story.tell(Event::Segment { replica: 0, result: Err(fault(FaultKind::Diverged)) });
    assert_eq!(reasons(&anew), [Broken::Diverged]);
    assert_eq!(segment(&anew).to, end(9), "not only the two frames that the file may hold");
    assert!(!copies(&story.tell(Event::Read { replica: 0, to: end(4) })));
    assert!(!copies(&story.tell(Event::Segment { replica: 0, result: Ok(()) })), "frame 8 is acknowledged");
    assert!(copies(&story.sent(end(9))));
}

#[test]
fn a_repetition_that_could_not_even_be_read_is_still_repeated_exactly() {
    let mut story = Story::following(5, 5);
    assert_eq!(segment(&story.look(1, 7, 0, Pin::Mark(5))).to, end(7));
    story.tell(Event::Read { replica: 0, to: end(7) });
    story.tell(Event::Segment { replica: 0, result: Err(fault(FaultKind::Retry)) });
    let again = story.look(1, 9, 0, Pin::Mark(5));
    assert!(segment(&again).exact && segment(&again).to == end(7));
    story.tell(Event::Segment { replica: 0, result: Err(fault(FaultKind::Local)) });
    let third = segment(&story.look(1, 9, 0, Pin::Mark(5)));
    assert!(third.exact && third.to == end(7), "the first may lie there: {third:?}");
}

#[test]
fn a_copy_being_read_for_an_abandoned_generation_still_holds_the_pin() {
    let mut story = Story::new();
    story.look(1, 20, 0, Pin::Mark(20));
    story.inspected(None);
    assert!(copies(&story.sent(end(20))));
    let mut story = story.eager();
    assert_eq!(rounds(&story.look(2, 20, 0, Pin::Mark(20))), [], "the old generation is given up");
    assert_eq!(rounds(&story.tell(Event::SnapshotRead { replica: 0 })), [None]);
}

#[test]
fn after_a_round_without_end_a_base_waits_for_the_wal_up_to_the_new_mark() {
    let mut story = Story::new().eager();
    story.look(1, 20, 0, Pin::Mark(3));
    story.inspected(None);
    let read = story.tell(Event::Read { replica: 0, to: end(20) });
    assert_eq!(rounds(&read), [Some(0)]);
    let marks = Marks { salt: salt(1), frames: 30, backfilled: 3 };
    story.tell(Event::HandOver { outcome: Outcome::NotYet(marks) });
    let sent = story.tell(Event::Segment { replica: 0, result: Ok(()) });
    assert!(!copies(&sent), "the file may hold frame 30, the replica holds 20");
}

#[test]
fn a_new_generation_after_a_hand_over_needs_nothing_of_the_old_wal() {
    let mut story = Story::following(20, 20).eager();
    story.look(1, 20, 0, Pin::Mark(20));
    story.handed_over(1, 20);
    story.machine.replicas[0].break_off(Broken::Diverged);
    let all = story.look(1, 20, 20, Pin::Zero);
    assert!(copies(&all), "{all:?}");
    story.copied();
    let restarted = segment(&story.look(2, 2, 0, Pin::Zero));
    assert_eq!((restarted.index, restarted.from), (WalIndex::ZERO, 0), "index 0 has no segment yet");
}

#[test]
fn a_replica_that_fell_behind_looks_again_before_it_begins_anew() {
    let mut story = Story::following(20, 20);
    story.machine.replicas[0].break_off(Broken::FellBehind);
    let looked = story.look(1, 30, 0, Pin::Mark(20));
    assert!(matches!(looked[..], [Action::Inspect { .. }, ..]), "{looked:?}");
    assert_eq!(segment(&story.inspected(Some(head(1, 20)))).from, end(20), "the WAL still has it all");
}

#[test]
fn a_replica_that_fell_behind_is_looked_at_once_nothing_can_arrive_behind_the_looks_back() {
    let mut story = Story::following(20, 20);
    segment(&story.look(1, 30, 0, Pin::Mark(20)));
    story.tell(Event::Read { replica: 0, to: end(30) });
    story.machine.replicas[0].break_off(Broken::FellBehind);
    assert!(!looks(&story.look(1, 40, 0, Pin::Mark(20))), "the segment may arrive yet, and takes its name");
    assert!(looks(&story.tell(Event::Segment { replica: 0, result: Ok(()) })));
    assert_eq!(segment(&story.inspected(Some(head(1, 30)))).from, end(30));
}

#[test]
fn an_index_begins_inside_the_wal_only_between_transactions() {
    let most = SEGMENT_BYTES / size().frame_len();
    let mut story = Story::with_index_bytes(end(most));
    story.look(1, 5000, 0, Pin::Mark(5000));
    assert_eq!(segment(&story.inspected(None)).from, 0);
    let cut = story.sent(end(most));
    assert_eq!(reasons(&cut), [], "a full segment may have been cut inside a transaction");
    assert_eq!((segment(&cut).index.get(), segment(&cut).base), (0, 0));
    let whole = segment(&story.sent(end(most + 10)));
    assert_eq!((whole.index.get(), whole.base), (1, end(most + 10)), "a short one ends with a commit");
}

#[test]
fn a_transaction_that_no_index_can_hold_waits_for_the_database_file() {
    let most = SEGMENT_BYTES / size().frame_len();
    let mut story = Story::with_index_bytes(end(most));
    story.look(1, 5000, 0, Pin::Mark(5000));
    story.inspected(None);
    story.sent(end(most));
    let given_up = story.sent(end(2 * most));
    assert_eq!((reasons(&given_up), rounds(&given_up)), (vec![], vec![None]));
    let handed_over = story.handed_over(1, 5000);
    assert_eq!(reasons(&handed_over), [Broken::TooLong]);
    assert!(copies(&handed_over), "the file holds it all");
}

#[test]
fn a_split_index_is_counted_from_its_own_header() {
    let base = end(100);
    assert_eq!(named(base, base), 0, "the first segment brings the header along");
    assert_eq!(named(base, end(101)), end(1));
    assert_eq!([0, 32, end(5)].map(|o| named(0, o)), [0, 32, end(5)]);
}

#[test]
fn wake_at_lies_ahead_when_the_round_that_was_refused_is_due_again() {
    let mut story = Story::following(20, 20).eager();
    assert_eq!(rounds(&story.look(1, 20, 3, Pin::Mark(20))).len(), 1);
    let marks = Marks { salt: salt(1), frames: 20, backfilled: 3 };
    story.tell(Event::HandOver { outcome: Outcome::NotYet(marks) });
    let wake = story.machine.wake_at().expect("a round is due");
    assert!(wake > story.now && wake <= story.now + Duration::from_millis(500), "{wake:?}");
}

#[test]
fn a_writer_that_pauses_gets_its_round_however_often_rounds_have_failed_before() {
    let mut story = Story::following(20, 20).eager();
    let refused = |story: &mut Story, frames| {
        let marks = Marks { salt: salt(1), frames, backfilled: 3 };
        story.tell(Event::HandOver { outcome: Outcome::NotYet(marks) });
    };
    for frames in 21..40 {
        let mut done = story.look(1, frames, 3, Pin::Mark(20));
        done.extend(story.sent(end(frames.into())));
        assert_eq!(rounds(&done).len(), 1);
        refused(&mut story, frames);
    }
    // The next one is half a minute away, but for the lull.
    let after = |story: &Story| story.machine.wake_at().expect("a round is due") - story.now;
    assert_eq!(after(&story), LULL_PACE);
    story.now += LULL_PACE;
    let again: Vec<_> = std::iter::from_fn(|| story.machine.poll(story.now)).collect();
    assert_eq!(rounds(&again).len(), 1);
    let due = story.machine.checkpoint.not_before;
    // It was no pause of the writer's that was missing: one round is enough to know that, and delays none.
    let marks = Marks { salt: salt(1), frames: 39, backfilled: 3 };
    story.machine.handle(story.now, Event::HandOver { outcome: Outcome::NotYet(marks) });
    assert!(after(&story) > Duration::from_secs(10), "{:?}", after(&story));
    assert_eq!(story.machine.checkpoint.not_before, due);
}

#[test]
fn a_stop_that_loses_the_database_aims_at_what_it_finds_then() {
    let mut story = Story::following(20, 20);
    story.tell(Event::Stop);
    story.look(1, 20, 0, Pin::Mark(20));
    assert!(story.machine.at_rest());
    story.tell(Event::SourceLost);
    story.look(1, 30, 0, Pin::Mark(30));
    assert!(!story.machine.at_rest(), "it may be another database, of which nothing is replicated");
}
