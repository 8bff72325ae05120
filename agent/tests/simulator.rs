//! The agent's decisions under a seeded simulator: the same machines, other hands and another clock.
//!
//! A seed draws a world: an app with its habits, a model of SQLite under it, two stores with their weather, crashes.
//! In it run `plan::database`, `plan::handover`, `plan::retain` and `plan::ltx`, each replica in one of the two layouts,
//! and the invariants of the architecture are checked after everything that changes what a reader would find:
//!
//! | | checked |
//! | --- | --- |
//! | P1 | after each object that lands or position that is acknowledged: what restores is a committed state |
//! | P2 | … and never older than what was acknowledged |
//! | P3 | a stop comes to rest with everything there; minutes after the last write the newest state restores |
//! | P4 | the model stores create only; nothing but what `retain` returned is deleted |
//! | P5 | after each retention run: every time within the retention restores what was acknowledged then; of LTX files the end of each interval of level 1, and each upload that is young or was just acknowledged |
//! | P6 | the WAL is always pinned; no segment is asked for whose bytes nobody holds |
//! | P7 | nothing is put while nobody writes; `poll` ends, `wake_at` lies ahead |
//! | P8 | the same seed gives the same trace |
//!
//! `SEED=7 cargo test -p holdfast --test simulator replay -- --nocapture` replays one seed with its trace.
//! `SEEDS=1000..90000 cargo test --release -p holdfast --test simulator more_storms` hunts for what no seed has shown yet;
//! 100 take a second or two. What it finds prints its seed.

#[path = "simulator/agent.rs"]
mod agent;
#[path = "simulator/app.rs"]
mod app;
#[path = "simulator/chance.rs"]
mod chance;
#[path = "simulator/checks.rs"]
mod checks;
#[path = "simulator/chores.rs"]
mod chores;
#[path = "simulator/history.rs"]
mod history;
#[path = "simulator/ltx.rs"]
mod ltx;
#[path = "simulator/ltx_checks.rs"]
mod ltx_checks;
#[path = "simulator/ltx_store.rs"]
mod ltx_store;
#[path = "simulator/mutant.rs"]
mod mutant;
#[path = "simulator/profile.rs"]
mod profile;
#[path = "simulator/restore.rs"]
mod restore;
#[path = "simulator/round.rs"]
mod round;
#[path = "simulator/ship.rs"]
mod ship;
#[path = "simulator/sqlite.rs"]
mod sqlite;
#[path = "simulator/store.rs"]
mod store;
#[path = "simulator/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::ops::Range;

use holdfast::plan::replica::Broken;

use chance::Chance;
use mutant::Mutant;
use profile::{MS, Profile, SECOND};
use world::{Report, World};

/// Runs every seed twice, compares the traces, and says what happened how often.
fn storms(seeds: Range<u64>) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        let report = run(seed, Profile::stormy, None);
        assert!(report.violation.is_none(), "SEED={seed}: {:?}", report.violation);
        let again = run(seed, Profile::stormy, None);
        assert_eq!(report.trace, again.trace, "SEED={seed}: P8: two runs differ");
        for (what, n) in report.coverage {
            *seen.entry(what).or_default() += n;
        }
    }
    seen
}

fn run(seed: u64, profile: fn(&mut Chance) -> Profile, mutant: Option<Mutant>) -> Report {
    let _said = OnPanic(seed);
    World::run(seed, profile, mutant, false)
}

/// A panic inside the machines says its seed, too.
struct OnPanic(u64);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} panics", self.0);
        }
    }
}

#[test]
fn in_five_hundred_storms_every_invariant_holds_and_everything_that_can_happen_does() {
    let seen = storms(0..500);
    println!("{seen:#?}");
    let never: Vec<_> = MUST_HAPPEN.iter().filter(|what| !seen.contains_key(**what)).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}

#[test]
fn in_five_hundred_more_storms_every_invariant_holds() {
    let asked = std::env::var("SEEDS").ok().map(|seeds| {
        let (from, to) = seeds.split_once("..").expect("SEEDS is FROM..TO");
        from.parse().expect("FROM is a number")..to.parse().expect("TO is a number")
    });
    storms(asked.unwrap_or(500..1000));
}

/// Without `SEED` a short storm; with `CALM=1` as well the well-behaved world of that seed; with it that one, with its trace.
#[test]
fn replay() {
    let seed = std::env::var("SEED").ok().map(|s| s.parse().expect("SEED is a number"));
    let profile = if std::env::var_os("CALM").is_some() { Profile::calm } else { Profile::stormy };
    let report = World::run(seed.unwrap_or(7), profile, None, seed.is_some());
    assert!(report.violation.is_none(), "SEED={}: {:?}", seed.unwrap_or(7), report.violation);
}

