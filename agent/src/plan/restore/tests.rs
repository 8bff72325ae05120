//! Plans from listings written by hand.

use super::*;

fn wal(plan: &Plan) -> &WalChain {
    match &plan.chain {
        Chain::Wal(chain) => chain,
        Chain::Ltx(_) => unreachable!("there are no LTX files"),
    }
}

const A: Generation = Generation::new(0xa);
const B: Generation = Generation::new(0xb);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn index(i: u32) -> WalIndex {
    WalIndex::new(i).unwrap()
}

fn snapshot(generation: Generation, i: u32, second: i64) -> (String, u64, Timestamp) {
    (Name::Snapshot { generation, index: index(i) }.key(), 100, at(second))
}

fn segment(generation: Generation, i: u32, offset: u64, second: i64) -> (String, u64, Timestamp) {
    (Name::Segment { generation, index: index(i), offset }.key(), 10, at(second))
}

fn planned(objects: &[(String, u64, Timestamp)], generation: Option<Generation>, until: Until) -> String {
    let listing = Listing::new(objects.iter().rev().map(|(k, s, c)| (k, *s, *c)));
    match plan(&listing, Target { generation, until, level: None }) {
        Ok(plan) => {
            let segment = |i: &Item| match i.name {
                Name::Segment { index, offset, .. } => format!("{:x}_{offset}", index.get()),
                Name::Snapshot { .. } => unreachable!(),
            };
            let segments: Vec<_> = wal(&plan).segments.iter().map(segment).collect();
            let mut text = format!(
                "{:x}:{} {}",
                wal(&plan).generation.get(),
                wal(&plan).snapshot.name.index().get(),
                segments.join(" ")
            );
            for notice in plan.notices {
                text = format!("{}; {notice}", text.trim());
            }
            text.trim().to_owned()
        }
        Err(e) => format!("{e:?}"),
    }
}

fn history() -> Vec<(String, u64, Timestamp)> {
    vec![
        snapshot(A, 0, 1),
        segment(A, 0, 0, 2),
        segment(A, 0, 4152, 3),
        segment(A, 1, 0, 4),
        snapshot(A, 1, 5),
        segment(A, 1, 8272, 6),
        segment(A, 2, 0, 7),
    ]
}

#[test]
fn the_latest_state_is_the_highest_base_and_all_that_follows() {
    assert_eq!(planned(&history(), None, Until::Latest), "a:1 1_0 1_8272 2_0");
}

#[test]
fn a_time_stops_before_the_first_younger_object() {
    assert_eq!(planned(&history(), None, Until::Time(at(1))), "a:0");
    assert_eq!(planned(&history(), None, Until::Time(at(3))), "a:0 0_0 0_4152");
    assert_eq!(planned(&history(), None, Until::Time(at(4))), "a:0 0_0 0_4152 1_0");
    assert_eq!(planned(&history(), None, Until::Time(at(6))), "a:1 1_0 1_8272");
    let mut reordered = history();
    reordered[2].2 = at(9);
    assert_eq!(planned(&reordered, None, Until::Time(at(4))), "a:0 0_0", "what follows a hole is not used");
}

#[test]
fn a_time_after_the_last_object_restores_the_latest_and_says_so() {
    assert_eq!(
        planned(&history(), None, Until::Time(at(60))),
        "a:1 1_0 1_8272 2_0; nothing is as young as 1970-01-01T00:01:00Z: restoring the newest there is, of \
         1970-01-01T00:00:07Z"
    );
    assert!(planned(&history(), None, Until::Time(at(0))).starts_with("BeforeFirst"));
}

#[test]
fn an_index_stops_at_the_end_of_that_wal() {
    assert_eq!(planned(&history(), None, Until::Index(index(0))), "a:0 0_0 0_4152");
    assert_eq!(planned(&history(), None, Until::Index(index(1))), "a:1 1_0 1_8272");
    assert_eq!(
        planned(&history(), None, Until::Index(index(9))),
        "a:1 1_0 1_8272 2_0; there is no index 00000009 yet: restoring the newest there is, 00000002"
    );
    assert!(planned(&history()[3..], None, Until::Index(index(0))).starts_with("IndexBeforeFirst"));
}

