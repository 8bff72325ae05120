//! Before the app: what is restored, what is refused, and what the app finds when it starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use holdfast_tests::in_both_roles;
use holdfast_tests::supervised::{As, Scene};

in_both_roles! {
    fn without_a_replica_it_says_so_word_for_word_and_runs_the_app(role) {
        let run = Scene::ephemeral(role).var("FA_RUN_MS", 20).var("FA_EXIT", 7).run().expect(7);
        assert!(
            run.stderr.contains(" WARN supervisor: No Litestream replica configured. Running in ephemeral mode.\n"),
            "{}",
            run.stderr
        );
        assert_eq!(run.count("agent"), 0);
        assert_eq!(run.summary()["sync"], serde_json::Value::Null);
    }
}

#[test]
fn e08_the_restore_comes_first_and_the_app_after_ready() {
    let run = Scene::new(As::Pid1).var("FA_RUN_MS", 20).var("FG_READY_MS", 300).run().expect(0);
    let order = ["agent restore -for-start /", "agent replicate", "agent ready", "app start", "agent drain"];
    let times = order.map(|what| run.first(what).at);
    assert!(times.is_sorted(), "{:?}", run.happened);
    assert!(times[3] - times[1] >= 290, "the app waited for ready: {:?}", run.happened);
}

#[test]
fn t80_e12_a_configuration_file_is_passed_on_as_it_was_found() {
    let scene = Scene::new(As::Pid1).var("FA_RUN_MS", 20);
    let (db, config) = (scene.dir().join("mine.db"), scene.dir().join("litestream.yml"));
    let text = format!(
        "dbs:\n  - path: {}\n    replicas:\n      - path: {}\n",
        db.display(),
        scene.dir().join("r").display()
    );
    fs::write(&config, text).unwrap();
    let (db, config) = (db.to_str().unwrap().to_owned(), config.to_str().unwrap().to_owned());
    let scene = scene.var("DATABASE_PATH", "").var("LITESTREAM_CONFIG", &config);
    let run = scene.run().expect(0);
    assert_eq!(
        run.count(&format!("agent restore -for-start -config {config} {db}")),
        1,
        "{:?}",
        run.happened
    );
    assert_eq!(run.count(&format!("agent replicate -config {config}")), 1);
}

#[test]
fn what_is_said_of_starts_reaches_the_agent_from_flags_and_variables() {
    let scene = Scene::new(As::Pid1).var("FA_RUN_MS", 20).var("SUPERVISOR_ON_BEHIND", "keep");
    let scene =
        scene.var("SUPERVISOR_ALLOW_EMPTY_START", "").flags(["-on-corrupt", "restore", "-require-replica"]);
    let run = scene.run().expect(0);
    let said = "agent restore -for-start -on-behind keep -on-corrupt restore -require-replica /";
    assert_eq!(run.count(said), 1, "{:?}", run.happened);
}

#[test]
fn t92_check_runs_the_agent_for_its_findings_and_nothing_else() {
    let run = Scene::new(As::Subreaper).checking().var("FG_RESTORE_EXIT", 79).run().expect(79);
    assert_eq!(run.count("agent restore -for-start"), 1);
    assert!(run.first("agent restore").what.ends_with("-dry-run"), "{:?}", run.happened);
    assert_eq!((run.count("agent replicate"), run.count("app")), (0, 0));
}

#[test]
fn t43_an_unreachable_replica_is_retried_and_then_refused_with_69() {
    let begun = holdfast_tests::supervised::monotonic_ms();
    let run = Scene::new(As::Pid1).var("FG_RESTORE_EXIT", 69).flags(["-restore-wait", "3s"]).run().expect(69);
    assert!(run.at - begun >= 3_000, "it gave up after {} ms", run.at - begun);
    assert!((3..=4).contains(&run.count("agent restore")), "{:?}", run.happened);
    assert_eq!(run.count("app"), 0);
    assert_eq!(run.count("agent replicate"), 0);
}

#[test]
fn a_replica_that_comes_back_in_time_is_restored_from() {
    let run = Scene::new(As::Pid1).var("FA_RUN_MS", 20).var("FG_RESTORE_EXIT", "69,0").run().expect(0);
    assert_eq!(run.count("agent restore"), 2);
    assert_eq!(run.count("app start"), 1);
}

