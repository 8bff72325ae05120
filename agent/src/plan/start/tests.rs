//! The table of spec/supervisor.md §3.4, cell by cell, and what puts a database into its row.

use super::*;
use crate::format::dbfile::DbHeader;
use crate::format::layout::{Generation, Pos, WalIndex};
use crate::format::lineage::{At, Descent, Mark};
use crate::format::wal::{Checksum, FrameHeader, PageSize, Salt};
use crate::plan::restore::Listing;

const DEFAULT: Wishes = Wishes {
    on_behind: OnBehind::Refuse,
    on_unknown: OnUnknown::Auto,
    on_corrupt: OnCorrupt::Refuse,
    require_replica: false,
    empty_start: false,
};

const REMOTES: [Remote; 6] = [
    Remote::Restorable,
    Remote::Empty,
    Remote::Unreachable,
    Remote::Denied,
    Remote::NoBucket,
    Remote::Broken,
];

/// One cell: an exit code, or what is done.
fn cell(local: Local, remote: Remote, lived: bool, wishes: Wishes) -> String {
    match decide(local, remote, lived, wishes) {
        Decision::Start(None) => "start".into(),
        Decision::Start(Some(alarm)) => format!("start!{alarm:?}"),
        Decision::Fresh => "fresh".into(),
        Decision::Restore(aside) => format!("restore:{}", aside.word()),
        Decision::Refuse(refusal) => refusal.exit().code().to_string(),
    }
}

#[track_caller]
fn row(local: Local, lived: bool, wishes: Wishes, expected: &str) {
    let cells = REMOTES.map(|remote| cell(local, remote, lived, wishes));
    assert_eq!(cells.join(" "), expected, "{local:?}, lived: {lived}, {wishes:?}");
}

const OLDER: Local = Local::Unknown { older: true };
const YOUNGER: Local = Local::Unknown { older: false };

#[test]
fn every_row_of_the_table_by_default() {
    for (local, expected) in [
        (Local::Missing, "restore:orphan-wal fresh 69 77 78 76"),
        (Local::OrphanWal, "restore:orphan-wal 66 69 77 78 76"),
        (Local::Empty, "restore:empty start 69 77 78 76"),
        (Local::Good, "start start!Wiped start!Unreachable start!Denied start!NoBucket start!Broken"),
        (Local::Behind, "79 start!Wiped start!Unreachable start!Denied start!NoBucket 79"),
        (OLDER, "79 start start!Unreachable start!Denied start!NoBucket start!Broken"),
        (YOUNGER, "start!Unknown start start!Unreachable start!Denied start!NoBucket start!Broken"),
        (Local::Corrupt, "65 65 65 65 65 65"),
        (Local::Unusable(Obstacle::NoFile), "78 78 78 78 78 78"),
        (Local::Unusable(Obstacle::NoDirectory), "78 78 78 78 78 78"),
        (Local::Unusable(Obstacle::Network), "78 78 78 78 78 78"),
        (Local::Unusable(Obstacle::Denied), "77 77 77 77 77 77"),
        (Local::Unusable(Obstacle::ReadOnly), "73 73 73 73 73 73"),
    ] {
        row(local, false, DEFAULT, expected);
    }
}

#[test]
fn a_database_that_lived_here_or_has_to_exist_is_missed() {
    let required = Wishes { require_replica: true, ..DEFAULT };
    row(Local::Missing, true, DEFAULT, "restore:orphan-wal 66 69 77 78 76");
    row(Local::Missing, false, required, "restore:orphan-wal 66 69 77 78 76");
    row(Local::Empty, true, required, "restore:empty start 69 77 78 76");
    row(Local::Good, true, required, "start start!Wiped start!Unreachable 77 78 start!Broken");
    row(YOUNGER, false, required, "start!Unknown start start!Unreachable 77 78 start!Broken");
}

