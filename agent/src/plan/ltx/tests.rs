//! The promise, over random histories: whatever was merged and deleted, each promised state still restores, and to the
//! very pages it had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::compact::{self, division_ends};
use super::files::{File, Files};
use super::points::restore_points;
use super::upkeep::{Chore, Upkeep};
use super::{Policy, retain};
use crate::format::ltx::{Level, Name, Txid};

fn policy() -> Policy {
    let seconds = |s: &[u64]| s.iter().map(|s| Duration::from_secs(*s)).collect();
    Policy {
        levels: seconds(&[30, 300, 3600]),
        snapshot_interval: Duration::from_secs(86_400),
        snapshot_retention: Duration::from_secs(86_400),
        l0_retention: Duration::from_secs(300),
        check_interval: Duration::from_secs(15),
        deletes: true,
        foreign: false,
        hold: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn name(level: u8, min: u64, max: u64) -> Name {
    Name { level: Level::new(level).unwrap(), min: Txid::new(min).unwrap(), max: Txid::new(max).unwrap() }
}

fn file(level: u8, min: u64, max: u64, seconds: i64) -> File {
    File { name: name(level, min, max), created: at(seconds), size: 200 }
}

fn files(all: &[(u8, u64, u64, i64)]) -> Files {
    all.iter().map(|&(level, min, max, seconds)| file(level, min, max, seconds)).collect()
}

fn ends(files: &Files) -> Vec<u64> {
    restore_points(files).iter().map(|p| p.txid.get()).collect()
}

#[test]
fn a_merge_is_due_at_a_multiple_of_its_interval_and_holds_one_interval() {
    // 1_800_000_000 is a multiple of 30 s.
    let all =
        files(&[(9, 1, 1, -5), (0, 1, 1, -5), (0, 2, 2, 1), (0, 3, 3, 29), (0, 4, 4, 30), (0, 5, 5, 31)]);
    assert_eq!(compact::next(&all, &policy(), at(29)), None);
    assert_eq!(compact::due_at(&all, &policy()), Some(at(30)));
    let first = compact::next(&all, &policy(), at(3000)).unwrap();
    assert_eq!((first.output, first.inputs.len()), (name(1, 2, 3), 2), "the base is not written again");
}

#[test]
fn a_database_at_rest_is_merged_once_per_level_and_never_looked_at_again() {
    let mut upkeep = Upkeep::new(policy(), files(&[(9, 1, 1, 0), (0, 1, 1, 0), (0, 2, 2, 1), (0, 3, 3, 2)]));
    let mut did = Vec::new();
    while let Some(due) = upkeep.due_at(Txid::new(3).unwrap()).filter(|due| *due < at(50_000)) {
        match upkeep.next(due).unwrap() {
            Chore::Compact(c) => {
                did.push(c.output.to_string());
                upkeep.put(File { name: c.output, created: due, size: 1 });
            }
            Chore::Delete(names) => {
                did.extend(names.iter().map(|n| format!("delete {n}")));
                upkeep.deleted(&names);
            }
        }
    }
    let merged = "0000000000000002-0000000000000003";
    assert_eq!(
        did,
        [
            format!("level 1 {merged}"),
            format!("level 2 {merged}"),
            "delete level 0 0000000000000002-0000000000000002".into(),
            format!("level 3 {merged}"),
        ],
        "the newest upload stays, and so does the only base"
    );
    assert!(!upkeep.wants_snapshot(at(50_000), Txid::new(2).unwrap().min(Txid::ONE)));
    assert!(
        upkeep.wants_snapshot(at(86_400), Txid::new(3).unwrap()),
        "a day later, for what came after the last"
    );
}

#[test]
fn a_merge_stops_before_a_gap_and_leaves_out_what_adds_nothing() {
    let all = files(&[(0, 1, 1, 0), (0, 2, 4, 1), (0, 3, 3, 1), (0, 4, 6, 1), (0, 8, 8, 2)]);
    let c = compact::next(&all, &policy(), at(30)).unwrap();
    let inputs: Vec<_> = c.inputs.iter().map(|f| f.name.max.get()).collect();
    assert_eq!((c.output, inputs), (name(1, 1, 6), vec![1, 4, 6]));
}

#[test]
fn a_merge_of_the_future_does_not_wait_for_it() {
    let all = files(&[(9, 1, 1, 0), (0, 2, 2, 900_000), (0, 3, 3, 900_000)]);
    assert_eq!(compact::next(&all, &policy(), at(5)).unwrap().output, name(1, 2, 3));
}

#[test]
fn an_upload_goes_with_all_of_its_merge_or_not_at_all() {
    let all = [(9, 1, 1, -900), (0, 2, 2, 1), (0, 3, 3, 2), (0, 4, 4, 31), (0, 5, 5, 61)];
    let merged = [(1, 2, 3, 2), (1, 4, 4, 31)];
    let all = files(&[&all[..], &merged[..]].concat());
    assert_eq!(retain::due_at(&all, &policy()), Some(at(302)));
    assert!(retain::expired(&all, &policy(), at(301)).is_empty(), "2 is old, 3 needs it");
    assert_eq!(retain::expired(&all, &policy(), at(302)), [name(0, 2, 2), name(0, 3, 3)]);
    assert_eq!(retain::expired(&all, &policy(), at(900)).len(), 3, "5 is not merged");
}

#[test]
fn the_base_of_the_oldest_promised_state_stays_until_a_younger_one_is_past_the_cutoff() {
    let day = 86_400;
    let all = files(&[
        (9, 1, 1, 0),
        (9, 1, 50, day),
        (9, 1, 90, 2 * day),
        (3, 2, 40, day - 100),
        (3, 41, 60, day + 100),
        (3, 61, 95, 2 * day + 100),
        (0, 95, 95, 2 * day + 100),
    ]);
    assert!(retain::expired(&all, &policy(), at(2 * day - 1)).is_empty());
    assert_eq!(retain::due_at(&all, &policy()), Some(at(2 * day)));
    assert_eq!(retain::expired(&all, &policy(), at(2 * day)), [name(9, 1, 1), name(3, 2, 40)]);
    let far = retain::expired(&all, &policy(), at(100 * day));
    assert_eq!(far, [name(9, 1, 1), name(9, 1, 50), name(3, 2, 40), name(3, 41, 60)]);
    let kept = Policy { deletes: false, ..policy() };
    assert!(retain::expired(&all, &kept, at(100 * day)).is_empty());
    assert_eq!(
        Upkeep::new(kept, all).files().level(Level::SNAPSHOT).count(),
        1,
        "the rest is not remembered"
    );
}

#[test]
fn the_base_of_a_young_upload_stays_though_snapshots_are_to_go_sooner() {
    let seconds = Duration::from_secs;
    let hasty = Policy { levels: Vec::new(), snapshot_retention: seconds(1), ..policy() };
    let mut all = files(&[(9, 1, 1, 0), (0, 1, 1, 0), (0, 2, 2, 100), (9, 1, 3, 150), (0, 3, 3, 150)]);
    assert_eq!(retain::due_at(&all, &hasty), Some(at(300)));
    assert_eq!(retain::expired(&all, &hasty, at(300)), [name(0, 1, 1)], "2 is restored from the first copy");
    all.remove(&name(0, 1, 1));
    assert_eq!(retain::due_at(&all, &hasty), Some(at(450)));
    assert!(retain::expired(&all, &hasty, at(449)).is_empty());
    assert_eq!(retain::expired(&all, &hasty, at(450)), [name(9, 1, 1), name(0, 2, 2)]);
}

#[test]
fn points_are_the_ends_a_restore_can_reach() {
    let all = files(&[
        (9, 1, 5, 5),
        (0, 1, 1, 1),
        (0, 2, 2, 2),
        (0, 4, 4, 4),
        (1, 4, 7, 7),
        (0, 8, 8, 8),
        (0, 10, 10, 10),
    ]);
    assert_eq!(ends(&all), [1, 2, 5, 7, 8], "3 is missing before 4, 9 before 10");
    let levels: Vec<u8> = restore_points(&all).iter().map(|p| p.level.get()).collect();
    assert_eq!(levels, [0, 0, 9, 1, 0]);
}

/// What a replica restores at `txid`, as Litestream goes about it (spec/litestream-v05.md §4.1). Pages are the
/// transactions that wrote them last.
fn restored(replica: &BTreeMap<Name, (File, Image)>, txid: u64) -> Option<Image> {
    let able: Vec<_> = replica.values().filter(|(f, _)| f.name.max.get() <= txid).collect();
    let base = able.iter().filter(|(f, _)| f.name.level == Level::SNAPSHOT).max_by_key(|(f, _)| f.name.max);
    let mut state = base.map(|(_, image)| image.clone()).unwrap_or_default();
    let mut reached = base.map_or(0, |(f, _)| f.name.max.get());
    while reached < txid {
        let next = able
            .iter()
            .filter(|(f, _)| f.name.level != Level::SNAPSHOT)
            .filter(|(f, _)| f.name.min.get() <= reached + 1 && f.name.max.get() > reached)
            .max_by_key(|(f, _)| (f.name.max, std::cmp::Reverse(f.name.min), f.name.level))?;
        state = apply(&state, &next.1);
        reached = next.0.name.max.get();
    }
    Some(state)
}

/// Size of the database and who wrote each page of it, or of a file's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Image {
    commit: u32,
    pages: BTreeMap<u32, u64>,
}

fn apply(state: &Image, file: &Image) -> Image {
    let mut pages = state.pages.clone();
    pages.extend(&file.pages);
    pages.retain(|page, _| *page <= file.commit);
    Image { commit: file.commit, pages }
}

/// A step of a history: time that passes, then what the app wrote, if anything, or a new full copy.
#[derive(Debug, Clone)]
struct Stride {
    pause: u16,
    size: u32,
    touched: BTreeSet<u32>,
    full: bool,
    busy: bool,
}

fn stride() -> impl Strategy<Value = Stride> {
    let touched = proptest::collection::btree_set(1u32..8, 0..4);
    (1u16..400, 1u32..8, touched, 0..20u8, 0..10u8).prop_map(|(pause, size, touched, full, busy)| Stride {
        pause,
        size,
        touched,
        full: full == 0,
        busy: busy < 7,
    })
}

/// From much to nothing of everything; each time in the order of what a history of [`stride`]s lasts.
fn any_policy() -> impl Strategy<Value = Policy> {
    let seconds = |most: u64| prop_oneof![1 => Just(0), 8 => 1..most].prop_map(Duration::from_secs);
    let levels = proptest::collection::vec((1u64..900).prop_map(Duration::from_secs), 0..4);
    (levels, seconds(9000), seconds(12_000), seconds(3000), seconds(600), 0..8u8).prop_map(
        |(mut levels, snapshot_interval, snapshot_retention, l0_retention, check_interval, deletes)| {
            levels.sort_unstable();
            let deletes = deletes > 0;
            Policy {
                levels,
                snapshot_interval,
                snapshot_retention,
                l0_retention,
                check_interval,
                deletes,
                foreign: false,
                hold: None,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_promised_point_restores_to_the_pages_it_had(
        history in proptest::collection::vec(stride(), 1..120),
        policy in any_policy(),
        fails in 0u8..4,
    ) {
        let mut upkeep = Upkeep::new(policy.clone(), Files::default());
        let mut replica: BTreeMap<Name, (File, Image)> = BTreeMap::new();
        let mut states: Vec<(Timestamp, Image)> = Vec::new();
        let (mut now, mut state) = (at(0), Image::default());
        for (n, stride) in history.iter().enumerate() {
            now += Duration::from_secs(stride.pause.into());
            if stride.busy || n == 0 {
                let txid = states.len() as u64 + 1;
                let mut written = Image { commit: stride.size, pages: BTreeMap::new() };
                let grown = state.commit + 1..=stride.size;
                let all = 1..=stride.size;
                let touched = stride.touched.iter().copied().filter(|p| *p <= stride.size);
                let pages: Vec<u32> = if stride.full || n == 0 { all.collect() } else { grown.chain(touched).collect() };
                written.pages.extend(pages.into_iter().map(|p| (p, txid)));
                state = apply(&state, &written);
                let file = File { name: name(0, txid, txid), created: now, size: 1 };
                replica.insert(file.name, (file, written));
                upkeep.put(file);
                states.push((now, state.clone()));
            }
            let head = Txid::new(states.len() as u64).unwrap();
            if upkeep.wants_snapshot(now, head) {
                let file = File { name: name(9, 1, head.get()), created: now, size: 1 };
                replica.insert(file.name, (file, state.clone()));
                upkeep.put(file);
            }
            // Every few strides the agent is away, or its requests fail.
            let able = fails == 0 || n % usize::from(fails + 1) != 0;
            while let Some(chore) = able.then(|| upkeep.next(now)).flatten() {
                match chore {
                    Chore::Compact(c) => {
                        prop_assert!(c.inputs.iter().all(|i| replica.contains_key(&i.name)), "inputs are there");
                        let merged = c.inputs.iter().fold(Image::default(), |m, i| apply(&m, &replica[&i.name].1));
                        let created = c.inputs.last().map_or(now, |i| i.created);
                        let file = File { name: c.output, created, size: 1 };
                        prop_assert!(replica.insert(c.output, (file, merged)).is_none(), "{} twice", c.output);
                        upkeep.put(file);
                    }
                    Chore::Delete(names) => {
                        for name in &names {
                            prop_assert!(replica.remove(name).is_some(), "{name} is not there");
                        }
                        upkeep.deleted(&names);
                    }
                }
            }
            prop_assert!(upkeep.due_at(head).is_none_or(|due| due > now) || !able, "{:?} at {now}", upkeep.due_at(head));
            if replica.values().any(|(f, _)| f.name.level == Level::SNAPSHOT) {
                check(&policy, &replica, &states, now)?;
            }
            // What an agent finds that begins anew is what this one knows; where all stays, it knows what matters.
            let found = replica.values().map(|(f, _)| *f).collect::<Files>();
            prop_assert!(!policy.deletes || *upkeep.files() == found);
            prop_assert!(upkeep.files().iter().all(|f| found.contains(&f.name)));
        }
    }
}

/// Each upload of the last `l0-retention`, the end of each interval of level 1 in the last `snapshot.retention`, and
/// every point that is offered, restore to what was there.
fn check(
    policy: &Policy,
    replica: &BTreeMap<Name, (File, Image)>,
    states: &[(Timestamp, Image)],
    now: Timestamp,
) -> Result<(), TestCaseError> {
    // Zero: for ever.
    let young = |created: Timestamp, retention: Duration| retention.is_zero() || created + retention > now;
    let l0_retention =
        if policy.l0_retention.is_zero() { policy.snapshot_retention } else { policy.l0_retention };
    let mut promised = BTreeSet::new();
    for (i, (created, _)) in states.iter().enumerate() {
        let next = states.get(i + 1).map(|(t, _)| *t);
        let ends =
            policy.levels.first().is_none_or(|l| next.is_none_or(|next| division_ends(*created, *l) <= next));
        if !policy.deletes
            || young(*created, l0_retention)
            || (ends && young(*created, policy.snapshot_retention))
        {
            promised.insert(i as u64 + 1);
        }
    }
    promised.insert(states.len() as u64);
    let offered: BTreeSet<u64> = ends(&replica.values().map(|(f, _)| *f).collect()).into_iter().collect();
    for txid in promised.union(&offered) {
        let image = restored(replica, *txid);
        prop_assert_eq!(
            image.as_ref(),
            Some(&states[*txid as usize - 1].1),
            "transaction {} at {}",
            txid,
            now
        );
        prop_assert!(offered.contains(txid), "{} is not offered", txid);
    }
    for txid in 1..=states.len() as u64 {
        let restores = restored(replica, txid).is_some();
        prop_assert_eq!(restores, offered.contains(&txid), "transaction {}", txid);
    }
    Ok(())
}

#[test]
fn t61_what_lay_there_before_a_database_of_another_past_is_never_deleted() {
    let at = |hours: i64| Timestamp::from_second(1_000_000_000 + hours * 3600).unwrap();
    let file = |level: u8, min: u64, max: u64, hours| File {
        name: Name {
            level: Level::new(level).unwrap(),
            min: Txid::new(min).unwrap(),
            max: Txid::new(max).unwrap(),
        },
        created: at(hours),
        size: 1,
    };
    let all = [
        file(9, 1, 4, 0),
        file(0, 5, 5, 1),
        file(1, 1, 5, 1),
        file(0, 6, 6, 100),
        file(1, 6, 6, 100),
        file(9, 1, 6, 101),
        file(0, 7, 7, 200),
        file(1, 7, 7, 200),
        file(9, 1, 7, 201),
    ];
    let mut files = Files::default();
    all.iter().for_each(|f| files.insert(*f));
    let own = policy();
    let held = Policy { hold: Txid::new(5), ..policy() };
    let late = at(10_000);
    let gone = |policy: &Policy| {
        retain::expired(&files, policy, late).into_iter().map(|n| n.max.get()).collect::<Vec<_>>()
    };
    assert!(gone(&own).iter().any(|max| *max <= 5), "{:?}", gone(&own));
    assert!(!gone(&held).is_empty() && gone(&held).iter().all(|max| *max > 5), "{:?}", gone(&held));
}