#[test]
fn t44_denied_corrupt_and_all_other_answers_start_nothing_and_write_nothing() {
    for code in [65, 66, 73, 75, 76, 77, 78, 79, 1, 200] {
        let scene = Scene::new(As::Pid1).var("FG_RESTORE_EXIT", code).start();
        let dir = scene.dir().to_owned();
        scene.wait_for("agent restore");
        scene.wait_log("the app was not started");
        let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        // Ours, until the end.
        files.retain(|name| name != ".station.db-holdfast.lock");
        files.sort();
        assert_eq!(files, ["events", "stderr", "stdout"], "nothing but the test's own files");
        let run = scene.wait().expect(code);
        assert_eq!((run.count("app"), run.count("agent replicate")), (0, 0));
        assert_eq!(run.summary()["exit"], code);
    }
}

#[test]
fn an_agent_that_refuses_at_its_start_ends_the_run_with_its_code() {
    for (code, ours) in [(78, 78), (75, 75), (3, 70)] {
        let run = Scene::new(As::Pid1).var("FG_EXIT", code).run().expect(ours);
        assert_eq!(run.count("app"), 0);
    }
}

#[test]
fn an_agent_that_does_not_get_ready_in_time_ends_the_run_with_70() {
    let run =
        Scene::new(As::Pid1).var("FG_READY_MS", 60_000).flags(["-ready-wait", "500ms"]).run().expect(70);
    assert_eq!(run.count("app"), 0);
    assert!(run.stderr.contains("agent not ready after"), "{}", run.stderr);
}

in_both_roles! {
    fn t23_a_command_that_cannot_run_is_127_or_126_after_the_final_sync(role) {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "not a program").unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        for (command, code) in [("/no/such/program", 127), (plain.to_str().unwrap(), 126)] {
            let run = Scene::new(role).app([command]).run().expect(code);
            assert!(run.stderr.contains(&format!("start {command}: ")), "{}", run.stderr);
            assert_eq!((run.count("agent drain"), run.count("agent exit")), (1, 1));
        }
    }
}

#[test]
fn t79_a_configuration_that_cannot_be_understood_is_78_and_starts_nothing() {
    let scene = Scene::new(As::Pid1);
    let config = scene.dir().join("litestream.yml");
    fs::write(&config, "dbs: [{path: /x.db, replicas: [{url: \"s3://${NO_SUCH_BUCKET}/x\"}]}]").unwrap();
    let run = scene.flags(["-config", config.to_str().unwrap()]).run().expect(78);
    assert!(run.stderr.contains("NO_SUCH_BUCKET"), "{}", run.stderr);
    assert!(run.happened.is_empty());
}

#[test]
fn t83_two_databases_from_two_sources_are_refused_with_both() {
    let run = Scene::new(As::Pid1).var("DATABASE_URL", "/elsewhere/x.db").run().expect(78);
    assert!(run.stderr.contains("/elsewhere/x.db") && run.stderr.contains("station.db"), "{}", run.stderr);
    assert!(run.happened.is_empty());
}

#[test]
fn a_command_line_that_makes_no_sense_is_64_and_says_how() {
    let run = Scene::new(As::Pid1).flags(["-no-such-flag"]).run().expect(64);
    assert!(run.stderr.contains("no flag -no-such-flag") && run.stderr.contains("--help"), "{}", run.stderr);
}

#[test]
fn the_stop_grace_is_guessed_with_a_warning_and_an_empty_variable_is_none() {
    let scene = || Scene::ephemeral(As::Pid1).var("FA_RUN_MS", 10).var("SUPERVISOR_RESTORE_WAIT", "");
    assert!(!scene().run().expect(0).stderr.contains("guessed"));
    let run = scene().without_flags().var("KUBERNETES_SERVICE_HOST", "10.0.0.1").run().expect(0);
    assert!(run.stderr.contains("stop grace guessed as 30 s"), "{}", run.stderr);
}

#[test]
fn the_summary_goes_to_the_termination_log_if_that_exists() {
    let scene = Scene::new(As::Pid1).var("FA_RUN_MS", 20);
    let file = scene.dir().join("termination-log");
    fs::write(&file, "what an earlier container left, longer than any summary ".repeat(100)).unwrap();
    let kept = fs::File::open(&file).unwrap();
    let scene = scene.flags(["-termination-log", file.to_str().unwrap()]).var("SUPERVISOR_LOG_LEVEL", "warn");
    let run = scene.run().expect(0);
    let written = std::io::read_to_string(kept).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), run.summary());
}
