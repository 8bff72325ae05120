//! What systemd hears of a supervised run, on a socket of the test's own.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_tests::in_both_roles;
use holdfast_tests::supervised::{As, Scene, monotonic_ms};
use nix::sys::signal::Signal;

/// A service manager that only listens.
struct Manager {
    over: Arc<AtomicBool>,
    heard: JoinHandle<Vec<(u64, String)>>,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let heard = std::thread::spawn(move || {
            let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                // What was sent before the end is in the queue by then.
                let last = until.load(Ordering::SeqCst);
                while let Ok(length) = socket.recv(&mut buffer) {
                    heard.push((monotonic_ms(), String::from_utf8(buffer[..length].to_vec()).unwrap()));
                }
                if last {
                    return heard;
                }
            }
        });
        Self { over, heard }
    }

    /// Every datagram with its time, of [`monotonic_ms`].
    fn heard(self) -> Vec<(u64, String)> {
        self.over.store(true, Ordering::SeqCst);
        self.heard.join().unwrap()
    }
}

/// The datagrams with this line.
fn with<'h>(heard: &'h [(u64, String)], line: &str) -> Vec<&'h (u64, String)> {
    heard.iter().filter(|(_, text)| text.lines().any(|l| l == line)).collect()
}

in_both_roles! {
    fn t90_systemd_hears_ready_once_the_app_runs_then_signs_of_life_and_the_end(role) {
        let scene = Scene::new(role).var("FG_READY_MS", 200).var("FA_STOP_MS", 100);
        let (socket, dump) = (scene.dir().join("notify"), scene.dir().join("dump"));
        fs::create_dir(&dump).unwrap();
        let manager = Manager::at(&socket);
        let run = scene
            .var("NOTIFY_SOCKET", socket.display())
            .var("WATCHDOG_USEC", 200_000)
            .var("FA_DUMP", dump.display())
            .start();
        let started = run.wait_for("app start").at;
        while monotonic_ms() < started + 1_200 {
            std::thread::sleep(Duration::from_millis(20));
        }
        run.signal(Signal::SIGTERM);
        let environment = fs::read_to_string(dump.join("environ")).unwrap();
        let run = run.wait().expect(0);
        let heard = manager.heard();

        assert!(heard[0].1.contains("EXTEND_TIMEOUT_USEC=30000000\n"), "a restore may take its time: {heard:?}");
        let (ready, stopping) = (with(&heard, "READY=1"), with(&heard, "STOPPING=1"));
        assert_eq!((ready.len(), stopping.len()), (1, 1), "{heard:?}");
        assert!(ready[0].0 >= run.first("agent ready").at && ready[0].0 <= stopping[0].0, "{heard:?}");
        assert!(stopping[0].1.contains("EXTEND_TIMEOUT_USEC=40000000\n"), "{heard:?}");
        let status = |text: &String| text.contains("STATUS=run: app: running, agent: ready (0 restarts)");
        assert!(heard.iter().any(|(_, text)| status(text)), "{heard:?}");
        // One every 100 ms, on a machine that has nothing else to do.
        assert!(with(&heard, "WATCHDOG=1").len() >= 5, "{heard:?}");
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_"), "it is not the app's");
    }
}

#[test]
fn an_app_that_cannot_be_started_is_never_called_ready() {
    let scene = Scene::new(As::Subreaper).app(["/nowhere/app"]);
    let socket = scene.dir().join("notify");
    let manager = Manager::at(&socket);
    scene.var("NOTIFY_SOCKET", socket.display()).run().expect(127);
    let heard = manager.heard();
    assert!(with(&heard, "READY=1").is_empty(), "{heard:?}");
}

#[test]
fn t90_a_loop_that_stands_still_gives_no_sign_of_life() {
    let scene = Scene::new(As::Subreaper);
    let socket = scene.dir().join("notify");
    let manager = Manager::at(&socket);
    let run = scene.var("NOTIFY_SOCKET", socket.display()).var("WATCHDOG_USEC", 200_000).start();
    run.wait_for("app start");
    run.signal(Signal::SIGSTOP);
    let stopped = monotonic_ms();
    std::thread::sleep(Duration::from_millis(700));
    let went_on = monotonic_ms();
    run.signal(Signal::SIGCONT);
    std::thread::sleep(Duration::from_millis(500));
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
    let heard = manager.heard();
    let alive = |from: u64, to: u64| {
        with(&heard, "WATCHDOG=1").iter().filter(|(at, _)| (from..to).contains(at)).count()
    };
    // A datagram sent before the stop may be read a little after it.
    assert_eq!(alive(stopped + 50, went_on), 0, "systemd would end it now: {heard:?}");
    assert!(alive(went_on, u64::MAX) >= 2, "{heard:?}");
}
