//! The agent on the services it writes to, end to end: an outage under load loses nothing, and each way a service can
//! refuse has its exit code. Azurite, from which the real Litestreams restore, too, and the emulation of Google Cloud
//! Storage; S3 has tests of its own.

use std::time::Duration;

use holdfast_tests::azurite::Azurite;
use holdfast_tests::gcs::Gcs;
use holdfast_tests::oracle::{self, State};
use holdfast_tests::process;
use holdfast_tests::replica::Replica;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::{Holdfast, V03, V05};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_outage_of_azure_loses_nothing() {
    let mut azurite = Azurite::start();
    for (format, theirs) in [("format: v0.3", V03), ("format: ltx", V05)] {
        let mut scene = Scene::on_file();
        scene.replica = Replica::on_abs(&azurite, &prefix(format));
        let live = survives(&scene, format, &mut azurite, Azurite::stop, Azurite::start_again);
        assert_eq!(scene.restored(theirs, &[]), live, "{format}");
    }
}

#[test]
fn what_the_real_litestreams_write_to_azure_restores() {
    let azurite = Azurite::start();
    for tool in [V03, V05] {
        let mut scene = Scene::on_file();
        scene.replica = Replica::on_abs(&azurite, &tool.to_string());
        scene.configure(&[], &["sync-interval: 100ms"]);
        let mut theirs = scene.replicate(tool);
        let mut writer = scene.writer().args(["--rate", "100", "--commits", "300"]).start();
        assert!(writer.wait(SOON).success(), "{}", writer.log());
        let live = oracle::expect_state(&scene.db(), "the live database");
        scene.caught_up(Holdfast, live.last, SOON);
        theirs.stop(SOON);
        assert_eq!(scene.restored(Holdfast, &[]), live, "{tool}");
    }
}

#[test]
fn an_outage_of_emulated_google_loses_nothing() {
    let mut gcs = Gcs::start();
    for format in ["format: v0.3", "format: ltx"] {
        let mut scene = Scene::on_file();
        scene.replica = Replica::on_gcs(&gcs, &scene.dir().join("key.json"), &prefix(format));
        survives(&scene, format, &mut gcs, Gcs::stop, Gcs::start_again);
    }
}

#[test]
fn each_refusal_of_azure_has_its_exit_code() {
    let mut azurite = Azurite::start();
    let mut scene = Scene::on_file();
    let good = Replica::on_abs(&azurite, "nothing/here");
    let changed = |change: fn(&mut String, &mut String)| {
        let Replica::Abs { account, mut key, mut container, endpoint, prefix } = good.clone() else {
            unreachable!("it is on Azure")
        };
        change(&mut key, &mut container);
        Replica::Abs { account, key, container, endpoint, prefix }
    };
    let wrong_key = changed(|key, _| *key = "d3JvbmcgYnV0IGJhc2U2NA==".into());
    refused(&mut scene, &good, 66, "is empty");
    refused(&mut scene, &wrong_key, 77, "access denied");
    refused(&mut scene, &changed(|key, _| *key = "not base64!".into()), 78, "not base64");
    refused(
        &mut scene,
        &changed(|_, container| *container = "nowhere".into()),
        78,
        "no such bucket: ContainerNotFound",
    );
    azurite.stop();
    refused(&mut scene, &good, 69, "unavailable");
}

#[test]
fn each_refusal_of_emulated_google_has_its_exit_code() {
    let mut gcs = Gcs::start();
    let mut scene = Scene::on_file();
    let key = scene.dir().join("key.json");
    let good = Replica::on_gcs(&gcs, &key, "nothing/here");
    let Replica::Gcs { endpoint, prefix, .. } = good.clone() else { unreachable!("it is on Google") };
    let nowhere = Replica::Gcs { bucket: "nowhere".into(), endpoint, key: key.clone(), prefix };
    refused(&mut scene, &good, 66, "is empty");
    refused(&mut scene, &nowhere, 78, "no such bucket: NoSuchBucket");
    std::fs::write(&key, Gcs::wrong_key()).expect("write the key");
    refused(&mut scene, &good, 77, "access denied");
    std::fs::write(&key, r#"{"type": "external_account"}"#).expect("write the key");
    refused(&mut scene, &good, 78, "external_account");
    std::fs::remove_file(&key).expect("remove the key");
    refused(&mut scene, &good, 78, "key.json: No such file");
    gcs.write_key(&key);
    gcs.stop();
    refused(&mut scene, &good, 69, "unavailable");
}

/// Without a key it is the machine's account that asks: workload identity.
#[test]
fn a_machine_of_emulated_google_needs_no_key() {
    let gcs = Gcs::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("gs://{}/nothing/here?endpoint={}", gcs.bucket, gcs.endpoint());
    let restore = |metadata: &str| {
        let mut command = Holdfast.command("restore");
        command
            .env("HOME", dir.path())
            .envs([("GCE_METADATA_HOST", metadata), ("GCE_METADATA_IP", metadata)]);
        process::run(command.arg("-o").arg(dir.path().join("app.db")).arg(&url), SOON)
    };
    let said = restore(&gcs.host());
    assert_eq!(said.code, 66, "{}", said.stderr);
    // A machine without an account.
    let said = restore(&format!("{}/nowhere", gcs.host()));
    assert_eq!(said.code, 77, "{}", said.stderr);
    assert!(said.stderr.contains("access denied: no credentials from 127.0.0.1"), "{}", said.stderr);
}

/// Replicates under load over an outage of three seconds; what restores at the end is what was committed.
fn survives<S>(scene: &Scene, format: &str, server: &mut S, stop: fn(&mut S), start: fn(&mut S)) -> State {
    scene.configure(&["min-checkpoint-page-count: 100"], &["sync-interval: 50ms", format]);
    let mut writer = scene.writer().args(["--rate", "200", "--big-txn", "2000"]).start();
    let mut agent = scene.agent();
    agent.ready(SOON);
    std::thread::sleep(Duration::from_secs(2));
    stop(server);
    std::thread::sleep(Duration::from_secs(3));
    start(server);
    std::thread::sleep(Duration::from_secs(1));
    writer.stop(SOON);
    let live = oracle::expect_state(&scene.db(), "the live database");
    let drained = agent.drain(SOON);
    assert!(drained.ok, "{format}: the final sync is proven: {drained:?}\n{}", agent.log());
    assert!(agent.exit(SOON).success(), "{}", agent.log());
    assert!(live.last > 400, "there was load: {live:?}");
    assert_eq!(scene.restored(Holdfast, &[]), live, "{format}");
    live
}

#[track_caller]
fn refused(scene: &mut Scene, replica: &Replica, code: i32, says: &str) {
    scene.replica = replica.clone();
    scene.configure(&[], &[]);
    let (said, out) = scene.restore(Holdfast, &[]);
    assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains(says), "{says}: {}", said.stderr);
    assert!(!out.exists());
    assert!(!said.stderr.contains("PRIVATE") && !said.stderr.contains("d3JvbmcgYnV0"), "{}", said.stderr);
}

fn prefix(format: &str) -> String {
    format!("station/{}", format.trim_start_matches("format: "))
}