#[test]
fn each_option_moves_the_cells_it_is_about_and_no_other() {
    let behind = |on_behind| Wishes { on_behind, ..DEFAULT };
    let rest = "start!Wiped start!Unreachable start!Denied start!NoBucket";
    row(Local::Behind, true, behind(OnBehind::Restore), &format!("restore:behind {rest} 79"));
    row(Local::Behind, true, behind(OnBehind::Keep), &format!("start!Behind {rest} start!Behind"));
    let unknown = |on_unknown| Wishes { on_unknown, ..DEFAULT };
    let rest = "start start!Unreachable start!Denied start!NoBucket start!Broken";
    for local in [OLDER, YOUNGER] {
        row(local, false, unknown(OnUnknown::Refuse), &format!("79 {rest}"));
        row(local, false, unknown(OnUnknown::Restore), &format!("restore:unknown {rest}"));
        row(local, false, unknown(OnUnknown::Keep), &format!("start!Unknown {rest}"));
    }
    let corrupt = Wishes { on_corrupt: OnCorrupt::Restore, ..DEFAULT };
    row(Local::Corrupt, true, corrupt, "restore:corrupt 65 65 65 65 65");
    let all = Wishes {
        on_behind: OnBehind::Restore,
        on_unknown: OnUnknown::Restore,
        on_corrupt: OnCorrupt::Restore,
        ..DEFAULT
    };
    for remote in REMOTES {
        for local in [Local::Missing, Local::OrphanWal, Local::Empty, Local::Good] {
            assert_eq!(decide(local, remote, false, all), decide(local, remote, false, DEFAULT));
        }
    }
}

#[test]
fn the_token_of_the_day_allows_to_start_on_nothing_but_never_hides_a_backup() {
    let token = Wishes { empty_start: true, require_replica: true, ..DEFAULT };
    row(Local::Missing, true, token, "restore:orphan-wal fresh fresh fresh fresh fresh");
    row(Local::OrphanWal, true, token, "restore:orphan-wal fresh fresh fresh fresh fresh");
    row(Local::Empty, true, token, "restore:empty start start start start start");
    row(Local::Corrupt, true, token, "65 65 65 65 65 65");
    row(Local::Behind, true, token, "79 start!Wiped start!Unreachable 77 78 79");
    assert_eq!(token_of("2026-11-21T23:59:59Z".parse().unwrap()), "2026-11-21");
}

#[test]
fn a_file_without_tables_stays_where_the_replica_holds_no_more_and_all_else_is_as_ever() {
    assert_eq!(decide(Local::Empty, Remote::Bare, true, DEFAULT), Decision::Start(None));
    for local in [Local::Missing, Local::OrphanWal, Local::Good, Local::Behind, Local::Corrupt] {
        let decision = |remote| decide(local, remote, true, DEFAULT);
        assert_eq!(decision(Remote::Bare), decision(Remote::Restorable), "{local:?}");
    }
}

#[test]
fn no_cell_starts_an_empty_database_beside_a_replica_that_is_not_proven_empty() {
    for remote in REMOTES.into_iter().filter(|r| *r != Remote::Empty) {
        for local in [Local::Missing, Local::OrphanWal, Local::Empty] {
            let decision = decide(local, remote, false, DEFAULT);
            assert!(!matches!(decision, Decision::Start(_) | Decision::Fresh), "{local:?} {remote:?}");
        }
    }
}

// ---- What was found

fn header() -> DbHeader {
    let page_size = PageSize::new(4096).unwrap();
    DbHeader { page_size, pages: Some(3), wal: true, library: None }
}

fn nothing() -> Facts {
    Facts {
        obstacle: None,
        file: File::Nothing,
        wal: None,
        committed: false,
        journal: None,
        tables: None,
        check: Check::Skipped,
    }
}

fn database() -> Facts {
    let file = File::Bytes { len: 3 * 4096, header: Some(Ok(header())) };
    Facts { file, tables: Some(2), check: Check::Whole, ..nothing() }
}

#[test]
fn what_lies_there_is_told_apart() {
    let empty = Facts { file: File::Bytes { len: 0, header: None }, ..nothing() };
    for (facts, found) in [
        (nothing(), Found::Missing),
        (Facts { wal: Some(0), journal: Some(0), ..nothing() }, Found::Missing),
        (Facts { wal: Some(32), ..nothing() }, Found::Missing),
        (Facts { wal: Some(33), ..nothing() }, Found::OrphanWal),
        (Facts { journal: Some(1), ..nothing() }, Found::OrphanWal),
        (empty.clone(), Found::Empty),
        (Facts { wal: Some(4152), committed: true, ..empty }, Found::Database),
        (database(), Found::Database),
        (Facts { tables: Some(0), ..database() }, Found::Empty),
        (Facts { tables: Some(0), committed: true, ..database() }, Found::Database),
        (Facts { tables: None, ..database() }, Found::Database),
        (Facts { check: Check::Part, ..database() }, Found::Database),
        (Facts { check: Check::Damaged("Tree 2".into()), ..database() }, Found::Corrupt("Tree 2".into())),
        (Facts { obstacle: Some(Obstacle::ReadOnly), ..database() }, Found::Unusable(Obstacle::ReadOnly)),
    ] {
        assert_eq!(facts.found(), found, "{facts:?}");
    }
}

