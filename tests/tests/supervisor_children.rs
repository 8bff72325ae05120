//! What children are born with, what is left behind, and who may hold whom.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::in_both_roles;
use holdfast_tests::procfs::Cost;
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{As, SOON, Scene, children, monotonic_ms, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
        .split_ascii_whitespace()
        .last()
        .expect("a value")
        .into()
}

in_both_roles! {
    fn t16_orphans_are_reaped_while_the_app_runs(role) {
        let run = Scene::new(role).var("FA_ORPHANS", 50).var("FA_ORPHAN_MS", 1_000).start();
        run.wait_for("app start");
        run.wait_for_nth("orphan start", 50);
        run.wait_for_nth("orphan end", 50);
        let supervisor = run.pid();
        // The app and the agent; a zombie would be a third.
        until("only the app and the agent are left", SOON, || (children(supervisor).len() == 2).then_some(()));
        run.signal(Signal::SIGTERM);
        let summary = run.wait().expect(0).summary();
        assert_eq!((&summary["orphans_reaped"], &summary["orphans_killed"]), (&50.into(), &0.into()));
    }
}

in_both_roles! {
    fn t17_e22_what_the_app_leaves_behind_is_stopped_before_the_final_sync(role) {
        let scene = Scene::new(role).var("FA_ORPHANS", 2).var("FA_RUN_MS", 100);
        let run = scene.var("FA_ORPHAN_IGNORE", "TERM").run().expect(0);
        assert_eq!(run.count("orphan signal TERM"), 2);
        let waited = run.first("agent drain").at - run.first("orphan signal TERM").at;
        assert!((480..3_000).contains(&waited), "TERM, half a second, KILL, drain: {waited} ms");
        assert_eq!(run.summary()["orphans_killed"], 2);
        assert_eq!(run.count("orphan end"), 0);
    }
}

/// PID 1 of a namespace that shows another one's /proc: the numbers in there are not its own processes.
#[test]
fn nobody_is_signalled_by_the_numbers_of_another_namespace() {
    let scene = Scene::new(As::Subreaper).var("FA_RUN_MS", 100);
    let file = |name| File::create(scene.dir().join(name)).unwrap();
    let (out, err) = (file("stdout"), file("stderr"));
    let unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--"];
    let run = scene.start_under(&unshare, out, err).wait().expect(0);
    let says = "list processes in /proc: it shows the processes of another namespace";
    assert!(run.stderr.contains(says), "{}", run.stderr);
    assert!(!run.stderr.contains("left behind"), "{}", run.stderr);
    assert_eq!((run.summary()["sync"]["ok"].as_bool(), run.count("agent replicate")), (Some(true), 1));
}

in_both_roles! {
    fn orphans_that_obey_cost_no_time(role) {
        let run = Scene::new(role).var("FA_ORPHANS", 2).var("FA_RUN_MS", 100).run().expect(0);
        assert_eq!(run.count("orphan end"), 2);
        assert!(run.first("agent drain").at >= run.first("orphan end").at);
        assert_eq!(run.summary()["orphans_killed"], 0);
    }
}

in_both_roles! {
    fn t19_children_have_no_blocked_and_no_ignored_signals(role) {
        // Not a Rust program: those ignore SIGPIPE by themselves.
        let scene = Scene::new(role).app(["cat", "/proc/self/status"]);
        let file = |name| File::create(scene.dir().join(name)).unwrap();
        let (out, err) = (file("stdout"), file("stderr"));
        // What a careless parent leaves us with.
        let careless = "import os, signal, sys\n\
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])\n\
            [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP)]\n\
            os.execvp(sys.argv[1], sys.argv[1:])";
        let run = scene.start_under(&["python3", "-c", careless], out, err).wait().expect(0);
        let mask = |name| u64::from_str_radix(&field(&run.stdout, name), 16).unwrap();
        assert_eq!(mask("SigBlk:"), 0, "{}", run.stdout);
        // 32 and 33 are the C library's own; it lets nobody touch them.
        assert_eq!(mask("SigIgn:") & !(0b11 << 31), 0, "{}", run.stdout);
    }
}

in_both_roles! {
    fn t27_a_broadcast_term_does_not_end_the_agent(role) {
        let run = Scene::new(role).var("FA_STOP_MS", 300).start();
        run.wait_for("app start");
        let supervisor = run.pid();
        for child in children(supervisor) {
            kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
        }
        run.signal(Signal::SIGTERM);
        let run = run.wait().expect(0);
        assert_eq!(run.count("agent replicate"), 1);
        assert!(run.first("agent drain").at >= run.first("app end").at);
    }
}

