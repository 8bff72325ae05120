//! All signals and all exit codes, for real: every number there is goes through, in both roles.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_tests::in_both_roles;
use holdfast_tests::supervised::{As, Scene, Supervised};
use nix::libc;

/// `kill -N PID`: nix has no name for real-time signals, the shell's kill has.
fn send(run: &Supervised, number: i32) {
    let mut kill = std::process::Command::new("kill");
    assert!(kill.arg(format!("-{number}")).arg(run.pid().to_string()).status().unwrap().success());
}

/// What the fixture calls signal `number`.
fn name(number: i32) -> String {
    let known = nix::sys::signal::Signal::try_from(number);
    known.map_or_else(|_| number.to_string(), |known| known.as_str()[3..].to_owned())
}

fn all() -> impl Iterator<Item = i32> {
    (1..=31).chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

const STOPS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGPWR];
/// Raised by a fault of the process itself: they are not blocked, and their end is the kernel's to bring.
const FAULTS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP];
const OURS: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

fn stops(number: i32) -> bool {
    STOPS.contains(&number) || number == libc::SIGRTMIN() + 3
}

in_both_roles! {
    fn t12_every_signal_reaches_the_app_or_us_and_none_is_lost(role) {
        let run = Scene::new(role).start();
        run.wait_for("app start");
        let others = || all().filter(|n| !stops(*n) && ![libc::SIGKILL, libc::SIGSTOP].contains(n));
        let mut forwarded = 0;
        for number in others() {
            if FAULTS.contains(&number) {
                // PID 1 is immune to what it has no handler for. Any other process dies of it, as it should.
                if role == As::Pid1 {
                    send(&run, number);
                }
                continue;
            }
            send(&run, number);
            if !OURS.contains(&number) {
                run.wait_for(&format!("app signal {}", name(number)));
                forwarded += 1;
            }
        }
        run.wait_for("agent flush");
        run.wait_for("agent reload");
        run.wait_log("state: run for");
        send(&run, libc::SIGTERM);
        let run = run.wait().expect(0);
        assert_eq!(run.count("app signal"), forwarded + 1, "each once, and the SIGTERM: {:?}", run.happened);
        assert_eq!(forwarded, 62 - 4 - 2 - 7 - 8);
    }
}

in_both_roles! {
    fn t12_every_stop_signal_is_the_apps_too_and_ends_the_run_with_a_proof(role) {
        for number in all().filter(|n| stops(*n)) {
            let run = Scene::new(role).app(["sleep", "60"]).start();
            run.wait_log("app started");
            send(&run, number);
            let run = run.wait().expect(128 + number);
            assert_eq!(run.summary()["sync"]["ok"], true, "{}", run.stderr);
        }
    }
}

#[test]
fn t12_a_group_gets_what_a_shell_would_keep_to_itself() {
    let fakeapp = holdfast_tests::programs::ours("fakeapp").display().to_string();
    let run = Scene::new(As::Pid1)
        .app(["sh", "-c", &format!("{fakeapp}; exit 9")])
        .flags(["-signal-target", "group"])
        .start();
    run.wait_for("app start");
    send(&run, libc::SIGWINCH);
    run.wait_for("app signal WINCH");
    send(&run, libc::SIGTERM);
    let run = run.wait().expect(143);
    assert_eq!(run.count("app end"), 1, "both had the signal: {:?}", run.happened);
}

#[test]
fn t12_a_map_changes_what_the_app_gets() {
    let run = Scene::new(As::Pid1).flags(["-signal-map", "USR2=forward,TERM=INT"]).start();
    run.wait_for("app start");
    send(&run, libc::SIGUSR2);
    run.wait_for("app signal USR2");
    send(&run, libc::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!((run.count("app signal INT"), run.count("app signal")), (1, 2), "{:?}", run.happened);
    Scene::new(As::Pid1).flags(["-signal-map", "TERM=ignore"]).run().expect(64);
}

/// Runs `script` for every number, a few at a time, and expects its code.
fn each(
    role: As,
    numbers: Vec<i32>,
    script: impl Fn(i32) -> String + Sync,
    code: impl Fn(i32) -> i32 + Sync,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(n) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    Scene::ephemeral(role).app(["sh", "-c", &script(*n)]).run().expect(code(*n));
                }
            });
        }
    });
    assert!(next.load(Ordering::Relaxed) >= numbers.len());
}

in_both_roles! {
    fn t01_all_256_exit_codes_go_through(role) {
        each(role, (0..256).collect(), |n| format!("exit {n}"), |n| n);
    }
}

in_both_roles! {
    fn t02_every_signal_that_ends_the_app_ends_us_with_128_plus_n(role) {
        let harmless = [
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGURG,
            libc::SIGWINCH,
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
        ];
        let deadly: Vec<_> = all().filter(|n| !harmless.contains(n)).collect();
        each(role, deadly, |n| format!("ulimit -c 0; kill -{n} $$"), |n| 128 + n);
    }
}

/// The old entrypoint's `./station --db-path X --port Y`: whatever was asked for was not what ran.
#[test]
fn e00_the_command_is_run_as_it_was_asked_for() {
    let run = Scene::ephemeral(As::Pid1)
        .app(["sh", "-c", "printf '<%s>' \"$@\"", "sh", "serve", "--db", "two words", "--", "-x", ""])
        .run()
        .expect(0);
    assert_eq!(run.stdout, "<serve><--db><two words><--><-x><>");
}

in_both_roles! {
    fn e06_the_code_an_app_ends_with_after_a_stop_is_ours(role) {
        let run = Scene::new(role).var("FA_EXIT", 7).start();
        run.wait_for("app start");
        send(&run, libc::SIGTERM);
        let run = run.wait().expect(7);
        assert_eq!(run.summary()["sync"]["ok"], true);
        assert_eq!(run.summary()["exit"], 7);
    }
}

#[test]
fn e17_the_path_in_database_path_is_the_one_the_app_gets_and_the_one_that_is_replicated() {
    let scene = Scene::new(As::Pid1).app(["sh", "-c", "echo $DATABASE_URL $STATION_DATABASE"]);
    let database = scene.dir().join("station.db").display().to_string();
    let run = scene.run().expect(0);
    assert_eq!(run.stdout, format!("{database} {database}\n"));
    assert_eq!(run.count(&format!("agent restore -for-start {database}")), 1, "{:?}", run.happened);
}