#[test]
fn a_file_that_lacks_pages_is_damaged_unless_a_log_may_hold_them() {
    let short = Facts { file: File::Bytes { len: 8192, header: Some(Ok(header())) }, ..database() };
    assert!(matches!(short.found(), Found::Corrupt(what) if what.contains("12288 bytes")));
    assert_eq!(Facts { committed: true, ..short.clone() }.found(), Found::Database);
    assert_eq!(Facts { journal: Some(512), ..short.clone() }.found(), Found::Database);
    let header = DbHeader { pages: None, ..header() };
    let silent = File::Bytes { len: 8192, header: Some(Ok(header)) };
    assert_eq!(Facts { file: silent, ..short }.found(), Found::Database);
}

// ---- What it is to the replica

const OURS: Generation = Generation::new(1);
const OTHER: Generation = Generation::new(2);
const SALT: Salt = Salt([7; 8]);
const END: u64 = 32 + 2 * 4120;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000_000 + second).unwrap()
}

fn marked(at: At) -> Record {
    let sum = Checksum { s0: 1, s1: 2 };
    let mark = Mark { salt: SALT, end: END, checksum: sum, at };
    let last = FrameHeader { page: 1, commit: 3, salt: SALT, checksum: sum };
    Record {
        descent: Some(Descent { own: vec![OURS], adopts: None, hold: None, mark: Some(mark) }),
        now: Some(Now { salt: SALT, len: END, last: Some(last), goes_on: false }),
        ..Record::default()
    }
}

fn in_wal() -> Record {
    marked(At::Wal(Pos { generation: OURS, index: WalIndex::new(3).unwrap(), offset: END }))
}

fn segment(generation: Generation, index: u32, offset: u64, second: i64) -> (String, u64, Timestamp) {
    (format!("{}{index:08x}_{offset:08x}.wal.lz4", generation.wal()), 10, at(second))
}

fn snapshot(generation: Generation, index: u32, second: i64) -> (String, u64, Timestamp) {
    (format!("{}{index:08x}.snapshot.lz4", generation.snapshots()), 10, at(second))
}

fn ltx(level: u8, min: u64, max: u64, second: i64) -> (String, u64, Timestamp) {
    (format!("ltx/{level}/{min:016x}-{max:016x}.ltx"), 10, at(second))
}

fn is_behind(record: &Record, objects: &[(String, u64, Timestamp)]) -> bool {
    matches!(standing(record, &Listing::new(objects.iter().cloned())), Standing::Behind(_))
}

fn ours() -> Vec<(String, u64, Timestamp)> {
    vec![snapshot(OURS, 0, 0), segment(OURS, 3, 0, 10), segment(OURS, 3, 4152, 20)]
}

#[test]
fn a_replica_that_goes_on_beyond_an_untouched_mark_is_ahead() {
    assert!(!is_behind(&in_wal(), &ours()));
    for more in [segment(OURS, 3, END, 30), segment(OURS, 4, 0, 30)] {
        assert!(is_behind(&in_wal(), &[ours(), vec![more]].concat()));
    }
    // What a snapshot holds may be what is here.
    assert!(!is_behind(&in_wal(), &[ours(), vec![snapshot(OURS, 4, 30)]].concat()));
    let lead = standing(&in_wal(), &Listing::new([ours(), vec![segment(OURS, 4, 0, 30)]].concat()));
    let Standing::Behind(lead) = lead else { panic!("{lead:?}") };
    let said = lead.to_string();
    assert!(said.contains("0000000000000001/00000003:8272") && said.contains("00000004:0"), "{said}");
}

