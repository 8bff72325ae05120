//! App and agent are told to end at the same moment, and the app commits on its way out: with `-on-term
//! drain-when-app-gone` the agent stays until nobody has the database any more (SUP-242). Real processes, both layouts.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use holdfast_tests::oracle;
use holdfast_tests::process::{self, Running};
use holdfast_tests::programs::ours;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::Holdfast;
use nix::sys::signal::Signal::SIGTERM;

const SOON: Duration = Duration::from_secs(60);

/// An agent without a supervisor, and an app that commits for so many seconds after it was asked to end.
struct Both {
    scene: Scene,
    agent: Running,
    app: Running,
}

impl Both {
    fn start(format: &str, timeout: &str, seconds: &str, flags: &[&str]) -> Self {
        let scene = Scene::on_file();
        let top = [format!("shutdown-sync-timeout: {timeout}")];
        scene.configure_all(&[&top[0]], &[], &["sync-interval: 1s", &format!("format: {format}")]);
        let mut command = Holdfast.command("replicate");
        command.args(flags).arg("-config").arg(scene.config());
        let mut agent = Running::start(&mut command, &scene.dir().join("agent.log"));
        let mut command = process::command(ours("writer"));
        command.args(["--rate", "50", "--after-term", seconds]).env("STATION_DATABASE", scene.db());
        let app = Running::start(&mut command, &scene.dir().join("app.log"));
        agent.wait_log("a base", SOON, |line| {
            line.contains("snapshot written") || line.contains("copy written")
        });
        Self { scene, agent, app }
    }

    /// To both at once, and how the agent ended.
    fn end(&mut self) -> i32 {
        self.app.signal(SIGTERM);
        self.agent.signal(SIGTERM);
        process::code(self.agent.wait(SOON))
    }

    fn committed(&self) -> i64 {
        oracle::newest(&self.scene.db()).unwrap()
    }
}

#[test]
fn an_agent_that_waits_for_its_app_has_all_of_what_that_commits_on_its_way_out() {
    for format in ["v0.3", "ltx"] {
        let mut both = Both::start(format, "50s", "2", &["-on-term", "drain-when-app-gone"]);
        let before = both.committed();
        assert_eq!(both.end(), 0, "{}", both.agent.log());
        assert!(!both.app.alive(), "the app was gone first: {}", both.agent.log());
        let last = both.committed();
        assert!(last > before, "it went on: {before}, {last}");
        assert_eq!(both.scene.restored(Holdfast, &[]).last, last, "{format}: {}", both.agent.log());
        let log = both.agent.log();
        assert!(log.contains("nobody else has the database any more"), "{log}");
    }
}

#[test]
fn an_agent_that_does_not_wait_ends_before_its_app() {
    let mut both = Both::start("v0.3", "50s", "20", &[]);
    assert_eq!(both.end(), 0, "{}", both.agent.log());
    assert!(both.app.alive(), "the app goes on");
    assert!(!both.agent.log().contains("going on until"), "{}", both.agent.log());
}

#[test]
fn an_app_that_does_not_end_costs_the_agent_its_time_and_not_its_final_sync() {
    let mut both = Both::start("v0.3", "4s", "60", &["-on-term", "drain-when-app-gone"]);
    let before = both.committed();
    let code = both.end();
    assert!(both.agent.log().contains("somebody has the database still"), "{}", both.agent.log());
    assert!(both.app.alive(), "the app goes on");
    both.app.kill();
    // Under a writer that never pauses the last word may be one commit short, and is said.
    assert!(code == 0 || code == 74, "{code}: {}", both.agent.log());
    assert!(both.scene.restored(Holdfast, &[]).last > before, "{}", both.agent.log());
}