#[test]
fn the_generation_that_reaches_furthest_is_taken() {
    let mut objects = history();
    objects.extend([snapshot(B, 0, 20), segment(B, 0, 0, 21)]);
    assert_eq!(planned(&objects, None, Until::Latest), "b:0 0_0");
    assert_eq!(planned(&objects, Some(A), Until::Latest), "a:1 1_0 1_8272 2_0");
    assert_eq!(planned(&objects, None, Until::Time(at(20))), "b:0");
    assert!(
        planned(&objects, None, Until::Time(at(19))).starts_with("a:1 1_0 1_8272 2_0; nothing is as young")
    );
    assert!(planned(&objects, Some(Generation::new(0xc)), Until::Latest).starts_with("NoSuchGeneration"));
}

#[test]
fn a_generation_without_a_base_is_passed_over_and_said_so() {
    let mut objects = history();
    objects.push(segment(B, 0, 0, 20));
    assert_eq!(
        planned(&objects, None, Until::Latest),
        "a:1 1_0 1_8272 2_0; passing over newer generation 000000000000000b: its first snapshot was never completed"
    );
    assert_eq!(planned(&objects, Some(B), Until::Latest), "NoSnapshot");
    assert_eq!(planned(&objects[1..4], None, Until::Latest), "NoSnapshot");
}

#[test]
fn every_missing_object_that_the_listing_can_show_is_named() {
    for (lost, names) in [(3, "1_0"), (1, "0_0")] {
        let mut objects = history();
        objects.remove(4);
        let lost = objects.remove(lost);
        let found = planned(&objects, None, Until::Latest);
        let listing = Listing::new(objects.iter().map(|(k, s, c)| (k, *s, *c)));
        let Err(Refusal::Gap { missing, .. }) = plan(&listing, Target::LATEST) else {
            panic!("{names}: {found}")
        };
        assert_eq!(missing.key(), lost.0);
    }
    let mut objects = history();
    objects.retain(|(k, ..)| !k.contains("/wal/00000001"));
    assert!(planned(&objects, None, Until::Latest).starts_with("Gap"), "a whole index");
    assert_eq!(planned(&objects, None, Until::Time(at(3))), "a:0 0_0 0_4152", "not needed for this target");
}

#[test]
fn a_base_newer_than_all_wal_stands_alone() {
    assert_eq!(
        planned(&[snapshot(A, 0, 1), segment(A, 0, 0, 2), snapshot(A, 5, 3)], None, Until::Latest),
        "a:5"
    );
}

#[test]
fn only_a_listing_without_any_data_is_empty() {
    let object = |key: &str| (key.to_owned(), 1, at(1));
    assert_eq!(planned(&[], None, Until::Latest), "Empty");
    let unfinished = "generations/000000000000000a/snapshots/00000000.snapshot.lz4.tmp";
    assert_eq!(planned(&[object(unfinished), object("lease.json")], None, Until::Latest), "Empty");
    assert!(planned(&[object("notes.txt")], None, Until::Latest).starts_with("Foreign"));
    assert!(planned(&[object("_marker.json")], None, Until::Latest).starts_with("Foreign"));
}

#[test]
fn a_plan_prints_on_one_line() {
    let objects = history();
    let listing = Listing::new(objects.iter().map(|(k, s, c)| (k, *s, *c)));
    let plan = plan(&listing, Target::LATEST).unwrap();
    assert_eq!(
        plan.to_string(),
        "generation 000000000000000a: snapshot 00000001 of 1970-01-01T00:00:05Z, WAL 00000001 to 00000002 in 3 \
         segments, 130 bytes, as of 1970-01-01T00:00:07Z"
    );
}