#[test]
fn a_generation_of_others_that_began_after_ours_ended_is_ahead_and_no_other_is() {
    let with = |more: &[(String, u64, Timestamp)]| [&ours()[..], more].concat();
    assert!(is_behind(&in_wal(), &with(&[snapshot(OTHER, 0, 30), segment(OTHER, 0, 0, 31)])));
    assert!(!is_behind(&in_wal(), &with(&[snapshot(OTHER, 0, 30)])), "a copy of what there was");
    assert!(!is_behind(&in_wal(), &with(&[snapshot(OTHER, 0, 5), segment(OTHER, 0, 0, 31)])), "before");
    assert!(!is_behind(&in_wal(), &[snapshot(OTHER, 0, 30), segment(OTHER, 0, 0, 31)]), "ours is gone");
    let mut own = in_wal();
    own.descent.as_mut().unwrap().own.push(OTHER);
    let litestream = Record { litestream: Some(OTHER), litestream_was_here: true, ..in_wal() };
    for record in [own, litestream] {
        assert!(!is_behind(&record, &with(&[snapshot(OTHER, 0, 30), segment(OTHER, 0, 0, 31)])));
    }
}

#[test]
fn a_wal_that_has_moved_proves_nothing_but_what_it_has_lost() {
    let further = [ours(), vec![segment(OURS, 3, END, 30), segment(OURS, 4, 0, 31)]].concat();
    let now = |change: fn(&mut Now)| {
        let mut record = in_wal();
        change(record.now.as_mut().unwrap());
        record
    };
    assert!(!is_behind(&now(|n| n.salt = Salt([8; 8])), &further), "restarted");
    assert!(!is_behind(&now(|n| (n.goes_on, n.len) = (true, END + 4120)), &further), "committed to");
    assert!(!is_behind(&Record { now: None, ..in_wal() }, &further), "removed");
    let mut unmarked = in_wal();
    unmarked.descent.as_mut().unwrap().mark = None;
    assert!(!is_behind(&unmarked, &further));
    // It went on here as over there, and lost its end.
    let lost = now(|n| (n.goes_on, n.len) = (true, END + 4120));
    assert!(is_behind(&lost, &[ours(), vec![segment(OURS, 3, END + 4120, 30)]].concat()));
    let shorter = now(|n| (n.last, n.len) = (None, END - 4120));
    assert!(is_behind(&shorter, &[ours(), vec![segment(OURS, 3, END - 4120, 30)]].concat()));
}

#[test]
fn a_replica_that_lags_or_lost_objects_is_never_ahead() {
    for objects in [&ours()[..2], &ours()[..1], &[], &[segment(OURS, 2, 0, 99)]] {
        assert!(!is_behind(&in_wal(), objects));
    }
}

#[test]
fn transactions_are_compared_where_nobody_else_writes_them_here() {
    let record = marked(At::Ltx("000000000000000a".parse().unwrap()));
    assert!(!is_behind(&record, &[ltx(9, 1, 10, 0), ltx(0, 10, 10, 1)]));
    assert!(is_behind(&record, &[ltx(9, 1, 10, 0), ltx(0, 11, 11, 1)]));
    assert!(is_behind(&record, &[ltx(1, 9, 12, 0)]));
    let litestream = Record { litestream_was_here: true, ..record };
    assert!(!is_behind(&litestream, &[ltx(0, 11, 11, 1)]));
}

#[test]
fn without_a_record_dates_are_compared_and_only_of_changes() {
    let record = Record { written: Some(at(0)), ..Record::default() };
    let older = |objects: &[(String, u64, Timestamp)]| {
        standing(&record, &Listing::new(objects.iter().cloned())).is_older()
    };
    assert!(older(&[snapshot(OURS, 0, 0), segment(OURS, 0, 0, 3601)]));
    assert!(!older(&[snapshot(OURS, 0, 99_999), segment(OURS, 0, 0, 3600)]));
    assert!(older(&[ltx(0, 7, 7, 3601)]));
    assert!(!older(&[ltx(9, 1, 7, 99_999), ltx(1, 1, 7, 99_999), ltx(0, 7, 7, 3600)]));
    assert!(!older(&[]));
    let litestream = Record { litestream_was_here: true, ..record };
    let listing = Listing::new([segment(OURS, 0, 0, 99_999)]);
    assert_eq!(standing(&litestream, &listing), Standing::Good);
}
