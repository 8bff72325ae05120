//! Plans from listings written by hand, and compared with the rules taken literally.

use proptest::prelude::*;

use super::super::{Chain, Listing, Target, plan as decide};
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn txid(n: u64) -> Txid {
    Txid::new(n).unwrap()
}

/// Level, first and last transaction, date.
type Line = (u8, u64, u64, i64);

fn file((level, min, max, second): Line) -> File {
    let name = Name { level: Level::new(level).unwrap(), min: txid(min), max: txid(max) };
    File { name, layout: Layout::Folders, size: 100, created: at(second) }
}

fn planned(lines: &[Line], until: Until, level: Option<u8>) -> String {
    let objects = lines.iter().rev().map(|l| (file(*l).key(), 100, at(l.3)));
    let level = level.and_then(Level::new);
    match decide(&Listing::new(objects), Target { generation: None, until, level }) {
        Ok(plan) => {
            let Chain::Ltx(chain) = &plan.chain else { unreachable!() };
            let files = chain
                .files()
                .iter()
                .map(|f| format!("{}:{:x}-{:x}", f.name.level, f.name.min.get(), f.name.max.get()));
            let mut text = files.collect::<Vec<_>>().join(" ");
            for notice in plan.notices {
                text = format!("{text}; {notice}");
            }
            text
        }
        Err(e) => e.to_string(),
    }
}

const HISTORY: [Line; 9] = [
    (9, 1, 1, 10),
    (9, 1, 4, 41),
    (2, 1, 4, 40),
    (1, 1, 2, 20),
    (1, 3, 4, 40),
    (1, 5, 6, 60),
    (0, 6, 6, 60),
    (0, 7, 7, 70),
    (0, 8, 8, 80),
];

#[test]
fn the_latest_state_is_the_newest_copy_and_the_longest_files_after_it() {
    assert_eq!(planned(&HISTORY, Until::Latest, None), "9:1-4 1:5-6 0:7-7 0:8-8");
}

#[test]
fn a_time_takes_what_is_strictly_older() {
    assert_eq!(planned(&HISTORY, Until::Time(at(41)), None), "9:1-1 2:1-4");
    assert_eq!(planned(&HISTORY, Until::Time(at(42)), None), "9:1-4");
    assert_eq!(planned(&HISTORY, Until::Time(at(70)), None), "9:1-4 1:5-6");
    let said = planned(&HISTORY, Until::Time(at(99)), None);
    assert!(said.starts_with("9:1-4 1:5-6 0:7-7 0:8-8; nothing is as young as"), "{said}");
    let said = planned(&HISTORY, Until::Time(at(10)), None);
    assert!(said.starts_with("nothing is as old as"), "{said}");
}

#[test]
fn a_transaction_has_to_be_reached_exactly() {
    assert_eq!(planned(&HISTORY, Until::Txid(txid(1)), None), "9:1-1");
    assert_eq!(planned(&HISTORY, Until::Txid(txid(2)), None), "9:1-1 1:1-2");
    assert_eq!(planned(&HISTORY, Until::Txid(txid(6)), None), "9:1-4 1:5-6");
    assert_eq!(
        planned(&HISTORY, Until::Txid(txid(5)), None),
        "transaction 0000000000000005 cannot be told from its neighbours any more: compacted into \
         ltx/1/0000000000000005-0000000000000006.ltx; the nearest are 0000000000000004 and 0000000000000006"
    );
    assert_eq!(
        planned(&HISTORY, Until::Txid(txid(9)), None),
        "there is no transaction 0000000000000009 yet: the last one is 0000000000000008"
    );
}

#[test]
fn a_level_leaves_out_the_files_below_it() {
    assert_eq!(planned(&HISTORY, Until::Latest, Some(9)), "9:1-4");
    assert_eq!(planned(&HISTORY, Until::Latest, Some(1)), "9:1-4 1:5-6");
    assert_eq!(planned(&HISTORY[6..], Until::Latest, Some(1)), Refusal::NoLtx.to_string());
}

#[test]
fn files_may_overlap_and_full_copies_may_stand_at_level_0() {
    let lines = [(0, 1, 1, 1), (1, 1, 2, 2), (1, 2, 3, 3), (0, 4, 4, 4)];
    assert_eq!(planned(&lines, Until::Latest, None), "1:1-2 1:2-3 0:4-4");
    assert_eq!(planned(&[(5, 1, 3, 3)], Until::Latest, None), "5:1-3");
}

#[test]
fn a_gap_is_missed_by_name() {
    let lines = [(0, 1, 1, 1), (0, 2, 2, 2), (0, 4, 4, 4), (0, 5, 5, 5)];
    let gap = "transaction 0000000000000003 is in no LTX file, but ltx/0/0000000000000004-0000000000000004.ltx \
               exists: nothing can be restored across the gap";
    assert_eq!(planned(&lines, Until::Latest, None), gap);
    assert_eq!(planned(&lines, Until::Txid(txid(5)), None), gap);
    assert_eq!(planned(&lines, Until::Txid(txid(3)), None), gap);
    assert_eq!(planned(&lines, Until::Time(at(6)), None), gap);
    assert_eq!(planned(&lines, Until::Txid(txid(2)), None), "0:1-1 0:2-2");
    assert_eq!(planned(&lines, Until::Time(at(4)), None), "0:1-1 0:2-2");
    let said = planned(&lines[1..], Until::Latest, None);
    assert!(
        said.starts_with("no LTX file starts at transaction 1 (the first is ltx/0/0000000000000002-"),
        "{said}"
    );
}