#[test]
fn t85_the_app_knows_its_database_and_none_of_our_secrets() {
    let scene = Scene::new(As::Pid1).var("FA_RUN_MS", 50);
    let dump = scene.dir().to_str().unwrap().to_owned();
    let scene = scene
        .var("FA_DUMP", &dump)
        .var("LITESTREAM_S3_SECRET_ACCESS_KEY", "s3cr3t-one")
        .var("LITESTREAM_SECRET_ACCESS_KEY", "s3cr3t-two")
        .var("SUPERVISOR_SECOND_TERM", "forward")
        .var("STATION_ENCRYPTION_KEY", "its own")
        .var("DATABASE_URL", format!("sqlite:{dump}/station.db?mode=rwc"));
    let run = scene.start();
    run.wait_for("app start");
    let environ = String::from_utf8(fs::read(format!("{dump}/environ")).unwrap()).unwrap();
    let vars: Vec<&str> = environ.split('\0').collect();
    run.wait().expect(0);
    for set in [
        format!("DATABASE_URL=sqlite:{dump}/station.db?mode=rwc"),
        format!("STATION_DATABASE={dump}/station.db"),
    ] {
        assert!(vars.contains(&set.as_str()), "{set} in {vars:?}");
    }
    assert!(vars.contains(&"STATION_ENCRYPTION_KEY=its own"));
    assert!(!environ.contains("s3cr3t"), "{vars:?}");
    assert!(!vars.iter().any(|v| v.starts_with("SUPERVISOR_") || v.starts_with("HOLDFAST_")), "{vars:?}");
}

#[test]
fn children_inherit_no_descriptor_but_their_own() {
    let scene = Scene::new(As::Subreaper).var("FA_RUN_MS", 5_000);
    let err = File::create(scene.dir().join("stderr")).unwrap();
    let out = File::create(scene.dir().join("stdout")).unwrap();
    // Descriptor 7 leaks from whoever started us.
    let run = scene.start_under(&["/bin/sh", "-c", "exec 7</dev/null; exec \"$@\"", "sh"], out, err);
    let app: i32 = run.wait_for("app start").what["app start ".len()..].parse().unwrap();
    let agent: i32 = run.wait_for("agent start").what["agent start ".len()..].parse().unwrap();
    let links = |pid: i32| -> Vec<String> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap().display().to_string()).collect()
    };
    // The app's own: a signalfd. The agent's: the control socket, and the lock, so that it outlives us.
    assert_eq!(links(app).len(), 4, "{:?}", links(app));
    assert!(!links(app).iter().any(|l| l.starts_with("socket:")));
    assert_eq!(links(agent).len(), 5, "{:?}", links(agent));
    assert!(links(agent).iter().any(|l| l.ends_with("/.station.db-holdfast.lock")), "{:?}", links(agent));
    assert_eq!(links(agent).iter().filter(|l| l.starts_with("socket:")).count(), 1);
    let session = |pid: i32| nix::unistd::getsid(Some(Pid::from_raw(pid))).unwrap();
    assert_eq!(session(agent), Pid::from_raw(agent), "the agent has its own session");
    let group = nix::unistd::getpgid(Some(Pid::from_raw(app))).unwrap();
    assert_eq!(group, Pid::from_raw(app), "the app has its own group");
    assert_ne!(session(app), Pid::from_raw(app), "in our session");
    run.signal(Signal::SIGTERM);
    run.wait().expect(0);
}

in_both_roles! {
    fn t21_stdin_and_stdout_are_the_apps_alone(role) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let scene = Scene::new(role).app(["cat"]).stdin(Stdio::from(theirs.as_fd().try_clone_to_owned().unwrap()));
        drop(theirs);
        ours.write_all(b"x").unwrap();
        drop(ours);
        let run = scene.run().expect(0);
        assert_eq!(run.stdout, "x");
        assert!(run.stderr.contains("final sync proven"));
    }
}

