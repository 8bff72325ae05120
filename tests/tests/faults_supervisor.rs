//! The database is missing and the replica cannot be had: the app is not started, the run ends with the documented
//! code, and nothing is written, here or there (spec/users-and-faults.md FT-01).

use std::time::{Duration, Instant};

use holdfast_tests::faulty::{Destination, each};
use holdfast_tests::oracle;
use holdfast_tests::process::{self, Running};
use holdfast_tests::proxy::{Answer, Fault};
use holdfast_tests::supervised::{As, Scene, until};
use holdfast_tests::tool::Tool;

type Unreachable = (&'static str, fn(&Destination), i32, &'static str);

const UNREACHABLE: &[Unreachable] = &[
    ("connections are refused", |d| d.proxy().refuse(), 69, "could not be reached"),
    (
        "the server hangs",
        |d| d.proxy().always(&Fault::Hang(Duration::from_secs(60))),
        69,
        "could not be reached",
    ),
    ("every request is throttled", |d| d.always(Answer::throttled), 69, "could not be reached"),
    (
        "nobody vouches for the certificate",
        |d| d.over_tls(holdfast_tests::proxy::tls::Identity::self_signed()),
        69,
        "could not be reached",
    ),
    ("the credentials are wrong", |d| d.always(Answer::denied), 77, "access denied"),
    ("there is no such bucket", Destination::missing_bucket, 78, "configuration error"),
];

#[test]
fn t43_t44_t45_e02_an_app_whose_database_cannot_be_had_is_not_started() {
    each(UNREACHABLE, |destination, &(name, fault, code, says)| {
        fault(destination);
        let db = destination.scene.db();
        let run = supervisor(destination).run();
        let what = format!("{:?}: {name}:\n{}", destination.service, run.stderr);
        assert_eq!(run.code, code, "{what}");
        assert!(run.stderr.contains(says) && run.stderr.contains("the app was not started"), "{what}");
        assert_eq!(run.count("app"), 0, "{what}");
        for suffix in ["", "-wal", "-shm"] {
            assert!(!db.with_file_name(format!("app.db{suffix}")).exists(), "{what}");
        }
        let wrote = |line: &&String| !line.starts_with("GET ") && !line.starts_with("HEAD ");
        assert_eq!(destination.proxy().requests().iter().find(wrote), None, "{what}");
    });
}

fn supervisor(destination: &Destination) -> Scene {
    Scene::new(As::Pid1)
        .real_agent()
        .var("DATABASE_PATH", "")
        .var("LITESTREAM_CONFIG", destination.scene.config().display())
        .flags(["-restore-wait", "1s"])
}

/// Rows in a database and in its replica.
fn replicate(destination: &Destination) {
    let mut agent = destination.scene.agent();
    agent.ready(SOON);
    assert!(destination.scene.writer().args(["--commits", "30"]).start().wait(SOON).success());
    assert!(agent.drain(SOON).ok, "{}", agent.log());
    assert!(agent.exit(SOON).success());
}

/// A replica that lists and does not give, and one that shows the first page of a listing only.
#[test]
fn t46_t47_a_replica_that_is_half_readable_is_not_an_empty_one() {
    each(&[(77, "access denied"), (69, "could not be reached")], |destination, (code, says)| {
        replicate(destination);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(destination.scene.dir().join(format!("app.db{suffix}")));
        }
        let (denied, broken) = (Answer::denied(destination.service), Answer::new(500, ""));
        let lists = *code == 77;
        destination.proxy().script(move |request| {
            // Google's client writes its points as percent sequences.
            let path = request.target.split('?').next().unwrap_or_default();
            let object = path.ends_with(".lz4") || path.ends_with("%2Elz4");
            // Of the places a replica's objects may lie in, one cannot be listed.
            let page = request.target.contains("ltx");
            match (lists, object, page) {
                (true, true, _) => Fault::Answer(denied.clone()),
                (false, _, true) => Fault::Answer(broken.clone()),
                _ => Fault::Pass,
            }
        });
        let run = supervisor(destination).run();
        let what = format!("{:?}:\n{}", destination.service, run.stderr);
        assert_eq!(run.code, *code, "{what}");
        assert!(run.stderr.contains(says) && run.count("app") == 0, "{what}");
        assert!(!destination.scene.db().exists(), "{what}");
    });
}