#[test]
fn with_a_well_behaved_app_the_wal_restarts_again_and_again_and_no_generation_begins_anew() {
    for seed in 0..60 {
        let report = run(seed, Profile::calm, None);
        assert!(report.violation.is_none(), "SEED={seed}: {:?}", report.violation);
        for (replica, begun) in report.begun.iter().enumerate() {
            assert_eq!(begun[..], [Broken::NoGeneration], "SEED={seed}, replica {replica}");
        }
        let restarts = report.coverage.get("WAL restarted by a writer").copied().unwrap_or(0);
        assert!(restarts >= 2, "SEED={seed}: {restarts} restarts in {} commits", report.commits);
        assert!(report.longest_wal < 400, "SEED={seed}: a WAL of {} frames", report.longest_wal);
        assert_eq!(report.busy, 0, "SEED={seed}: a writer met the agent's lock");
    }
}

#[test]
fn a_replica_that_is_down_does_not_delay_the_other() {
    fn half_down(chance: &mut Chance) -> Profile {
        Profile { second_is_down: true, ..Profile::calm(chance) }
    }
    for seed in 0..40 {
        let report = run(seed, half_down, None);
        assert!(report.violation.is_none(), "SEED={seed}: {:?}", report.violation);
        // The interval, twice the slowest request, and a poll in case the commit was not heard of.
        let most = 1_000 * MS + 2 * SECOND;
        assert!(
            report.worst_lag < most,
            "SEED={seed}: {} µs from commit to acknowledgement",
            report.worst_lag
        );
    }
}

/// The first seed that shows what a broken shell does.
fn caught(mutant: Mutant) -> (u64, &'static str) {
    (0..500)
        .find_map(|seed| run(seed, Profile::stormy, Some(mutant)).violation.map(|v| (seed, v.property)))
        .unwrap_or_else(|| panic!("nothing shows {mutant:?}"))
}

#[test]
fn a_shell_that_acknowledges_before_the_upload_is_caught() {
    let (seed, property) = caught(Mutant::AckBeforeUpload);
    assert!(matches!(property, "P1" | "P2"), "SEED={seed}: {property}");
}

#[test]
fn a_hand_over_that_does_not_look_again_after_its_checkpoint_is_caught() {
    let (seed, property) = caught(Mutant::StaleMarks);
    assert!(matches!(property, "P1" | "P2" | "P3" | "P6"), "SEED={seed}: {property}");
}

#[test]
fn a_hand_over_that_holds_nothing_is_caught() {
    assert_eq!(caught(Mutant::NoCapture).1, "P6");
}

#[test]
fn a_retention_that_forgets_a_base_is_caught() {
    assert_eq!(caught(Mutant::ForgetsBase).1, "P5");
}

#[test]
fn an_ltx_file_without_the_pages_the_database_grew_by_is_caught() {
    assert!(matches!(caught(Mutant::ForgetsGrowth).1, "P1" | "P5"));
}

#[test]
fn a_merge_that_keeps_the_oldest_page_is_caught() {
    assert!(matches!(caught(Mutant::OldestWins).1, "P1" | "P2" | "P5"));
}

#[test]
fn a_merge_that_counts_before_it_is_stored_is_caught() {
    assert!(matches!(caught(Mutant::MergedBeforeUpload).1, "P1" | "P2" | "P5"));
}

/// Each of these has its own way to go wrong.
const MUST_HAPPEN: &[&str] = &[
    "WAL restarted by a writer",
    "WAL truncated by a foreign checkpoint",
    "agent crashed",
    "agent saw another incarnation",
    "app autocheckpoint",
    "app closed and deleted the WAL",
    "app closed beside the agent",
    "app crashed",
    "attachment lost",
    "backlog cut into segments",
    "began: DatabaseReplaced",
    "began: FellBehind",
    "began: HeaderMismatch",
    "began: NoGeneration",
    "began: NoWal",
    "began: TooLong",
    "began: WalOverwritten",
    "began: WalRestarted",
    "began: WalTruncated",
    "checkpoint was busy",
    "database replaced",
    "database shrank",
    "foreign checkpoint",
    "ltx began: DatabaseReplaced",
    "ltx began: FellBehind",
    "ltx began: HeaderMismatch",
    "ltx began: NoGeneration",
    "ltx began: WalOverwritten",
    "ltx began: WalRestarted",
    "ltx began: WalTruncated",
    "ltx: backlog cut into batches",
    "ltx: batch could not be read",
    "ltx: batch from a held tail",
    "ltx: batch repeated",
    "ltx: deleted",
    "ltx: full copy",
    "ltx: grew by a page nobody wrote",
    "ltx: merge failed",
    "ltx: merged into level 1",
    "ltx: merged into level 2",
    "ltx: merged into level 3",
    "ltx: retry found its own file",
    "ltx: snapshot",
    "ltx: went on where another agent stopped",
    "object landed after its writer died",
    "pin was refused",
    "power failed and undid commits",
    "reader stayed",
    "response lost",
    "retention deleted",
    "retention deleted of another generation",
    "retention found the snapshot stale",
    "retry found its own object",
    "round ended: handed over",
    "round ended: not yet",
    "round ended: too large",
    "round: gentle",
    "round: repin",
    "round: sealed",
    "segment ended inside a transaction",
    "segment of a split index",
    "segment repeated",
    "segment shipped from a held tail",
    "stop came to rest",
    "stop ran into its deadline",
    "transaction larger than a segment",
    "transaction rolled back",
    "transaction spilled",
    "validated",
    "weather: Failing",
    "weather: Hanging",
];
