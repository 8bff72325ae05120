//! A thousand small databases on one agent: what they cost at rest, and that none of them waits for the others.

use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_tests::process::code;
use holdfast_tests::procfs::Cost;
use holdfast_tests::tenants::{Tenants, commit};
use holdfast_tests::tool::Tool;

const DATABASES: usize = 1000;

#[test]
fn a_thousand_databases_cost_little_at_rest_and_lose_nothing() {
    let tenants = Tenants::new(&[]);
    let first = tenants.open("0.db");
    let stem = tenants.dir().join("stem.db");
    first.execute("VACUUM INTO ?1", [stem.to_str().unwrap()]).unwrap();
    // A copy keeps the mode only if it says so itself.
    rusqlite::Connection::open(&stem).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    for n in 1..DATABASES {
        std::fs::copy(&stem, tenants.db(&format!("{n}.db"))).unwrap();
    }
    let began = Instant::now();
    let mut agent = tenants.replicate(Tool::Holdfast);
    until("all have a snapshot", Duration::from_secs(120), || snapshots(&tenants) == DATABASES);
    println!("replicated after {:.1} s", began.elapsed().as_secs_f64());
    // Threads that have nothing to do are gone after two seconds.
    std::thread::sleep(Duration::from_secs(4));

    let before = Cost::of(agent.pid()).unwrap();
    let (seconds, written) = (6.0, before.written);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let rest = Cost::of(agent.pid()).unwrap();
    let cpu = (rest.ran - before.ran) / seconds;
    let wakes = (rest.switches - before.switches) as f64 / seconds;
    let files = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let mb = rest.resident as f64 / 1e6;
    println!("at rest: {mb:.1} MB, {:.2} % CPU, {wakes:.1} wake-ups/s, {files} descriptors", cpu * 100.0);
    assert!(mb < 64.0, "{mb:.1} MB resident");
    assert!(cpu < 0.01, "{:.2} % of a core", cpu * 100.0);
    assert!(wakes < 20.0, "{wakes:.1} wake-ups a second");
    assert!(rest.written - written < 1000, "{} bytes written at rest", rest.written - written);
    assert!(files <= 8 * DATABASES + 50, "{files} descriptors");

    // Every tenth commits, nearly at once; those that wait for nobody are durable within the sync interval.
    let busy: Vec<_> = (0..DATABASES).step_by(10).map(|n| (n, tenants.open(&format!("{n}.db")))).collect();
    let held = |n: usize| finished(&tenants.replica(&format!("{n}.db")), "wal");
    until("they are opened", Duration::from_secs(30), || busy.iter().all(|(n, _)| held(*n) > 0));
    std::thread::sleep(Duration::from_secs(1));
    let before: Vec<_> = busy.iter().map(|(n, _)| held(*n)).collect();
    busy.iter().for_each(|(_, db)| commit(db));
    let committed = Instant::now();
    until("commits of a tenth of them are durable", Duration::from_secs(30), || {
        busy.iter().zip(&before).all(|((n, _), before)| held(*n) > *before)
    });
    println!("{} databases durable after {:.2} s", busy.len(), committed.elapsed().as_secs_f64());
    busy.iter().for_each(|(_, db)| commit(db));

    // All of them have something to send in the end.
    let rest: Vec<_> =
        (0..DATABASES).step_by(7).filter(|n| n % 10 != 0).map(|n| tenants.open(&format!("{n}.db"))).collect();
    let began = Instant::now();
    assert_eq!(code(agent.stop(Duration::from_secs(60))), 0, "{}", agent.log());
    println!("final sync of all after {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(agent.log().matches("final sync complete").count(), DATABASES);
    drop((first, rest));
    for (n, rows) in [(0, 4), (10, 4), (990, 4), (7, 2), (994, 2), (1, 1), (999, 1)] {
        assert_eq!(tenants.rows(Tool::Holdfast, &format!("{n}.db")), Some(rows), "{n}.db");
    }
}

fn until(what: &str, within: Duration, mut answer: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !answer() {
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Databases whose replica has a snapshot.
fn snapshots(tenants: &Tenants) -> usize {
    let has = |n: &usize| finished(&tenants.replica(&format!("{n}.db")), "snapshots") > 0;
    (0..DATABASES).filter(has).count()
}

/// Objects of one kind in a replica of the v0.3 layout.
fn finished(replica: &Path, kind: &str) -> usize {
    let list = |path: &Path| {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>()
    };
    let generations = list(&replica.join("generations"));
    let objects = generations.iter().flat_map(|g| list(&g.join(kind)));
    objects.filter(|o| o.extension().is_some_and(|e| e == "lz4")).count()
}
