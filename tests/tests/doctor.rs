//! `holdfast doctor` on real services: what it finds where everything works, and what it says of each thing that does
//! not, down to the missing permission's name. Runs the binary.

use std::time::Duration;

use holdfast_tests::azurite::Azurite;
use holdfast_tests::ceph::Ceph;
use holdfast_tests::process::{self, Finished};
use holdfast_tests::replica::Replica;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::Holdfast;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn where_everything_works_every_check_says_so_and_nothing_stays() {
    let scene = Scene::on_s3();
    let db = rusqlite::Connection::open(scene.db()).expect("a database");
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a);").expect("WAL mode");
    let said = doctor(&["-config", &scene.config().to_string_lossy()], &[]).expect_success("doctor");
    let works: Vec<_> =
        said.stdout.lines().map(|l| l.split("  ").filter(|w| !w.is_empty()).collect()).collect();
    let found: Vec<(&str, &str)> =
        works.iter().filter_map(|w: &Vec<&str>| w.get(1).map(|check| (w[0].trim(), check.trim()))).collect();
    for check in
        ["database", "sqlite", "create", "read", "read a range", "list", "create once", "delete", "clock"]
    {
        assert!(found.contains(&("ok", check)), "{check}:\n{}", said.stdout);
    }
    assert!(said.stdout.contains("(replica s3)\n"), "{}", said.stdout);
    let said = Holdfast.command("restore").arg("-config").arg(scene.config()).arg(scene.db()).output();
    assert!(String::from_utf8_lossy(&said.expect("it runs").stderr).contains("exists"));

    let mut scene = scene;
    let place = scene.dir().join("replica");
    scene.replica = Replica::File(place.clone());
    scene.configure(&[], &[]);
    let said = doctor(&["-json", "-config", &scene.config().to_string_lossy()], &[]).expect_success("doctor");
    let json: Value = serde_json::from_str(&said.stdout).expect("one JSON value");
    assert_eq!(json["exit"], 0);
    let failed = json["findings"].as_array().expect("findings").iter().filter(|f| f["result"] == "failed");
    assert_eq!(failed.count(), 0, "{json}");
    assert_eq!(std::fs::read_dir(place).expect("the replica's directory").count(), 0, "nothing stays");
}

/// Azurite checks what a signature allows, so each permission is taken away in turn.
#[test]
fn a_missing_permission_has_the_providers_name_for_it() {
    let azurite = Azurite::start();
    let asked = |permissions: &str| {
        let url = format!(
            "abs://{}@{}/station?endpoint={}",
            azurite.account,
            azurite.container,
            azurite.endpoint()
        );
        let token = azurite.signature(permissions);
        let said = doctor(&[&url], &[("LITESTREAM_AZURE_SAS_TOKEN", &token)]);
        assert!(
            !said.stdout.contains("sig=") && !said.stderr.contains("sig="),
            "{}{}",
            said.stdout,
            said.stderr
        );
        said
    };
    finds(&asked("rcwdl"), 0, &["ok    create  ", "ok    delete  "]);
    finds(&asked("rcwl"), 0, &["WARN  delete  ", "retention deletes nothing", "sp=d (delete)"]);
    finds(&asked("rcwd"), 77, &["ok    create  ", "FAIL  list  ", "sp=l (list)", "ok    delete  "]);
    finds(&asked("cwdl"), 77, &["FAIL  read  ", "sp=r (read)", "ok    delete  "]);
    // What a restore needs, on a replica that holds nothing to read.
    finds(&asked("rl"), 77, &["FAIL  create  ", "sp=cw (create and write)", "-     read  ", "ok    list  "]);
}

#[test]
fn each_refusal_of_s3_comes_with_what_to_do() {
    let ceph = Ceph::connect();
    let asked = |bucket: &str, endpoint: &str, secret: &str| {
        let url = format!("s3://{bucket}/station?endpoint={endpoint}&force-path-style=true");
        doctor(&[&url], &[("AWS_ACCESS_KEY_ID", &ceph.access_key), ("AWS_SECRET_ACCESS_KEY", secret)])
    };
    let secret = &ceph.secret_key;
    finds(
        &asked(&ceph.bucket, &ceph.endpoint, "wrong"),
        77,
        &["FAIL  create  ", "SignatureDoesNotMatch", "fix: use keys that the service knows"],
    );
    finds(
        &asked("nowhere", &ceph.endpoint, secret),
        78,
        &["FAIL  create  ", "NoSuchBucket", "fix: create it, or correct bucket, region and endpoint"],
    );
    // Nobody listens on port 9 of this machine.
    finds(
        &asked(&ceph.bucket, "http://127.0.0.1:9", secret),
        69,
        &["FAIL  create  ", "refused", "fix: check from this machine", "-     read          not tried"],
    );
}

#[test]
fn a_broken_database_and_a_bad_command_line_have_their_codes() {
    let scene = Scene::on_file();
    std::fs::write(scene.db(), "<html>not a database</html>".repeat(9)).expect("write a file");
    let said = doctor(&["-config", &scene.config().to_string_lossy()], &[]);
    finds(&said, 65, &["FAIL  database  ", "not a SQLite database", "ok    create  "]);
    finds(&doctor(&["-config", "f", "file:///x"], &[]), 64, &[]);
    finds(&doctor(&["-config", "/no/such/file"], &[]), 78, &[]);
    finds(&doctor(&[], &[]), 78, &[]);
    let other = scene.dir().join("other.db");
    finds(&doctor(&["-config", &scene.config().to_string_lossy(), &other.to_string_lossy()], &[]), 78, &[]);
}

#[test]
fn a_directory_of_databases_is_examined_with_those_in_it() {
    let scene = Scene::on_file();
    let dir = scene.dir().join("tenants");
    std::fs::create_dir(&dir).expect("a directory");
    let replica = scene.dir().join("replica");
    let text = format!(
        "dbs:\n  - dir: {}\n    pattern: '*.db'\n    replicas:\n      - path: {}\n",
        dir.display(),
        replica.display()
    );
    std::fs::write(scene.config(), text).expect("the configuration");
    let examined = || doctor(&["-config", &scene.config().to_string_lossy()], &[]);
    finds(&examined(), 0, &["WARN  directory  ", "matches *.db", "ok    create  "]);
    for name in ["one.db", "two.db"] {
        let db = rusqlite::Connection::open(dir.join(name)).expect("a database");
        let mode = if name == "one.db" { "wal" } else { "delete" };
        db.execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(a);")).expect("a table");
    }
    let said = examined();
    finds(&said, 0, &["ok    directory     2 databases, as *.db", "two.db\n  WARN  database  "]);
    std::fs::remove_dir_all(&dir).expect("removed");
    finds(&examined(), 78, &["FAIL  directory     there is no such directory"]);
}

fn doctor(args: &[&str], env: &[(&str, &str)]) -> Finished {
    process::run(Holdfast.command("doctor").args(args).envs(env.iter().copied()), SOON)
}

#[track_caller]
fn finds(said: &Finished, code: i32, fragments: &[&str]) {
    assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
    for fragment in fragments {
        assert!(said.stdout.contains(fragment), "{fragment:?} in\n{}{}", said.stdout, said.stderr);
    }
}
