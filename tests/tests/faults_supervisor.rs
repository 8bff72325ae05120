//! The database is missing and the replica cannot be had: the app is not started, the run ends with the documented
//! code, and nothing is written, here or there (spec/users-and-faults.md FT-01).

use std::time::Duration;

use holdfast_tests::faulty::{Destination, each};
use holdfast_tests::proxy::{Answer, Fault};
use holdfast_tests::supervised::{As, Scene};

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