#[test]
fn t22_a_log_nobody_reads_stops_nothing() {
    let (read, write) = std::io::pipe().unwrap();
    // Full before the supervisor writes its first line.
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    while (&write).write(&[b'.'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let scene = Scene::new(As::Pid1).var("FA_STOP_MS", 100);
    let summary = scene.dir().join("summary");
    fs::write(&summary, "").unwrap();
    let kept = File::open(&summary).unwrap();
    let scene = scene.flags(["-termination-log", summary.to_str().unwrap()]);
    let out = File::create(scene.dir().join("stdout")).unwrap();
    let run = scene.start_under(&[], out, write);
    run.wait_for("app start");
    for nth in 1..=400 {
        run.signal(Signal::SIGUSR1);
        run.wait_for_nth("agent flush", nth);
    }
    run.signal(Signal::SIGTERM);
    let run = run.wait().expect(0);
    assert_eq!(run.count("agent drain"), 1);
    let summary: serde_json::Value = serde_json::from_reader(kept).unwrap();
    assert!(summary["log_dropped"].as_u64().unwrap() > 0, "{summary}");
    drop(read);
}

#[test]
fn t24_when_the_supervisor_is_killed_the_agent_hears_it_and_the_app_lives() {
    let run = Scene::new(As::Subreaper).var("FA_RUN_MS", 20_000).start();
    let app: i32 = run.wait_for("app start").what["app start ".len()..].parse().unwrap();
    run.signal(Signal::SIGKILL);
    run.wait_for("agent eof");
    assert!(kill(Pid::from_raw(app), None).is_ok(), "the app is untouched");
    kill(Pid::from_raw(app), Signal::SIGKILL).unwrap();
    run.wait().expect(137);
}

/// Ten thousand processes that nobody waits for but us, while a thousand signals a second arrive, for ten seconds.
#[test]
fn t26_a_storm_of_orphans_and_signals_loses_nothing_and_costs_little() {
    // A child that ends at once leaves each of them behind. Then the app lives on, so that the table can be looked at.
    let storm =
        "trap : WINCH; i=0; while [ $i -lt 10000 ]; do (: &); i=$((i+1)); done; echo over; exec sleep 600";
    let run = Scene::new(As::Pid1).app(["sh", "-c", storm]).start();
    let supervisor = run.pid();
    run.wait_log("app started");
    let cost = || Cost::of(supervisor.unsigned_abs()).expect("the supervisor lives");
    let (before, began) = (cost(), Instant::now());
    let over = || fs::read_to_string(run.dir().join("stdout")).is_ok_and(|said| said.contains("over"));
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(10) || !over() {
        // As many as a thousand a second have become due, however long the machine kept us waiting.
        let due = (began.elapsed().as_secs_f64() * 1_000.0) as usize;
        for nth in sent..due {
            kill(Pid::from_raw(supervisor), [Signal::SIGWINCH, Signal::SIGCONT][nth % 2]).unwrap();
        }
        sent = due;
        std::thread::sleep(Duration::from_millis(1));
        assert!(began.elapsed() < 2 * SOON, "the storm does not end");
    }
    let (after, took) = (cost(), began.elapsed().as_secs_f64());
    // The app and the agent: whoever was not reaped would be a third.
    until("the table is empty", SOON, || (children(supervisor).len() == 2).then_some(()));
    let (cpu, grown) = ((after.cpu - before.cpu) / took, after.resident.saturating_sub(before.resident));
    println!("{sent} signals in {took:.1} s: {:.0} % of a core, {} KiB more", cpu * 100.0, grown / 1024);
    assert!(cpu < 1.0, "{cpu} cores");
    assert!(grown < 256 << 10, "from {} to {} bytes", before.resident, after.resident);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait().expect(143).summary()["orphans_reaped"], 10_000);
}

#[test]
fn t20_ctrl_c_reaches_the_app_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events");
    let command = format!(
        "LITESTREAM_FILE_PATH={0}/replica DATABASE_PATH={0}/station.db FIXTURE_LOG={1} {2} -agent {3} -- {4}",
        dir.path().display(),
        events.display(),
        ours("holdfast-supervisor").display(),
        ours("fakeagent").display(),
        ours("fakeapp").display()
    );
    let mut terminal = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = |what: &str| fs::read_to_string(&events).unwrap_or_default().contains(what).then_some(());
    until("the app has started", SOON, || seen("app start"));
    let pressed = monotonic_ms();
    terminal.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let status = terminal.wait().unwrap();
    let mut screen = String::new();
    terminal.stdout.take().unwrap().read_to_string(&mut screen).unwrap();
    assert_eq!(status.code(), Some(0), "{screen}");
    let events = fs::read_to_string(&events).unwrap();
    assert_eq!(events.matches("app signal INT").count(), 1, "{events}");
    assert_eq!(events.matches("app signal").count(), 1, "{events}");
    assert!(screen.contains("\"cause\":\"the app exited 0\""), "the supervisor heard no signal: {screen}");
    assert!(screen.contains("final sync proven"), "{screen}");
    assert!(monotonic_ms() - pressed < 10_000);
}