/// A file that holds nothing waits for its backup, a database does not; neither is touched.
#[test]
fn t52_t55_an_empty_file_waits_for_the_replica_and_a_database_does_not() {
    let all: Vec<_> = UNREACHABLE.iter().filter(|(_, _, code, _)| *code != 78).copied().collect();
    each(&all, |destination, &(name, fault, code, _)| {
        let db = destination.scene.db();
        std::fs::write(&db, b"").expect("an empty file");
        fault(destination);
        let asked = supervisor(destination).checking().run();
        let what = format!("{:?}: {name}:\n{}{}", destination.service, asked.stdout, asked.stderr);
        assert_eq!(asked.code, code, "{what}");
        assert_eq!(std::fs::metadata(&db).expect("it stays").len(), 0, "{what}");

        std::fs::remove_file(&db).expect("it goes");
        assert!(destination.scene.writer().args(["--commits", "30"]).start().wait(SOON).success());
        let begun = Instant::now();
        let asked = supervisor(destination).checking().run();
        let what = format!("{:?}: {name}:\n{}{}", destination.service, asked.stdout, asked.stderr);
        assert_eq!(asked.code, 0, "{what}");
        assert!(
            asked.stdout.contains(": start (exit 0)") && asked.stderr.contains("starting on the database"),
            "{what}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not wait for its retries: {what}");
        assert_eq!(oracle::newest(&db), Some(30), "{what}");
    });
}

const SOON: Duration = Duration::from_secs(30);

/// A role that has just been made: whoever starts with it is refused for some seconds. One that may nothing is refused for
/// good within a bounded time, and whoever restores by hand hears of it at once.
#[test]
fn t44_a_role_that_is_not_known_yet_is_asked_with_again_and_one_that_may_not_is_77() {
    each(&["new", "wrong"], |destination, role| {
        replicate(destination);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(destination.scene.dir().join(format!("app.db{suffix}")));
        }
        destination.always(Answer::denied);
        let (said, _) = destination.restore();
        assert_eq!(said.code, 77, "{}", said.stderr);
        assert!(!said.stderr.contains(AGAIN), "{}", said.stderr);

        let begun = Instant::now();
        let mut command = Tool::Holdfast.command("restore");
        command.args(["-for-start", "-config"]).arg(destination.scene.config()).arg(destination.scene.db());
        let mut start = Running::start(&mut command, &destination.scene.dir().join("start.log"));
        let asked = || start.log().matches(AGAIN).count();
        until("the third try is near", SOON, || (asked() == 2).then_some(()));
        if *role == "new" {
            destination.mend();
        }
        let code = process::code(start.wait(SOON));
        let what = format!("{:?}: {role}: {}", destination.service, start.log());
        match *role {
            "new" => assert_eq!((code, oracle::newest(&destination.scene.db())), (0, Some(30)), "{what}"),
            _ => assert!(code == 77 && !destination.scene.db().exists(), "{code}: {what}"),
        }
        assert_eq!(start.log().matches(AGAIN).count(), 2, "{what}");
        assert!(begun.elapsed() > Duration::from_secs(14), "{what}");
    });
}

/// While the replica is asked for the second time whether it is empty, somebody makes a database by hand.
#[test]
fn t63_a_database_that_appears_while_the_replica_is_asked_is_not_touched() {
    each(&[()], |destination, ()| {
        let db = destination.scene.db();
        destination.proxy().always(&Fault::Hang(Duration::from_secs(2)));
        destination.configure("10s", "format: v0.3");
        let mut command = Tool::Holdfast.command("restore");
        command.args(["-for-start", "-config"]).arg(destination.scene.config()).arg(&db);
        let mut start = Running::start(&mut command, &destination.scene.dir().join("start.log"));
        // What is here it has looked at by then.
        until("it asks", SOON, || (!destination.proxy().requests().is_empty()).then_some(()));
        assert!(destination.scene.writer().args(["--commits", "5"]).start().wait(SOON).success());
        destination.mend();
        let code = process::code(start.wait(SOON));
        assert_eq!(code, 73, "{:?}: {}", destination.service, start.log());
        assert_eq!(oracle::newest(&db), Some(5), "{}", start.log());
        let names = std::fs::read_dir(destination.scene.dir()).expect("the directory");
        let aside =
            names.filter(|e| e.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().contains("orphan")));
        assert_eq!(aside.count(), 0, "{}", start.log());
    });
}

const AGAIN: &str = "asking again in";
