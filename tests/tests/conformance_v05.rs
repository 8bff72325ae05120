//! Conformance with the real Litestream 0.5.17 on LTX files, in a directory and on a real S3 server: it restores what
//! we wrote while levels, snapshots and retention ran, and each program goes on where the other stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_tests::oracle;
use holdfast_tests::process::{self, code};
use holdfast_tests::scene::{self, Scene};
use holdfast_tests::tool::Tool::{self, Holdfast, V03, V05};

/// Litestream syncs on one-second ticks; a busy machine needs some more.
const CATCH_UP: Duration = Duration::from_secs(30);
/// Longer than an interval of level 1: what is restorable for long is the end of one, and nothing after a pause is merged
/// with what was before it.
const PAUSE: Duration = Duration::from_millis(2500);

#[test]
fn litestream_0_5_17_restores_what_we_wrote_to_a_directory() {
    it_restores_ours(&Scene::on_file(), "block");
}

#[test]
fn litestream_0_5_17_restores_what_we_wrote_to_s3() {
    it_restores_ours(&Scene::on_s3(), "block");
}

#[test]
fn litestream_0_5_17_restores_pages_we_wrote_as_frames() {
    it_restores_ours(&Scene::on_file(), "frame");
}

#[test]
fn we_go_on_in_a_directory_litestream_0_5_17_used() {
    path_changes_hands(&Scene::on_file(), V05, Holdfast);
}

#[test]
fn we_go_on_at_an_s3_prefix_litestream_0_5_17_used() {
    path_changes_hands(&Scene::on_s3(), V05, Holdfast);
}

#[test]
fn litestream_0_5_17_goes_on_in_a_directory_we_used() {
    path_changes_hands(&Scene::on_file(), Holdfast, V05);
}

#[test]
fn litestream_0_5_17_goes_on_at_an_s3_prefix_we_used() {
    path_changes_hands(&Scene::on_s3(), Holdfast, V05);
}

/// We replicate bursts of inserts, deletes and large transactions with checkpoints in between, while levels merge,
/// snapshots are made and uploads expire. Litestream restores the end, the pauses, moments under load, and every
/// transaction it can see.
fn it_restores_ours(scene: &Scene, encoding: &str) {
    configure(scene, &["format: ltx", &format!("ltx-page-encoding: {encoding}")]);
    let mut agent = scene.replicate(Holdfast);
    let mut pauses = Vec::new();
    let mut writers = Vec::new();
    for seed in ["1", "2", "3"] {
        let mut writer = scene.writer().args(LOAD).args(["--seconds", "3", "--hold", "--seed", seed]).start();
        writer.wait_log("a burst", CATCH_UP, |line| line == "holding");
        writers.push(writer);
        let state = oracle::expect_state(&scene.db(), "the live database");
        scene.caught_up(V05, state.last, CATCH_UP);
        std::thread::sleep(PAUSE);
        pauses.push((scene::now(), state));
    }
    // Shrinks, and grows again: pages of the freelist are nowhere in the WAL.
    let db = rusqlite::Connection::open(scene.db()).expect("the database");
    db.busy_timeout(CATCH_UP).expect("a time to wait");
    db.execute_batch(
        "CREATE TABLE big (body); INSERT INTO big SELECT randomblob(3000) FROM rows LIMIT 900; DROP TABLE big; VACUUM;
         BEGIN; CREATE TABLE big (body); INSERT INTO big VALUES (zeroblob(900000)); DELETE FROM big;
         INSERT INTO big VALUES (1); COMMIT;",
    )
    .expect("growing and shrinking");
    let live = oracle::expect_state(&scene.db(), "the live database");
    // Uploads of the first bursts expire now, and what is left is merged.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(code(agent.stop(CATCH_UP)), 0, "we stop cleanly:\n{}", agent.log());

    for done in ["level=1", "level=2", "level=9", "retention enforced"] {
        assert!(agent.log().contains(done), "{done}:\n{}", agent.log());
    }
    assert!(!agent.log().contains("trying again"), "nothing failed:\n{}", agent.log());
    for reader in [V05, Holdfast] {
        assert_eq!(scene.restored(reader, &[]), live, "{reader} restores the end");
        for (at, state) in &pauses {
            assert_eq!(scene.restored(reader, &["-timestamp", at]), *state, "{reader} as of {at}");
        }
    }
    let mut before = 0;
    let ends: BTreeSet<u64> = files(scene).iter().map(|f| f.max).collect();
    let mut restored = 0;
    for end in ends {
        let (said, out) = scene.restore(V05, &["-txid", &format!("{end:016x}")]);
        assert_eq!(said.code, 0, "{end:016x}: {}{}", said.stdout, said.stderr);
        // The first transactions are older than the writer's tables.
        let Some(newest) = oracle::newest(&out) else { continue };
        let state = oracle::expect_state(&out, &format!("transaction {end:016x}"));
        assert!(newest >= before, "transaction {end:016x} is row {newest} after {before}");
        assert!(state.last <= live.last);
        (before, restored) = (newest, restored + 1);
    }
    assert!(restored > 3, "{restored} transactions restored");
}

