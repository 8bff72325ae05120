//! We restore what the real Litestream 0.5.17 wrote, while it compacted and pruned, to the bytes it restores itself:
//! every transaction there is or was, and moments in between; from a directory and from a real S3 server.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_tests::oracle;
use holdfast_tests::process;
use holdfast_tests::scene::{self, Scene};
use holdfast_tests::tool::Tool::{Holdfast, V05};
use serde_json::Value;

const CATCH_UP: Duration = Duration::from_secs(20);

#[test]
fn from_a_directory() {
    we_agree_on(&Scene::on_file());
}

#[test]
fn from_s3() {
    we_agree_on(&Scene::on_s3());
}

fn we_agree_on(scene: &Scene) {
    let mut config = std::fs::read_to_string(scene.config()).expect("the configuration");
    config.push_str(HURRY);
    std::fs::write(scene.config(), config).expect("write the configuration");
    let mut agent = scene.replicate(V05);
    let mut times = vec![scene::now()];
    let mut app = scene.writer().args(LOAD).args(["--seconds", "9", "--hold"]).start();
    for _ in 0..9 {
        std::thread::sleep(Duration::from_secs(1));
        times.push(scene::now());
    }
    app.wait_log("the end of the load", CATCH_UP, |line| line == "holding");
    let live = oracle::expect_state(&scene.db(), "the live database");
    scene.caught_up(V05, live.last, CATCH_UP);
    agent.stop(CATCH_UP);

    let files = listed(scene, "ltx");
    let levels: BTreeSet<_> = files.iter().map(|f| f["level"].as_u64()).collect();
    assert!(levels.len() >= 4, "levels and snapshots were written: {levels:?}");
    assert_eq!(scene.restored(Holdfast, &[]), live, "the end");
    same(scene, &[]);
    let txid = |f: &Value, key: &str| f[key].as_str().and_then(|t| u64::from_str_radix(t, 16).ok());
    let last = files.iter().filter_map(|f| txid(f, "max_txid")).max().expect("there are files");
    let txids = (1..=last + 1).map(|n| format!("{n:016x}"));
    let restored: BTreeSet<String> = txids.filter(|txid| same(scene, &["-txid", txid])).collect();
    assert!(restored.len() >= 4, "{} of {last} transactions", restored.len());
    let points = listed(scene, "restore-points");
    let points = points.iter().filter_map(|p| Some(p["position"].as_str()?.to_owned()));
    assert_eq!(points.collect::<BTreeSet<_>>(), restored, "exactly these are listed");
    let restored = times.iter().filter(|time| same(scene, &["-timestamp", time])).count();
    assert!(restored >= 4, "{restored} of {} moments", times.len());
}

/// Both restore the same bytes, or neither restores. Says which.
#[track_caller]
fn same(scene: &Scene, flags: &[&str]) -> bool {
    let (ours, our_db) = scene.restore(Holdfast, flags);
    let (theirs, their_db) = scene.restore(V05, flags);
    let said =
        || format!("{flags:?}: ours {}{}, theirs {}{}", ours.code, ours.stderr, theirs.code, theirs.stderr);
    assert_eq!(ours.code == 0, theirs.code == 0, "{}", said());
    if ours.code != 0 {
        assert_eq!(ours.code, 76, "{}", said());
        return false;
    }
    let read = |path| std::fs::read(path).expect("a restored database");
    assert!(read(&our_db) == read(&their_db), "{flags:?}: other bytes");
    true
}

/// What one of our commands lists.
fn listed(scene: &Scene, name: &str) -> Vec<Value> {
    let mut command = Holdfast.command(name);
    command.args(["-json", "-config"]).arg(scene.config()).arg(scene.db());
    let listed = process::run(&mut command, CATCH_UP).expect_success(name);
    match serde_json::from_str(&listed.stdout) {
        Ok(Value::Array(files)) => files,
        other => panic!("{other:?}: {}", listed.stdout),
    }
}

/// Compacts within seconds what usually takes hours, and prunes it.
const HURRY: &str = "
levels:
  - interval: 1s
  - interval: 3s
snapshot: {interval: 4s, retention: 6s}
l0-retention: 2s
l0-retention-check-interval: 1s
";
/// Many small transactions, a large one now and then, pages freed and used again, checkpoints by the app itself.
const LOAD: [&str; 10] =
    ["--rate", "300", "--bytes", "300", "--big-txn", "400", "--keep", "2000", "--autocheckpoint", "200"];
