//! Conformance with the real Litestream on the v0.3 layout, in a directory and on a real S3 server: each program
//! restores what the other wrote under load, the latest state and earlier ones, and takes over the other's path.

use std::time::Duration;

use holdfast_tests::oracle::{self, State};
use holdfast_tests::process::{Running, code};
use holdfast_tests::scene::{self, Scene};
use holdfast_tests::tool::Tool::{self, Holdfast, V03, V05};
use holdfast_tests::workload;

/// Litestream syncs on one-second ticks; a busy machine needs some more.
const CATCH_UP: Duration = Duration::from_secs(20);

#[test]
fn both_litestreams_restore_what_we_wrote_to_a_directory() {
    readers_agree(&Scene::on_file(), Holdfast, &[V03, V05, Holdfast]);
}

#[test]
fn both_litestreams_restore_what_we_wrote_to_s3() {
    readers_agree(&Scene::on_s3(), Holdfast, &[V03, V05, Holdfast]);
}

#[test]
fn we_restore_what_litestream_0_3_13_wrote_to_a_directory() {
    readers_agree(&Scene::on_file(), V03, &[Holdfast]);
}

#[test]
fn we_restore_what_litestream_0_3_13_wrote_to_s3() {
    readers_agree(&Scene::on_s3(), V03, &[Holdfast]);
}

#[test]
fn we_take_over_a_directory_litestream_0_3_13_used() {
    path_changes_hands(&Scene::on_file(), V03, Holdfast);
}

#[test]
fn we_take_over_an_s3_prefix_litestream_0_3_13_used() {
    path_changes_hands(&Scene::on_s3(), V03, Holdfast);
}

#[test]
fn litestream_0_3_13_takes_over_a_directory_we_used() {
    path_changes_hands(&Scene::on_file(), Holdfast, V03);
}

#[test]
fn litestream_0_3_13_takes_over_an_s3_prefix_we_used() {
    path_changes_hands(&Scene::on_s3(), Holdfast, V03);
}

/// `by` replicates two bursts with a pause between them; every reader restores the end, the pause, and a moment under load.
fn readers_agree(scene: &Scene, by: Tool, readers: &[Tool]) {
    let mut agent = scene.replicate(by);
    let mut first = scene.writer().args(LOAD).args(["--seconds", "3", "--hold"]).start();
    std::thread::sleep(Duration::from_millis(2500));
    let under_load = Moment::now(scene);
    first.wait_log("the first burst", CATCH_UP, |line| line == "holding");
    let pause = Moment::quiet(scene);

    let mut second = scene.writer().args(LOAD).args(["--seconds", "2", "--hold", "--seed", "2"]).start();
    second.wait_log("the second burst", CATCH_UP, |line| line == "holding");
    let live = oracle::expect_state(&scene.db(), "the live database");
    assert!(live.last > pause.state.last, "the second burst wrote");
    stop(by, &mut agent, scene);

    for reader in readers {
        assert_eq!(scene.restored(*reader, &[]), live, "{reader} restores the end");
        assert_eq!(
            scene.restored(*reader, &["-timestamp", &pause.at]),
            pause.state,
            "{reader} restores the pause"
        );
        let mid = scene.restored(*reader, &["-timestamp", &under_load.at]);
        let committed = under_load.state.last;
        assert!(
            mid.last <= committed,
            "{reader} restores {} rows at a time when {committed} were committed",
            mid.last
        );
    }
}

/// `before` replicates a burst and stops; `after` goes on at the same path. Nothing of either is lost, to any reader.
fn path_changes_hands(scene: &Scene, before: Tool, after: Tool) {
    let mut app = scene.writer().args(LOAD).args(["--seconds", "2", "--hold"]).start();
    let mut agent = scene.replicate(before);
    app.wait_log("the first burst", CATCH_UP, |line| line == "holding");
    let first = Moment::quiet(scene);
    // One more object, so that the moment lies within what 0.3.13 is willing to restore: not after the last one.
    let mut more = scene.writer().args(["--commits", "20", "--hold"]).start();
    more.wait_log("the end of the first burst", CATCH_UP, |line| line == "holding");
    stop(before, &mut agent, scene);

    // Written while nobody watches: must be in what the second agent ships first.
    let mut between = scene.writer().args(["--commits", "50", "--hold"]).start();
    between.wait_log("the writes between", CATCH_UP, |line| line == "holding");
    let mut agent = scene.replicate(after);
    let mut app = scene.writer().args(LOAD).args(["--seconds", "2", "--hold"]).start();
    app.wait_log("the second burst", CATCH_UP, |line| line == "holding");
    let live = oracle::expect_state(&scene.db(), "the live database");
    stop(after, &mut agent, scene);

    for reader in [Holdfast, V03, V05] {
        assert_eq!(scene.restored(reader, &[]), live, "{reader} restores the end");
        let flags = ["-timestamp", &first.at];
        assert_eq!(
            scene.restored(reader, &flags),
            first.state,
            "{reader} restores what {before} had written"
        );
    }
}

/// SIGTERM to an agent whose app is quiet. Ours must prove its final sync at once; 0.3.13 is given time to be idle first,
/// for it may exit 1 when its final sync wants a checkpoint (all data uploaded, `release read lock: context canceled`).
fn stop(tool: Tool, agent: &mut Running, scene: &Scene) {
    let newest = oracle::newest(&scene.db()).expect("the live database has a tally");
    if tool == Holdfast {
        assert_eq!(code(agent.stop(CATCH_UP)), 0, "we stop cleanly:\n{}", agent.log());
    } else {
        scene.caught_up(V03, newest, CATCH_UP);
        agent.stop(CATCH_UP);
    }
}

/// Many small transactions, a large one now and then, pages freed and used again, checkpoints by the app itself.
const LOAD: [&str; 10] =
    ["--rate", "300", "--bytes", "300", "--big-txn", "400", "--keep", "2000", "--autocheckpoint", "200"];

/// A time, and what was committed by then.
struct Moment {
    at: String,
    state: State,
}

impl Moment {
    /// While writes go on: at most this was committed.
    fn now(scene: &Scene) -> Self {
        let at = scene::now();
        let last = workload::truth(&workload::truth_of(&scene.db())).last().map_or(0, |row| row.n);
        // The commit under way may have become visible before its line was written: it counts as committed.
        Self { at, state: State { first: 1, last: last + 400, digest: 0 } }
    }

    /// While nobody writes, once the replica has everything: exactly this.
    fn quiet(scene: &Scene) -> Self {
        let state = oracle::expect_state(&scene.db(), "the live database");
        scene.caught_up(V03, state.last, CATCH_UP);
        let at = scene::now();
        // Objects written from now on are younger, whatever the clock of the store rounds to.
        std::thread::sleep(Duration::from_millis(50));
        Self { at, state }
    }
}