/// `before` replicates a burst and stops; `after` goes on at the same path, which says itself what it holds. Nothing of
/// either is lost, no number is used twice.
fn path_changes_hands(scene: &Scene, before: Tool, after: Tool) {
    configure(scene, if before == Holdfast { &["format: ltx"] } else { &[] });
    let mut app = scene.writer().args(LOAD).args(["--seconds", "2", "--hold"]).start();
    let mut agent = scene.replicate(before);
    app.wait_log("the first burst", CATCH_UP, |line| line == "holding");
    let first = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V05, first.last, CATCH_UP);
    std::thread::sleep(PAUSE);
    let at = scene::now();
    agent.stop(CATCH_UP);
    let held = numbers(scene);

    // Written while nobody watches: must be in what the second agent ships first.
    configure(scene, &[]);
    let mut between = scene.writer().args(["--commits", "50", "--hold"]).start();
    between.wait_log("the writes between", CATCH_UP, |line| line == "holding");
    let mut agent = scene.replicate(after);
    let mut app = scene.writer().args(LOAD).args(["--seconds", "3", "--hold"]).start();
    app.wait_log("the second burst", CATCH_UP, |line| line == "holding");
    let live = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V05, live.last, CATCH_UP);
    agent.stop(CATCH_UP);

    for reader in [V05, Holdfast] {
        assert_eq!(scene.restored(reader, &[]), live, "{reader} restores the end");
        let earlier = scene.restored(reader, &["-timestamp", &at]);
        assert_eq!(earlier, first, "{reader} restores what {before} had written");
    }
    let uploads: Vec<u64> = numbers(scene).difference(&held).copied().collect();
    let highest = held.last().copied().unwrap_or(0);
    assert!(uploads.iter().all(|n| *n > highest), "{after} goes on after {highest}: {uploads:?}");
    assert!(held.is_empty() || !uploads.is_empty(), "{after} wrote something");
}

#[test]
fn we_go_on_where_we_stopped_without_a_new_copy() {
    let scene = Scene::on_file();
    configure(&scene, &["format: ltx"]);
    let mut app = scene.writer().args(LOAD).args(["--seconds", "1", "--hold"]).start();
    for round in 0..3 {
        let mut agent = scene.replicate(Holdfast);
        if round == 0 {
            app.wait_log("the burst", CATCH_UP, |line| line == "holding");
        }
        let mut more = scene.writer().args(["--commits", "30", "--hold"]).start();
        more.wait_log("some more", CATCH_UP, |line| line == "holding");
        let live = oracle::expect_state(&scene.db(), "the live database");
        scene.caught_up(V05, live.last, CATCH_UP);
        assert_eq!(code(agent.stop(CATCH_UP)), 0, "{}", agent.log());
    }
    let log = std::fs::read_to_string(scene.dir().join("agent.log")).expect("a log");
    assert_eq!(log.matches("sync: full copy").count(), 1, "only the first base:\n{log}");
}

