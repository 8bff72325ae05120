//! What goes wrong between the agent and a destination, on each of them: replication goes on, its status says what is
//! so, it recovers by itself when the fault ends, and nothing is lost. How it ends while the fault lasts, too.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::chance::Chance;
use holdfast_tests::faulty::{Destination, each};
use holdfast_tests::oracle;
use holdfast_tests::process::code;
use holdfast_tests::proxy::Service::{Abs, Gcs, S3};
use holdfast_tests::proxy::{Answer, Fault, Service};
use holdfast_tests::tool::Tool::Holdfast;
use nix::sys::signal::Signal;
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(40);
/// The interval between syncs is 50 ms, a silence of a second is waited out, and the machine is busy.
const SHOWN: Duration = Duration::from_secs(5);
const HANG: Duration = Duration::from_secs(60);

/// A fault, when it begins, and what the status says of it.
type Trouble = (&'static str, Begins, fn(&Destination), fn(Service) -> &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    BeforeTheAgent,
    UnderLoad,
}
use Begins::{BeforeTheAgent, UnderLoad};

const TROUBLES: &[Trouble] = &[
    ("connections are refused", UnderLoad, |d| d.proxy().refuse(), |_| ": Connection refused"),
    (
        "every request is reset in the middle",
        UnderLoad,
        |d| d.proxy().always(&Fault::ResetRequest { after: 100 }),
        |_| "unavailable: ",
    ),
    // What was sent has arrived, and nobody said so.
    (
        "every answer is lost",
        UnderLoad,
        |d| d.proxy().always(&Fault::ResetAnswer { after: None }),
        |_| "unavailable: ",
    ),
    ("the server hangs", UnderLoad, |d| d.proxy().always(&Fault::Hang(HANG)), |_| ": timed out"),
    (
        "every request is throttled",
        UnderLoad,
        |d| d.always(Answer::throttled),
        |service| match service {
            S3 => "unavailable: SlowDown (HTTP 503)",
            Gcs => "unavailable: HTTP 429",
            Abs => "unavailable: ServerBusy (HTTP 503)",
        },
    ),
    (
        "the credentials expire",
        UnderLoad,
        |d| d.always(Answer::expired),
        |service| match service {
            S3 => "access denied: ExpiredToken (HTTP 400)",
            Gcs => "access denied: AuthenticationRequired (HTTP 401)",
            Abs => "access denied: AuthenticationFailed (HTTP 403)",
        },
    ),
    (
        "the credentials turn read-only",
        UnderLoad,
        |d| d.writes(Answer::read_only),
        |service| match service {
            S3 | Gcs => "access denied: AccessDenied (HTTP 403)",
            Abs => "access denied: AuthorizationPermissionMismatch (HTTP 403)",
        },
    ),
    (
        "the credentials are wrong",
        BeforeTheAgent,
        |d| d.always(Answer::denied),
        |service| match service {
            S3 => "access denied: InvalidAccessKeyId (HTTP 403)",
            Gcs => "access denied: AuthenticationRequired (HTTP 401)",
            Abs => "access denied: AuthenticationFailed (HTTP 403)",
        },
    ),
    (
        "the bucket is not there yet",
        BeforeTheAgent,
        |d| d.always(Answer::no_bucket),
        |service| match service {
            S3 | Gcs => "no such bucket: NoSuchBucket (HTTP 404)",
            Abs => "no such bucket: ContainerNotFound (HTTP 404)",
        },
    ),
    ("the server is not up yet", BeforeTheAgent, |d| d.proxy().refuse(), |_| ": Connection refused"),
];

#[test]
fn replication_shows_what_is_wrong_recovers_by_itself_and_loses_nothing() {
    each(TROUBLES, |destination, &(name, begins, fault, says)| {
        let (scene, service) = (&destination.scene, destination.service);
        let started = Instant::now();
        if begins == BeforeTheAgent {
            fault(destination);
        }
        let mut writer = scene.writer().args(["--rate", "50", "--big-txn", "500"]).start();
        let mut agent = scene.agent();
        agent.ready(SOON);
        let mut since = started;
        if begins == UnderLoad {
            agent.untroubled(started, SOON);
            since = Instant::now();
            fault(destination);
        }
        agent.troubled(says(service), since, SHOWN);
        std::thread::sleep(Duration::from_secs(1));
        destination.mend();
        let mended = Instant::now();
        agent.untroubled(mended, SOON);
        writer.stop(SOON);
        let live = oracle::expect_state(&scene.db(), "the live database");
        let drained = agent.drain(SOON);
        assert!(drained.ok, "{service:?}: {name}: {drained:?}\n{}", agent.log());
        assert!(agent.exit(SOON).success(), "{}", agent.log());
        assert_eq!(scene.restored(Holdfast, &[]), live, "{service:?}: {name}");
    });
}

