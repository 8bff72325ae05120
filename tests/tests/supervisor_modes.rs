//! What the app's database may be: a file named in several ways, one on a server, none that is kept.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;

use holdfast_tests::in_both_roles;
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, Ended, Scene};

/// The fake app under the name of Station's own program.
fn as_station(scene: Scene) -> Scene {
    let stn = scene.dir().join("stn");
    std::os::unix::fs::symlink(ours("fakeapp"), &stn).unwrap();
    let stn = stn.to_str().unwrap().to_owned();
    scene.app([&stn, "serve"])
}

fn environ(run: &Ended, dump: &std::path::Path) -> Vec<String> {
    let environ = fs::read(dump.join("environ")).unwrap_or_else(|e| panic!("{e}\n{}", run.stderr));
    String::from_utf8(environ).unwrap().split('\0').map(String::from).collect()
}

in_both_roles! {
    fn t81_a_database_on_a_server_is_passed_through_and_its_token_shown_nowhere(role) {
        let dump = tempfile::tempdir().unwrap();
        let url = "postgres://u:s3cr3t@h/db?authToken=t0k3n";
        let scene = Scene::new(role).var("FA_RUN_MS", 20).var("FA_EXIT", 7);
        let scene = scene.var("DATABASE_URL", url).var("FA_DUMP", dump.path().display());
        let run = scene.run().expect(7);
        assert_eq!(run.count("agent"), 0, "nothing to restore, nothing to replicate: {:?}", run.happened);
        assert!(environ(&run, dump.path()).contains(&format!("DATABASE_URL={url}")));
        assert!(run.stderr.contains(" WARN supervisor: DATABASE_URL is postgres://: there is no local database to keep; \
             the configured replica is not used\n"), "{}", run.stderr);
        assert!(!run.stderr.contains("s3cr3t") && !run.stderr.contains("t0k3n"), "{}", run.stderr);
    }
}

#[test]
fn t82_station_is_refused_what_it_would_take_for_a_files_name() {
    for url in ["postgres://u:s3cr3t@h/db", "mysql://u:s3cr3t@h/db", "ws://h?authToken=s3cr3t", ":memory:"] {
        for name in ["DATABASE_URL", "STN_DATABASE_URL", "STATION_DATABASE"] {
            let run = as_station(Scene::new(As::Pid1)).var(name, url).run().expect(78);
            assert!(run.happened.is_empty(), "{:?}", run.happened);
            assert!(run.stderr.contains(&format!("read {name}: Station ")), "{}", run.stderr);
            assert!(!run.stderr.contains("s3cr3t"), "{}", run.stderr);
        }
    }
}

#[test]
fn station_gets_a_path_for_a_url_and_another_app_its_own_spelling() {
    let dump = tempfile::tempdir().unwrap();
    for (own, told) in
        [("file:{}?cache=shared", "{}"), ("sqlite://{}", "{}"), ("{}?_pragma=a(1)", "{}?_pragma=a(1)")]
    {
        let scene = Scene::new(As::Pid1).var("FA_RUN_MS", 10).var("FA_DUMP", dump.path().display());
        let db = scene.dir().join("station.db").display().to_string();
        let (own, told) = (own.replace("{}", &db), told.replace("{}", &db));
        let run = as_station(scene).var("DATABASE_URL", own).run().expect(0);
        let vars = environ(&run, dump.path());
        for name in ["DATABASE_URL", "STATION_DATABASE"] {
            assert!(vars.contains(&format!("{name}={told}")), "{name}={told} in {vars:?}");
        }
    }
}

#[test]
fn t83_stations_own_names_for_its_database_have_to_agree_with_ours() {
    let run = as_station(Scene::new(As::Pid1)).var("STN_DATABASE_URL", "/elsewhere/x.db").run().expect(78);
    assert!(run.stderr.contains("/station.db, and STN_DATABASE_URL says /elsewhere/x.db"), "{}", run.stderr);
    assert!(run.happened.is_empty());
}

#[test]
fn t86_e14_without_a_replica_it_says_what_is_lost_or_does_not_start() {
    let memory = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let db = memory.path().join("x.db");
    let scene = || Scene::ephemeral(As::Pid1).var("FA_RUN_MS", 10).var("DATABASE_PATH", db.display());
    let run = scene().run().expect(0);
    let line = format!("ERROR supervisor: {} is on tmpfs, memory of this container or machine", db.display());
    assert!(run.stderr.contains(&line), "{}", run.stderr);
    assert_eq!(run.count("agent"), 0, "no restore is tried where there is nothing to restore from");

    let run = scene().flags(["-ephemeral", "deny"]).run().expect(78);
    assert!(run.stderr.contains("`-ephemeral deny` asks for one"), "{}", run.stderr);
    assert_eq!(run.count("app"), 0);
}

#[test]
fn a_services_link_in_stations_port_is_warned_about() {
    let scene = as_station(Scene::new(As::Pid1)).var("FA_RUN_MS", 10);
    let run = scene.var("STATION_MCP_PORT", "tcp://10.0.0.7:8586").run().expect(0);
    assert!(run.stderr.contains("STATION_MCP_PORT is a link to a service"), "{}", run.stderr);
    assert!(run.stderr.contains("`enableServiceLinks: false`"), "{}", run.stderr);
}

#[test]
fn t85_unscrubbed_the_app_gets_the_replicas_secrets_too() {
    let dump = tempfile::tempdir().unwrap();
    let scene = Scene::new(As::Pid1).var("FA_RUN_MS", 10).var("FA_DUMP", dump.path().display());
    let scene = scene.var("LITESTREAM_S3_SECRET_ACCESS_KEY", "hush").flags(["-env-scrub", "none"]);
    let run = scene.run().expect(0);
    let vars = environ(&run, dump.path());
    assert!(vars.contains(&"LITESTREAM_S3_SECRET_ACCESS_KEY=hush".into()), "{vars:?}");
    assert!(!vars.iter().any(|v| v.starts_with("HOLDFAST_")), "{vars:?}");
}
