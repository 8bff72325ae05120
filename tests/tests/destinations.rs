//! The agent on the services it writes to, end to end: an outage under load loses nothing, and each way a service can
//! refuse has its exit code. Azurite and OpenSSH, from which the real Litestreams restore, too, and the emulation of
//! Google Cloud Storage; S3 has tests of its own.

use std::path::Path;
use std::time::Duration;

use holdfast_tests::azurite::Azurite;
use holdfast_tests::gcs::Gcs;
use holdfast_tests::oracle::{self, State};
use holdfast_tests::process;
use holdfast_tests::replica::Replica;
use holdfast_tests::scene::Scene;
use holdfast_tests::sshd::Sshd;
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

#[test]
fn an_outage_of_sftp_loses_nothing() {
    let mut sshd = Sshd::start();
    for (format, theirs, key) in [("format: v0.3", V03, "ed25519"), ("format: ltx", V05, "rsa")] {
        let mut scene = Scene::on_file();
        scene.replica = Replica::on_sftp(&sshd, &prefix(format), key);
        let live = survives(&scene, format, &mut sshd, Sshd::stop, Sshd::start_again);
        assert_eq!(scene.restored(theirs, &[]), live, "{format}");
    }
}

#[test]
fn what_the_real_litestreams_write_by_sftp_restores() {
    let sshd = Sshd::start();
    for tool in [V03, V05] {
        let mut scene = Scene::on_file();
        scene.replica = Replica::on_sftp(&sshd, &tool.to_string(), "ecdsa");
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
fn each_refusal_of_sftp_has_its_exit_code() {
    let mut sshd = Sshd::start();
    let mut scene = Scene::on_file();
    let good = Replica::on_sftp(&sshd, "nothing/here", "ed25519");
    let key = |path: &Path| with_keys(&good, &[format!("key-path: {}", path.display()), host_key(&sshd)]);
    refused(&mut scene, &good, 66, "is empty");
    refused(&mut scene, &key(&sshd.new_key("other", "", "ed25519")), 77, "does not let");
    refused(&mut scene, &key(&sshd.new_key("locked", "hunter2", "ed25519")), 78, "it has a passphrase");
    refused(&mut scene, &key(Path::new("/nowhere/key")), 78, "/nowhere/key: No such file");
    let config = scene.config();
    refused(&mut scene, &key(&config), 78, "it is not a private key");
    let password = with_keys(&good, &["password: hunter2".into(), host_key(&sshd)]);
    refused(&mut scene, &password, 77, "with the password; it takes publickey, password");
    assert!(sshd.log().contains("Failed password"), "it was tried: {}", sshd.log());
    std::fs::write(sshd.root().join("file"), "not a directory").expect("write a file");
    refused(&mut scene, &Replica::on_sftp(&sshd, "file", "ed25519"), 78, "/file is not a directory");
    sshd.stop();
    refused(&mut scene, &good, 69, "unavailable: Connection refused");
}

#[test]
fn a_password_opens_an_sftp_server() {
    if !nix::unistd::Uid::current().is_root() {
        eprintln!("SKIPPED, nothing was tested: only root can give a server passwords of its own");
        return;
    }
    let sshd = Sshd::with_password();
    let mut scene = Scene::on_file();
    let key = Replica::on_sftp(&sshd, "password", "ed25519");
    scene.replica = with_keys(&key, &["password: hunter2".into(), host_key(&sshd)]);
    scene.configure(&[], &["sync-interval: 50ms"]);
    let mut writer = scene.writer().args(["--rate", "200", "--commits", "100"]).start();
    let mut agent = scene.agent();
    agent.ready(SOON);
    assert!(writer.wait(SOON).success(), "{}", writer.log());
    let live = oracle::expect_state(&scene.db(), "the live database");
    assert!(agent.drain(SOON).ok, "{}", agent.log());
    agent.exit(SOON);
    assert_eq!(scene.restored(Holdfast, &[]), live);
    assert!(sshd.log().contains("Accepted password") && !sshd.log().contains("Accepted publickey"));
}

/// Nothing is said of us, no password above all, before the server has shown the key that is known.
#[test]
fn a_server_by_sftp_has_to_be_known() {
    let mut sshd = Sshd::start();
    let scene = Scene::on_file();
    let home = scene.dir().join("home");
    let known_hosts = home.join(".ssh/known_hosts");
    std::fs::create_dir_all(home.join(".ssh")).expect("a home directory");
    let url = format!("sftp://{}:hunter2@127.0.0.1:{}{}", sshd.user, sshd.port, sshd.root().display());
    let restore = |key: Option<&Path>| {
        let mut command = Holdfast.command("restore");
        command.env("HOME", &home);
        if let Some(key) = key {
            command.env("LITESTREAM_SFTP_KEY_PATH", key);
        }
        let url = if key.is_some() { url.replace(":hunter2@", "@") } else { url.clone() };
        let said = process::run(command.arg("-o").arg(scene.dir().join("out.db")).arg(url), SOON);
        assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
        said
    };
    let said = restore(None);
    assert_eq!(said.code, 77, "{}", said.stderr);
    let line = format!("[127.0.0.1]:{} {}", sshd.port, sshd.host_key());
    let advice = format!("the line `{line}` to {}", known_hosts.display());
    assert!(said.stderr.contains(&advice), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("add `{}`", host_key(&sshd))), "{}", said.stderr);

    // What it advises works, by hand as by OpenSSH's own program, which hashes the names on Debian.
    std::fs::write(&known_hosts, format!("{line}\n")).expect("write the line");
    let key = sshd.key("ed25519");
    assert_eq!(restore(Some(&key)).code, 66);
    let mut keygen = process::command("ssh-keygen");
    process::run(keygen.args(["-H", "-f"]).arg(&known_hosts), SOON).expect_success("hash the name");
    let hashed = std::fs::read_to_string(&known_hosts).expect("the file");
    assert!(hashed.starts_with("|1|"), "{hashed}");
    assert_eq!(restore(Some(&key)).code, 66);
    std::fs::write(&known_hosts, format!("{hashed}@revoked * {}\n", sshd.host_key())).expect("revoke it");
    let said = restore(Some(&key));
    assert_eq!(said.code, 77, "{}", said.stderr);
    assert!(said.stderr.contains("which is revoked in"), "{}", said.stderr);
    std::fs::write(&known_hosts, hashed).expect("write the line");

    sshd.stop();
    sshd.new_host_key();
    sshd.start_again();
    let said = restore(None);
    assert_eq!(said.code, 77, "{}", said.stderr);
    let at = format!("which is not the one in {}:1", known_hosts.display());
    assert!(said.stderr.contains(&at), "{}", said.stderr);
    for word in ["Failed", "Accepted"] {
        assert!(!sshd.log().contains(word), "nobody tried to log in: {}", sshd.log());
    }
}

/// OpenSSH calls all of these `Failure` or `Permission denied`; what is behind it is asked for.
#[test]
fn an_sftp_server_that_takes_nothing_says_why() {
    let mut sshd = Sshd::serving("internal-sftp -R");
    let mut scene = Scene::on_file();
    scene.replica = Replica::on_sftp(&sshd, "station", "ed25519");
    scene.configure(&[], &[]);
    let doctor = || process::run(Holdfast.command("doctor").arg("-config").arg(scene.config()), SOON);
    let said = doctor();
    assert_eq!(said.code, 77, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("access denied: the server permits it not"), "{}", said.stdout);
    assert!(said.stdout.contains(&format!("fix: let {} write to", sshd.user)), "{}", said.stdout);
    for (mount, code, says) in [
        ("ro", 77, "the server's file system is read-only"),
        ("size=16k", 73, "no space left: the server has 0 bytes left"),
    ] {
        sshd.stop();
        sshd.configure(&sshd.on_a_mount(mount));
        sshd.start_again();
        let said = doctor();
        assert_eq!(said.code, code, "{mount}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(says), "{mount}: {}", said.stdout);
    }
}

fn with_keys(replica: &Replica, keys: &[String]) -> Replica {
    let Replica::Sftp { port, user, path, .. } = replica.clone() else { unreachable!("it is on SFTP") };
    Replica::Sftp { port, user, path, keys: keys.to_vec() }
}

fn host_key(sshd: &Sshd) -> String {
    format!("host-key: {}", sshd.host_key())
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