#[test]
fn changing_the_layout_begins_with_a_copy_and_leaves_the_old_chain_restorable() {
    let scene = Scene::on_file();
    let mut app = scene.writer().args(LOAD).args(["--seconds", "1", "--hold"]).start();
    app.wait_log("the burst", CATCH_UP, |line| line == "holding");
    let mut agent = scene.replicate(Holdfast);
    let old = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V03, old.last, CATCH_UP);
    assert_eq!(code(agent.stop(CATCH_UP)), 0, "{}", agent.log());

    configure(&scene, &["format: ltx"]);
    let mut dry = Holdfast.command("replicate");
    dry.arg("-config").arg(scene.config()).args(["-dry-run", "-json"]);
    let said = dry.output().expect("a dry run");
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!((&said[0]["generations"], &said[0]["layout"]), (&1.into(), &"ltx".into()), "{said}");
    let would = "change the layout: begin with a full copy as transaction 1; the generations stay restorable";
    assert_eq!(said[0]["would"], would);
    assert!(numbers(&scene).is_empty(), "a dry run writes nothing");
    let mut agent = scene.replicate(Holdfast);
    let mut more = scene.writer().args(["--commits", "30", "--hold"]).start();
    more.wait_log("some more", CATCH_UP, |line| line == "holding");
    let new = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V05, new.last, CATCH_UP);
    assert_eq!(code(agent.stop(CATCH_UP)), 0, "{}", agent.log());
    assert!(agent.log().contains("change the layout"), "{}", agent.log());
    assert_eq!(scene.restored(V05, &[]), new);
    assert_eq!(scene.restored(V03, &[]), old, "the generations are as they were");
    assert_eq!(numbers(&scene).first(), Some(&1));
    let highest = numbers(&scene).last().map(|n| format!("{n:016x}")).expect("an upload");

    // And back: the younger chain is what restores, the other one by its number.
    configure(&scene, &["format: v0.3"]);
    let mut agent = scene.replicate(Holdfast);
    let mut more = scene.writer().args(["--commits", "30", "--hold"]).start();
    more.wait_log("some more", CATCH_UP, |line| line == "holding");
    let newest = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V03, newest.last, CATCH_UP);
    assert_eq!(code(agent.stop(CATCH_UP)), 0, "{}", agent.log());
    for reader in [V03, V05, Holdfast] {
        assert_eq!(scene.restored(reader, &[]), newest, "{reader} restores the younger chain");
    }
    for reader in [V05, Holdfast] {
        assert_eq!(scene.restored(reader, &["-txid", &highest]), new, "{reader} restores the LTX files");
    }
}

#[test]
fn a_database_that_comes_back_with_another_page_size_restores_before_and_after() {
    let scene = Scene::on_file();
    configure(&scene, &["format: ltx"]);
    let mut agent = scene.replicate(Holdfast);
    assert!(scene.writer().args(["--commits", "200"]).start().wait(CATCH_UP).success());
    let before = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V05, before.last, CATCH_UP);
    assert_eq!(code(agent.stop(CATCH_UP)), 0, "{}", agent.log());
    std::thread::sleep(PAUSE);
    let at = scene::now();

    let db = rusqlite::Connection::open(scene.db()).expect("the database");
    db.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL;")
        .expect("another page size");
    drop(db);
    let mut agent = scene.replicate(Holdfast);
    assert!(scene.writer().args(["--commits", "200"]).start().wait(CATCH_UP).success());
    let after = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V05, after.last, CATCH_UP);
    // Levels merge across the change.
    std::thread::sleep(PAUSE + PAUSE);
    assert_eq!(code(agent.stop(CATCH_UP)), 0, "{}", agent.log());
    assert!(!agent.log().contains("trying again"), "nothing failed:\n{}", agent.log());
    for reader in [V05, Holdfast] {
        assert_eq!(scene.restored(reader, &[]), after, "{reader} restores the end");
        assert_eq!(scene.restored(reader, &["-timestamp", &at]), before, "{reader} as of before the change");
    }
}

/// Many small transactions, a large one now and then, pages freed and used again, checkpoints by the app itself.
const LOAD: [&str; 10] =
    ["--rate", "200", "--bytes", "300", "--big-txn", "400", "--keep", "2000", "--autocheckpoint", "200"];

/// Levels, snapshots and retention at a pace a test can watch.
fn configure(scene: &Scene, on_replica: &[&str]) {
    let pace = [
        "levels: [{interval: 1s}, {interval: 3s}]",
        "snapshot: {interval: 5s, retention: 10m}",
        "l0-retention: 2s",
        "l0-retention-check-interval: 500ms",
    ];
    scene.configure_all(&pace, &[], &[&["sync-interval: 200ms"], on_replica].concat());
}

/// A file of the replica, by its name.
struct Ltx {
    level: u64,
    min: u64,
    max: u64,
}

/// Every file, as Litestream lists them.
fn files(scene: &Scene) -> Vec<Ltx> {
    let mut command = V05.command("ltx");
    command.args(["-level", "all", "-json", "-config"]).arg(scene.config()).arg(scene.db());
    let said = process::run(&mut command, CATCH_UP).expect_success("litestream ltx");
    let list: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let number = |file: &serde_json::Value, key: &str| {
        u64::from_str_radix(file[key].as_str().expect("a text"), 16).expect("hex")
    };
    let one = |file: &serde_json::Value| Ltx {
        level: file["level"].as_u64().expect("a number"),
        min: number(file, "min_txid"),
        max: number(file, "max_txid"),
    };
    list.as_array().expect("a list").iter().map(one).collect()
}

/// The uploads, which have one number each.
fn numbers(scene: &Scene) -> BTreeSet<u64> {
    let uploads = files(scene).into_iter().filter(|f| f.level == 0);
    uploads.inspect(|f| assert_eq!(f.min, f.max, "one number each")).map(|f| f.max).collect()
}