#[test]
fn a_time_inside_a_compacted_file_gives_the_state_before_it_and_says_so() {
    // Level 0 has lost 5 to 7 to level 1, and 8 not yet.
    let lines = [(9, 1, 4, 4), (1, 5, 9, 9), (0, 8, 8, 8), (0, 9, 9, 9)];
    let said = planned(&lines, Until::Time(at(9)), None);
    assert!(said.starts_with("9:1-4; what follows transaction 0000000000000004 is compacted"), "{said}");
    assert_eq!(planned(&lines, Until::Latest, None), "9:1-4 1:5-9");
}

#[test]
fn what_only_the_other_layout_has_is_refused_by_what_to_ask_instead() {
    let target = Target { until: Until::Index(crate::format::layout::WalIndex::ZERO), ..Target::LATEST };
    let listing = Listing::new([(file(HISTORY[0]).key(), 1, at(1))]);
    assert_eq!(decide(&listing, target), Err(Refusal::OnlyLtx));
    let wal = Listing::new([("generations/000000000000000a/snapshots/00000000.snapshot.lz4", 1, at(1))]);
    let target = Target { until: Until::Txid(Txid::ONE), ..Target::LATEST };
    assert_eq!(decide(&wal, target), Err(Refusal::NoLtx));
}

#[test]
fn of_two_layouts_the_younger_state_wins_and_an_older_time_takes_the_older() {
    let wal =
        |second| ("generations/000000000000000a/snapshots/00000000.snapshot.lz4".to_owned(), 1, at(second));
    let ltx = |second| (file((0, 1, 1, 0)).key(), 1, at(second));
    let is_ltx = |objects: [(String, u64, Timestamp); 2], until| {
        let plan = decide(&Listing::new(objects), Target { until, ..Target::LATEST }).unwrap();
        matches!(plan.chain, Chain::Ltx(_))
    };
    assert!(is_ltx([wal(5), ltx(10)], Until::Latest));
    assert!(!is_ltx([wal(10), ltx(5)], Until::Latest));
    assert!(!is_ltx([wal(5), ltx(10)], Until::Time(at(7))));
    assert!(is_ltx([wal(10), ltx(5)], Until::Time(at(7))));
    // The younger of the two is broken: an older state is not what was asked for.
    let broken = [wal(5), (file((0, 2, 2, 0)).key(), 1, at(10))];
    assert!(matches!(decide(&Listing::new(broken), Target::LATEST), Err(Refusal::NoBase { .. })));
}

/// The rules, taken literally: look at everything at every step.
fn literally(lines: &[Line], until: Until) -> Option<Vec<Line>> {
    let counts = |l: &&Line| match until {
        Until::Time(t) => at(l.3) < t,
        Until::Txid(t) => l.2 <= t.get(),
        Until::Latest | Until::Index(_) => true,
    };
    let mut chain: Vec<Line> =
        lines.iter().filter(counts).filter(|l| l.0 == 9).max_by_key(|l| l.2).copied().into_iter().collect();
    loop {
        let last = chain.last().map_or(0, |l| l.2);
        let next = lines.iter().filter(counts).filter(|l| l.0 < 9 && l.1 <= last + 1 && l.2 > last);
        match next.max_by_key(|l| (l.2, Reverse(l.1), l.0, Reverse(l.3))) {
            Some(next) => chain.push(*next),
            None => break,
        }
    }
    let last = chain.last().map_or(0, |l| l.2);
    let ok = match until {
        Until::Txid(t) => last == t.get(),
        Until::Latest | Until::Index(_) => last > 0 && lines.iter().all(|l| l.1 <= last + 1),
        Until::Time(_) => last > 0,
    };
    ok.then_some(chain)
}

proptest! {
    #[test]
    fn the_sweep_finds_what_the_rules_say(
        lines in proptest::collection::btree_map((0u8..=9, 1u64..12, 0u64..6), 1i64..40, 0..14),
        asked in 1i64..40, kind in 0..3,
    ) {
        let lines: Vec<Line> = lines
            .into_iter()
            .map(|((level, min, len), second)| match level {
                9 => (9, 1, min + len, second),
                _ => (level, min, min + len, second),
            })
            .collect();
        let mut lines = lines;
        lines.sort();
        lines.dedup_by_key(|l| (l.0, l.1, l.2));
        let until = match kind {
            0 => Until::Latest,
            1 => Until::Time(at(asked)),
            _ => Until::Txid(txid(asked as u64)),
        };
        let files: Vec<File> = lines.iter().map(|l| file(*l)).collect();
        let expected = literally(&lines, until).map(|chain| chain.into_iter().map(file).collect::<Vec<_>>());
        match (plan(&files, until, None), expected) {
            (Ok((chain, _)), expected) => prop_assert_eq!(Some(chain.files().to_vec()), expected),
            // Stricter only where a time leaves something behind a gap.
            (Err(Refusal::TxidGap { .. }), Some(_)) => prop_assert!(matches!(until, Until::Time(_))),
            (Err(e), expected) => prop_assert_eq!(expected, None, "{}", e),
        }
    }
}