/// A third of all requests fails in every way there is, during the final sync, too.
#[test]
fn a_final_sync_over_a_store_that_comes_and_goes_is_proven() {
    let seed = Chance::seed("faults");
    each(&[1, 2], |destination, round| {
        let (scene, service) = (&destination.scene, destination.service);
        let flapping = std::sync::Mutex::new(Chance::new(seed ^ round));
        destination.proxy().script(move |_| match flapping.lock().expect("nobody panics here").below(15) {
            0 => Fault::ResetRequest { after: 50 },
            1 => Fault::ResetAnswer { after: None },
            2 => Fault::ResetAnswer { after: Some(10) },
            3 => Fault::Answer(Answer::throttled(service).header("retry-after", 1)),
            4 => Fault::Answer(Answer::new(500, "")),
            _ => Fault::Pass,
        });
        let mut writer = scene.writer().args(["--rate", "50", "--big-txn", "500"]).start();
        let mut agent = scene.agent();
        agent.ready(SOON);
        std::thread::sleep(Duration::from_secs(4));
        writer.stop(SOON);
        let live = oracle::expect_state(&scene.db(), "the live database");
        let drained = agent.drain(Duration::from_secs(15));
        agent.exit(SOON);
        destination.mend();
        assert!(drained.ok, "{service:?}: {drained:?}\n{}", agent.log());
        assert_eq!(scene.restored(Holdfast, &[]), live, "{service:?}");
    });
}

/// A full copy arrives, nobody says so, and the database is at rest: the next attempt carries another date.
#[test]
fn a_full_copy_whose_answer_was_lost_is_known_again() {
    each(&[()], |destination, ()| {
        let (scene, service) = (&destination.scene, destination.service);
        destination.configure("1s", "format: ltx");
        let app = Connection::open(scene.db()).expect("open the database");
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n);").expect("a first commit");
        let arrived = AtomicBool::new(false);
        // Litestream's two ways to name it.
        let folders = ["/0009/", "/ltx/9/"];
        destination.proxy().script(move |request| {
            let target = request.target.replace("%2F", "/");
            let copies = request.method != "GET" && folders.iter().any(|folder| target.contains(folder));
            match (copies, arrived.load(Ordering::Relaxed)) {
                (false, false) => Fault::Pass,
                (_, true) => Fault::ResetRequest { after: 0 },
                (true, false) => {
                    arrived.store(true, Ordering::Relaxed);
                    Fault::ResetAnswer { after: None }
                }
            }
        });
        let started = Instant::now();
        let mut agent = scene.agent();
        agent.ready(SOON);
        agent.troubled("", started, SOON);
        destination.mend();
        agent.untroubled(Instant::now(), SOON);
        let log = agent.log();
        assert!(
            folders.iter().any(|folder| log.contains(folder)),
            "{service:?}: it is the full copy that failed:\n{log}"
        );
        let drained = agent.drain(SOON);
        assert!(drained.ok && agent.exit(SOON).success(), "{service:?}: {drained:?}\n{log}");
    });
}

/// The server takes a minute to answer, the final sync has three seconds.
#[test]
fn a_server_that_hangs_does_not_keep_the_agent_past_its_deadline() {
    let ways: &[(&str, &[Signal])] =
        &[("asked once", &[Signal::SIGTERM]), ("asked twice", &[Signal::SIGINT, Signal::SIGINT])];
    each(ways, |destination, &(way, signals)| {
        let (scene, service) = (&destination.scene, destination.service);
        destination.configure("30s", "format: v0.3");
        let mut agent = scene.replicate(Holdfast);
        let mut writer = scene.writer().args(["--rate", "50"]).start();
        agent.wait_log("the first snapshot", SOON, |line| line.contains("snapshot written"));
        destination.proxy().always(&Fault::Hang(HANG));
        std::thread::sleep(Duration::from_millis(500));
        writer.stop(SOON);
        let asked = Instant::now();
        for signal in signals {
            agent.signal(*signal);
            std::thread::sleep(Duration::from_millis(300));
        }
        let status = agent.wait(SOON);
        let (took, log) = (asked.elapsed(), agent.log());
        let what = format!("{service:?}: {way}: {took:?}\n{log}");
        assert_eq!(code(status), 74, "{what}");
        let limit = if signals.len() > 1 { 3 } else { 3 + 3 };
        assert!(took < Duration::from_secs(limit), "{what}");
        if signals.len() == 1 {
            assert!(log.contains("final sync incomplete: ") && log.contains(": no answer for "), "{what}");
        }
    });
}

/// Five seconds of silence are less than one patience and more than another: waited out by the one, asked again by the
/// other. Every third request meets them for a while, of the final sync and of the restore, too.
#[test]
fn a_hang_of_five_seconds_loses_nothing_whether_it_is_waited_out_or_asked_again() {
    each(&["30s", "1s"], |destination, patience| {
        let (scene, service) = (&destination.scene, destination.service);
        destination.configure(patience, "format: v0.3");
        let hang = || {
            let asked = AtomicUsize::new(0);
            destination.proxy().script(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
                n if n < 6 && n % 3 == 0 => Fault::Hang(Duration::from_secs(5)),
                _ => Fault::Pass,
            });
        };
        let mut writer = scene.writer().args(["--rate", "100"]).start();
        let mut agent = scene.agent();
        agent.ready(SOON);
        hang();
        std::thread::sleep(Duration::from_secs(2));
        writer.stop(SOON);
        let live = oracle::expect_state(&scene.db(), "the live database");
        let drained = agent.drain(Duration::from_secs(30));
        agent.exit(SOON);
        assert!(drained.ok, "{service:?}, {patience}: {drained:?}\n{}", agent.log());
        hang();
        let (said, out) = destination.restore();
        assert_eq!(said.code, 0, "{service:?}, {patience}: {}", said.stderr);
        assert_eq!(oracle::expect_state(&out, "restored"), live, "{service:?}, {patience}");
    });
}
