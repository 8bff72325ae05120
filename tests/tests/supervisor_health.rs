//! What probes are told through all states of a run, by a supervisor with real connections to it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast_tests::process::{self, Finished};
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, SOON, Scene, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Status and body; `None` while nobody listens.
fn get(host: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

fn three(host: &str) -> Option<[u16; 3]> {
    let status = |path| get(host, path).map(|(status, _)| status);
    Some([status("/livez")?, status("/startupz")?, status("/readyz")?])
}

#[track_caller]
fn answers(host: &str, state: &str, expected: [u16; 3]) {
    let what = format!("{expected:?} while it is in state {state}");
    until(&what, SOON, || {
        let (_, status) = get(host, "/status")?;
        (status.contains(&format!("\"state\":\"{state}\"")) && three(host)? == expected).then_some(())
    });
}

/// Answers every connection with `status` until the process ends.
fn web_app(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/health", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    url
}

#[test]
fn t87_each_state_has_its_answers() {
    let (scene, host) = Scene::new(As::Subreaper).listening();
    let scene = scene.var("FG_RESTORE_MS", 1500).var("FG_READY_MS", 1500).var("FG_DRAIN_MS", 1500);
    let run = scene.var("FA_STOP_MS", 1500).flags(["-app-probe", &web_app("200 OK")]).start();
    answers(&host, "restore", [200, 503, 503]);
    answers(&host, "attach", [200, 503, 503]);
    answers(&host, "run", [200, 200, 200]);
    // The app does not suffer for its agent.
    let agent = run.wait_for("agent start").what["agent start ".len()..].parse().expect("a process id");
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("it lives");
    answers(&host, "run", [200, 200, 200]);
    run.wait_for_nth("agent ready", 2);
    run.signal(Signal::SIGTERM);
    answers(&host, "stop", [200, 200, 503]);
    answers(&host, "drain", [200, 200, 503]);
    run.wait().expect(0);
    assert_eq!(get(&host, "/livez"), None);
}

#[test]
fn an_app_that_is_not_well_is_not_ready_and_not_restarted() {
    let (scene, host) = Scene::new(As::Subreaper).listening();
    let run = scene.flags(["-app-probe", &web_app("500 Oh")]).start();
    // Before that SIGTERM would be its end.
    run.wait_for("app start");
    answers(&host, "run", [200, 503, 503]);
    let (_, why) = get(&host, "/readyz").expect("an answer");
    assert!(why.contains("HTTP 500"), "{why}");
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}

#[test]
fn t15_a_stop_of_an_app_that_was_never_ready_is_a_stop_like_any_other() {
    let (scene, host) = Scene::new(As::Pid1).listening();
    let run = scene.flags(["-app-probe", &web_app("503 Not yet")]).var("FA_STOP_MS", 200).start();
    run.wait_for("app start");
    answers(&host, "run", [200, 503, 503]);
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!((run.count("app signal TERM"), run.count("agent drain")), (1, 1));
    assert!(run.first("agent drain").at >= run.first("app end").at);
    assert_eq!((&run.summary()["cause"], &run.summary()["sync"]["ok"]), (&"SIGTERM".into(), &true.into()));
}

/// What Station does with a path of its own: it opens that one. SIGWINCH makes this one open the one it was given, too.
const STRAY: &str = r"#!/usr/bin/env python3
import os, signal, sqlite3
databases = []
def use(path):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('CREATE TABLE IF NOT EXISTS t(a)')
    databases.append(database)
signal.signal(signal.SIGWINCH, lambda *_: use(os.environ['STATION_DATABASE']))
use('OTHER')
while True:
    signal.pause()
";

#[test]
fn t84_an_app_that_opens_another_file_is_found_out_and_not_ready_until_it_has_ours() {
    let (scene, host) = Scene::new(As::Pid1).listening();
    let dir = scene.dir().canonicalize().expect("a directory");
    let (app, ours, other) = (dir.join("stn"), dir.join("station.db"), dir.join("config.db"));
    let (ours, other) = (ours.display().to_string(), other.display().to_string());
    std::fs::write(&app, STRAY.replace("OTHER", &other)).expect("written");
    std::fs::set_permissions(&app, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("our own file");
    let scene = scene.app([app.to_str().expect("text"), "serve"]);
    let run = scene.flags(["-attach-wait", "500ms", "-app-probe", "none"]).start();
    answers(&host, "run", [200, 200, 200]);
    run.wait_log(&format!("the app has {other} open and not {ours}, which is what is replicated"));
    answers(&host, "run", [200, 200, 503]);
    let page = |path: &str| get(&host, path).expect("an answer").1;
    assert!(page("/readyz").contains(&format!("the app has {other} open")), "{}", page("/readyz"));
    assert!(page("/metrics").contains("\nholdfast_supervisor_db_attached 0\n"), "{}", page("/metrics"));
    assert!(page("/status").contains("\"db_attached\":false"), "{}", page("/status"));
    run.signal(Signal::SIGWINCH);
    run.wait_log(&format!("the app has {ours} open now"));
    answers(&host, "run", [200, 200, 200]);
    assert!(page("/metrics").contains("\nholdfast_supervisor_db_attached 1\n"), "{}", page("/metrics"));
    run.signal(Signal::SIGTERM);
    run.wait().expect(143);
}

#[test]
fn the_metrics_are_what_prometheus_reads() {
    let (scene, host) = Scene::new(As::Pid1).listening();
    let run = scene.start();
    run.wait_for("app start");
    let (status, text) = until("a lag is known", SOON, || {
        get(&host, "/metrics")
            .filter(|(_, text)| text.contains("holdfast_supervisor_replication_lag_bytes{db="))
    });
    assert_eq!(status, 200);
    assert!(text.contains("\nholdfast_supervisor_app_up 1\n"), "{text}");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("metrics");
    std::fs::write(&file, text).expect("written");
    let mut promtool = process::command("promtool");
    promtool.args(["check", "metrics"]);
    let input = std::fs::File::open(&file).expect("read");
    let said = process::run(promtool.stdin(Stdio::from(input)), SOON).expect_success("promtool");
    assert_eq!(said.stdout + &said.stderr, "", "promtool has nothing to say");
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}

#[test]
fn t89_a_thousand_hanging_connections_stop_nothing_and_keep_no_probe_waiting() {
    let (scene, host) = Scene::new(As::Pid1).listening();
    let run = scene.start();
    answers(&host, "run", [200, 200, 200]);
    let address = host.parse().expect("an address");
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    // As many as the kernel's queue takes, at most.
    let hanging: Vec<_> = (0..1000).map_while(connect).collect();
    assert!(hanging.len() > 100, "{} connected", hanging.len());
    let began = Instant::now();
    answers(&host, "run", [200, 200, 200]);
    assert!(began.elapsed() < Duration::from_secs(2), "three probes took {:?}", began.elapsed());
    let began = Instant::now();
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_loop_that_does_not_turn_is_not_alive() {
    let (scene, host) = Scene::new(As::Subreaper).listening();
    let run = scene.start();
    answers(&host, "run", [200, 200, 200]);
    // Only the loop's thread: the others go on.
    let dir = tempfile::tempdir().expect("a directory");
    let held = process::hold(run.pid(), &dir.path().join("log"));
    assert_eq!(get(&host, "/livez").map(|(status, _)| status), Some(503));
    assert_eq!(healthcheck(&host, "--live").code, 1);
    drop(held);
    answers(&host, "run", [200, 200, 200]);
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}

#[test]
fn t88_the_check_needs_nothing_but_the_program() {
    let (scene, host) = Scene::new(As::Pid1).listening();
    let (app, asked) = (TcpListener::bind("127.0.0.1:0").expect("a port"), SOON);
    let probe = format!("tcp://{}", app.local_addr().expect("its address"));
    let run = scene.flags(["-app-probe", &probe]).var("FG_RESTORE_MS", 1000).start();
    until("it listens", asked, || get(&host, "/livez"));
    // Before the app was ever ready, living is enough; Docker's start period does the rest.
    assert_eq!(healthcheck(&host, "--ready").code, 1);
    let said = healthcheck(&host, "");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    assert!(said.stdout.contains("/livez: HTTP 200"), "{}", said.stdout);
    answers(&host, "run", [200, 200, 200]);
    let said = healthcheck(&host, "");
    assert!(said.code == 0 && said.stdout.contains("/readyz: HTTP 200"), "{}", said.stdout);
    drop(app);
    let said = healthcheck(&host, "");
    assert!(said.code == 1 && said.stdout.contains("the app does not answer"), "{}", said.stdout);
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
    let said = healthcheck(&host, "");
    assert!(said.code == 1 && said.stdout.contains("refused"), "{}", said.stdout);
    assert_eq!(healthcheck(&host, "--nonsense").code, 64);
}

/// With an empty environment, in a directory that is not readable.
fn healthcheck(host: &str, flag: &str) -> Finished {
    let mut command = process::command(ours("holdfast-supervisor"));
    command.env_clear().current_dir("/proc/self").arg("healthcheck").args(["--listen", host]);
    process::run(command.args(Some(flag).filter(|f| !f.is_empty())), SOON)
}

#[test]
fn what_is_no_request_is_refused_and_an_address_that_is_taken_is_said() {
    let (scene, host) = Scene::new(As::Pid1).listening();
    let run = scene.start();
    answers(&host, "run", [200, 200, 200]);
    let send = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&host).expect("it listens");
        let _ = stream.write_all(bytes);
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text.split("\r\n").next().unwrap_or_default().to_owned()
    };
    assert_eq!(send(b"POST /livez HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(send(b"\x16\x03\x01\x02\x00"), "HTTP/1.1 400 Bad Request");
    assert_eq!(send(b"GET /nothing HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(send(b"HEAD /livez HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(send(b"GET /livez HTTP/1.1\r\n"), "HTTP/1.1 408 Request Timeout");

    let second = Scene::new(As::Pid1).flags(["--listen", &host]).var("FA_RUN_MS", 20).run().expect(0);
    let says = format!("listen on {host} for probes: Address already in use");
    assert!(second.stderr.contains(&says), "{}", second.stderr);
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}
