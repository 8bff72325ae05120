//! What the agent needs to be allowed, and what it asks for: an emulation of S3 that checks policies, its log of
//! requests, and the emulation of Google Cloud Storage.

use std::time::{Duration, Instant};

use holdfast_tests::azurite::Azurite;
use holdfast_tests::gcs::Gcs;
use holdfast_tests::moto::Moto;
use holdfast_tests::oracle;
use holdfast_tests::proxy::Proxy;
use holdfast_tests::rclone::Rclone;
use holdfast_tests::replica::Replica;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::{Holdfast, V03};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// The policy of Station's documentation.
#[test]
fn get_put_delete_and_list_are_enough_and_nothing_else_is_asked() {
    let moto = Moto::start();
    let user = moto.user_with(
        "station",
        &json!([
            { "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
              "Resource": "arn:aws:s3:::holdfast/*" },
            { "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::holdfast" },
        ]),
    );
    let mut scene = Scene::on_file();
    scene.replica = Replica::on_moto(&moto, &user, "station-db");
    scene.configure(
        &[],
        &["sync-interval: 50ms", "retention: 3s", "retention-check-interval: 1s", "snapshot-interval: 2s"],
    );
    let mut writer = scene.writer().args(["--rate", "50"]).start();
    let mut agent = scene.agent();
    agent.ready(SOON);
    let until = Instant::now() + SOON;
    while !agent.log().contains("retention enforced") {
        assert!(Instant::now() < until, "nothing is deleted:\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    writer.stop(SOON);
    let live = oracle::expect_state(&scene.db(), "the live database");
    assert!(agent.drain(SOON).ok, "{}", agent.log());
    agent.exit(SOON);
    let requests = moto.requests();
    assert_eq!(scene.restored(Holdfast, &[]), live);
    assert!(!agent.log().contains("denied"), "{}", agent.log());
    assert!(requests.iter().any(|r| r.contains("list-type=2")), "the log shows what is asked: {requests:?}");
    let strange = |r: &&String| {
        r.starts_with("HEAD /holdfast ")
            || r.ends_with("/holdfast")
            || r.contains("location")
            || r.contains("?acl")
    };
    // The bucket itself was made by the test.
    let strange: Vec<_> = requests.iter().filter(strange).filter(|r| *r != "PUT /holdfast").collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn a_writer_that_may_only_put_and_get_replicates() {
    let moto = Moto::start();
    let user = moto.user("writer", &["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::holdfast/*");
    let mut scene = Scene::on_file();
    scene.replica = Replica::on_moto(&moto, &user, "station-db");
    scene.configure(&[], &["sync-interval: 50ms"]);
    let mut last = None;
    for start in 0..2 {
        let mut writer = scene.writer().args(["--rate", "100", "--commits", "100"]).start();
        let mut agent = scene.agent();
        agent.ready(SOON);
        assert!(writer.wait(SOON).success(), "{}", writer.log());
        let live = oracle::expect_state(&scene.db(), "the live database");
        let drained = agent.drain(SOON);
        assert!(drained.ok, "start {start}: {drained:?}\n{}", agent.log());
        agent.exit(SOON);
        assert!(agent.log().contains("may not be listed"), "{}", agent.log());
        last = Some(live);
    }
    scene.replica = Replica::on_moto(&moto, &moto.admin, "station-db");
    scene.configure(&[], &[]);
    assert_eq!(Some(scene.restored(Holdfast, &[])), last);
    assert_eq!(Some(scene.restored(V03, &[])), last);
}

/// Four agents at once, because most of this is waiting.
#[test]
fn an_idle_database_asks_for_nothing() {
    let (moto, gcs, azurite) = (Moto::start(), Gcs::start(), Azurite::start());
    let to_azurite = Proxy::to(&azurite.endpoint());
    let keys = tempfile::tempdir().expect("a directory");
    let key = keys.path().join("key.json");
    let mut on_azure = Replica::on_abs(&azurite, "idle");
    if let Replica::Abs { endpoint, .. } = &mut on_azure {
        *endpoint = to_azurite.endpoint(&azurite.endpoint());
    }
    let replicas = [
        (Replica::on_moto(&moto, &moto.admin, "idle-v0.3"), "format: v0.3"),
        (Replica::on_gcs(&gcs, &key, "idle"), "format: v0.3"),
        (on_azure, "format: v0.3"),
        (Replica::on_moto(&moto, &moto.admin, "idle-ltx"), "format: ltx"),
    ];
    let mut running: Vec<_> = replicas
        .into_iter()
        .map(|(replica, format)| {
            let mut scene = Scene::on_file();
            scene.replica = replica;
            // Whatever merging and forgetting there is to do is done within seconds.
            let ltx = ["levels: [{interval: 1s}]", "l0-retention: 1s", "l0-retention-check-interval: 500ms"];
            let top: &[&str] = if format == "format: ltx" { &ltx } else { &[] };
            scene.configure_all(top, &[], &["sync-interval: 50ms", format]);
            let mut writer = scene.writer().args(["--rate", "100", "--commits", "50"]).start();
            let agent = scene.agent();
            agent.ready(SOON);
            assert!(writer.wait(SOON).success(), "{}", writer.log());
            let end = agent.status().map_or(0, |s| s.wal_end);
            agent.acknowledged(end, Instant::now(), SOON);
            (scene, agent)
        })
        .collect();
    // The bases are up, their answers are in, what was merged is forgotten.
    std::thread::sleep(Duration::from_secs(5));
    let asked = || [moto.requests().len(), gcs.requests().len(), to_azurite.requests().len()];
    let before = asked();
    assert!(before.iter().all(|n| *n > 10), "the logs show what is asked: {before:?}");
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(asked(), before, "{:?}", moto.requests());
    for (_, agent) in &mut running {
        assert!(agent.drain(SOON).ok, "{}", agent.log());
        agent.exit(SOON);
    }
}

#[test]
fn a_server_that_replaces_what_exists_is_said_to_once_and_replicated_to() {
    let rclone = Rclone::start();
    let mut scene = Scene::on_file();
    scene.replica = Replica::on_rclone(&rclone, "station-db");
    scene.configure(&["min-checkpoint-page-count: 100"], &["sync-interval: 50ms"]);
    let mut writer = scene.writer().args(["--rate", "100", "--big-txn", "2000"]).start();
    let mut agent = scene.agent();
    agent.ready(SOON);
    std::thread::sleep(Duration::from_secs(3));
    writer.stop(SOON);
    let live = oracle::expect_state(&scene.db(), "the live database");
    assert!(agent.drain(SOON).ok, "{}", agent.log());
    agent.exit(SOON);
    let remarks = agent.status().map(|status| status.remarks).unwrap_or_default();
    assert!(remarks.len() == 1 && remarks[0].contains("ignores \"create only if absent\""), "{remarks:?}");
    let log = agent.log();
    assert_eq!(log.matches("create only if absent").count(), 1, "{log}");
    assert_eq!(scene.restored(Holdfast, &[]), live);
}
