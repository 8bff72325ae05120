//! Points from listings written by hand, and compared with the planner over random ones.

use proptest::prelude::*;

use super::super::Chain;
use super::*;
use crate::format::layout::WalIndex;
use crate::format::ltx::{Layout, Level, Name as LtxName};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn txid(n: u64) -> Txid {
    Txid::new(n).unwrap()
}

type Object = (String, u64, Timestamp);

fn ltx(layout: Layout, level: u8, min: u64, max: u64, second: i64) -> Object {
    let name = LtxName { level: Level::new(level).unwrap(), min: txid(min), max: txid(max) };
    (name.key(layout), 1, at(second))
}

fn wal(generation: u64, index: u32, offset: Option<u64>, second: i64) -> Object {
    let (generation, index) = (Generation::new(generation), WalIndex::new(index).unwrap());
    let name = match offset {
        Some(offset) => Name::Segment { generation, index, offset },
        None => Name::Snapshot { generation, index },
    };
    (name.key(), 1, at(second))
}

/// Position, date, time since the one before, uploads.
fn said(objects: impl IntoIterator<Item = Object>) -> Vec<String> {
    let seconds = |p: &Point| p.since.map_or("-".into(), |d| d.as_secs().to_string());
    let line = |p: &Point| format!("{} {} {} {}", p.at, p.created.as_second(), seconds(p), p.uploads);
    restore_points(&Listing::new(objects)).iter().map(line).collect()
}

#[test]
fn a_point_says_how_much_it_joins_with_the_one_before() {
    use Layout::Folders;
    let files = [
        ltx(Folders, 9, 1, 4, 40),
        ltx(Folders, 1, 5, 9, 65),
        ltx(Folders, 0, 10, 10, 70),
        ltx(Folders, 0, 11, 11, 71),
        ltx(Folders, 0, 13, 13, 75),
    ];
    assert_eq!(
        said(files),
        [
            "0000000000000004 40 - 4",
            "0000000000000009 65 25 5",
            "000000000000000a 70 5 1",
            "000000000000000b 71 1 1"
        ],
        "nothing is restored across the gap"
    );
}

#[test]
fn segments_of_one_date_are_one_point() {
    let objects = [
        wal(10, 0, None, 5),
        wal(10, 0, Some(0), 6),
        wal(10, 0, Some(4152), 7),
        wal(10, 0, Some(8272), 7),
        wal(10, 1, Some(0), 9),
        wal(10, 3, Some(0), 12),
        wal(11, 2, None, 8),
    ];
    assert_eq!(
        said(objects),
        [
            "000000000000000a/00000000:0 6 - 1",
            "000000000000000a/00000000:8272 7 1 2",
            "000000000000000b/00000002 8 - 1",
            "000000000000000a/00000001:0 9 2 1",
        ],
        "index 2 of the first is missing, and the second is a base alone"
    );
}

#[test]
fn a_new_base_adds_no_point_of_its_own() {
    let objects = [
        wal(10, 0, None, 5),
        wal(10, 0, Some(0), 6),
        wal(10, 1, Some(0), 8),
        wal(10, 1, None, 9),
        wal(10, 1, Some(4152), 12),
    ];
    let said = said(objects);
    let expected = ["/00000000:0 6 - 1", "/00000001:0 8 2 1", "/00000001:4152 12 4 1"];
    assert_eq!(said, expected.map(|line| format!("000000000000000a{line}")));
}

fn any_ltx() -> impl Strategy<Value = Object> {
    (any::<bool>(), 0..12u8, 1..12u64, 0..6u64, 1..40i64).prop_map(|(hex, level, min, more, second)| {
        let layout = if hex { Layout::Hex } else { Layout::Folders };
        // Copies of everything, one of which does not begin where it should; the rest at low levels.
        match level {
            9..=10 => ltx(layout, 9, 1, min + more, second),
            11 => ltx(layout, 9, min, min + more, second),
            _ => ltx(layout, level / 3, min, min + more, second),
        }
    })
}

fn any_wal() -> impl Strategy<Value = Object> {
    (0..2u64, 0..5u32, proptest::option::weighted(0.8, 0..4u64), 1..30i64)
        .prop_map(|(generation, index, offset, second)| wal(generation, index, offset, second))
}

/// Of several objects with one key there is only one.
fn listing(mut objects: Vec<Object>) -> Listing {
    objects.sort();
    objects.dedup_by(|a, b| a.0 == b.0);
    Listing::new(objects)
}

/// The last object of what is restored.
fn restored(listing: &Listing, target: Target) -> Option<At> {
    match plan(listing, target).ok()?.chain {
        Chain::Ltx(chain) => Some(At::Txid(chain.last())),
        // A base that something may continue is no point.
        Chain::Wal(chain) => {
            let base = chain.snapshot.name;
            let objects = listing.generations().find(|(g, _)| *g == chain.generation)?.1;
            let alone = objects.segments.iter().all(|s| s.name.index() < base.index());
            chain.segments.last().map(|s| At::Object(s.name)).or(alone.then_some(At::Object(base)))
        }
    }
}

proptest! {
    #[test]
    fn transactions_are_points_exactly_where_a_restore_reaches_them(
        files in proptest::collection::vec(any_ltx(), 0..20), mixed: bool,
    ) {
        let files = files.into_iter().filter(|f| mixed || f.0.starts_with("ltx/")).collect();
        let listing = listing(files);
        let points: Vec<At> = of_ltx(&listing).iter().map(|p| p.at).collect();
        let reached: Vec<At> = (1..20)
            .filter_map(|n| restored(&listing, Target { until: Until::Txid(txid(n)), ..Target::LATEST }))
            .collect();
        prop_assert_eq!(&points, &reached);
        let uploads: u64 = of_ltx(&listing).iter().map(|p| p.uploads).sum();
        prop_assert_eq!(points.last().copied(), Txid::new(uploads).map(At::Txid));
    }

    #[test]
    fn the_points_of_generations_are_what_the_times_one_can_ask_for_lead_to(
        objects in proptest::collection::vec(any_wal(), 0..16), joined: bool,
    ) {
        // Most random sets have a gap: give half of them none.
        let whole = (0..2).flat_map(|g| (0..5).map(move |i| wal(g, i, Some(0), 3 * i64::from(i) + 2)));
        let objects = objects.into_iter().chain(whole.filter(|_| joined)).collect();
        let listing = listing(objects);
        let points = restore_points(&listing);
        for point in &points {
            prop_assert_eq!(restored(&listing, point.target()), Some(point.at), "{}", point.at);
            let mut earlier = point.target();
            earlier.until = Until::Time(point.created - SignedDuration::from_nanos(1));
            prop_assert_ne!(restored(&listing, earlier), Some(point.at), "{} is older", point.at);
        }
        for generation in [0, 1].map(Generation::new) {
            for second in 0..32 {
                let target = Target { generation: Some(generation), until: Until::Time(at(second)), level: None };
                if let Some(at) = restored(&listing, target) {
                    prop_assert!(points.iter().any(|p| p.at == at), "{at} at {second}");
                }
            }
        }
        let mut seen: Vec<String> = points.iter().map(|p| p.at.to_string()).collect();
        seen.sort();
        seen.dedup();
        prop_assert_eq!(seen.len(), points.len());
    }
}
