//! An app whose database is on a libsql server: it starts if that answers and takes its token.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::net::TcpListener;

use holdfast_tests::sqld::Sqld;
use holdfast_tests::supervised::{As, Ended, Scene, monotonic_ms};
use nix::sys::signal::Signal;

/// In the year 2099.
const LATER: u64 = 4_070_908_800;

fn scene(url: &str) -> Scene {
    Scene::new(As::Pid1).real_agent().var("DATABASE_URL", url).var("FA_RUN_MS", 20)
}

#[track_caller]
fn silent(run: &Ended, tokens: &[&str]) {
    for token in tokens {
        assert!(!run.stderr.contains(token), "{token}: {}", run.stderr);
    }
}

#[test]
fn t81_a_libsql_server_is_asked_with_the_apps_token_before_the_app_starts() {
    let sqld = Sqld::start();
    let (good, old) = (sqld.token(LATER), sqld.token(1_000_000_000));
    let url = format!("libsql://{}?tls=0", sqld.address);
    let run = scene(&format!("{url}&authToken={good}")).run().expect(0);
    assert_eq!(run.count("app start"), 1);
    assert_eq!(run.count("agent"), 0);
    silent(&run, &[&good]);

    for bad in [&old, &format!("{}x", &good[..good.len() - 4]), "nonsense"] {
        let run = scene(&format!("{url}&authToken={bad}")).run().expect(77);
        assert_eq!(run.count("app"), 0);
        assert!(run.stderr.contains(&format!("http://{} refuses the token", sqld.address)), "{}", run.stderr);
        silent(&run, &[bad]);
    }
    // Its token may be wherever the app keeps it: in a variable of libsql's clients, or in a file of its own.
    let run = scene(&format!("http://{}", sqld.address)).var("TURSO_AUTH_TOKEN", &old).run().expect(77);
    silent(&run, &[&old]);
    let run = scene(&format!("http://{}", sqld.address)).run().expect(0);
    assert!(run.stderr.contains("wants a token"), "{}\n{}", run.stderr, sqld.log());
}

#[test]
fn t81_a_server_that_is_not_there_is_69_after_a_while_and_a_stop_does_not_wait() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
    let begun = monotonic_ms();
    let run = scene(&format!("libsql://{nobody}?tls=0&authToken=s3cr3t")).run().expect(69);
    assert!((5_000..25_000).contains(&(run.at - begun)), "it gave up after {} ms", run.at - begun);
    assert_eq!(run.count("app"), 0);
    assert!(run.stderr.contains("libsql:// cannot be reached"), "{}", run.stderr);
    silent(&run, &["s3cr3t"]);

    // Takes connections and says nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = scene(&format!("libsql://{}?tls=0", deaf.local_addr().unwrap())).start();
    run.wait_log("whether it answers");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait().expect(143).count("app"), 0);
}
