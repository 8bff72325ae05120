//! A hundred cycles of sudden death: the agent, the app, or the whole machine with its disk, at random points. What
//! restores is a state after some committed transaction and never older than a position once reported as replicated.
//!
//! What counts as reported: in every cycle the app is frozen in mid-flight, the end of the committed WAL is read from
//! SQLite's own index, and the agent has said on its control socket that every replica holds the WAL up to that end. The row that was newest then must be in every restore from then on. Replays with `SEED=`.

use std::time::{Duration, Instant};

use holdfast_tests::agent::{self, Agent};
use holdfast_tests::chance::Chance;
use holdfast_tests::oracle;
use holdfast_tests::process::Running;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::{self, Holdfast, V03, V05};
use holdfast_tests::wal;
use nix::sys::signal::Signal;

const CYCLES: u32 = 100;
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_hundred_sudden_deaths_lose_nothing_that_was_acknowledged() {
    let scene = Scene::on_file();
    scene.configure(&["min-checkpoint-page-count: 50"], &["sync-interval: 10ms"]);
    sudden_deaths(&scene, &[Holdfast, V03, V05]);
}

/// The same, with merges, snapshots and deletions every few cycles.
#[test]
fn a_hundred_sudden_deaths_lose_nothing_from_ltx_files() {
    let scene = Scene::on_file();
    let pace = [
        "levels: [{interval: 500ms}, {interval: 2s}]",
        "snapshot: {interval: 3s, retention: 6s}",
        "l0-retention: 1s",
        "l0-retention-check-interval: 300ms",
    ];
    scene.configure_all(&pace, &["min-checkpoint-page-count: 50"], &["sync-interval: 10ms", "format: ltx"]);
    sudden_deaths(&scene, &[Holdfast, V05]);
    let log = std::fs::read_to_string(scene.dir().join("agent.log")).expect("a log");
    for done in ["compaction complete", "retention enforced"] {
        assert!(log.contains(done), "{done}:\n{log}");
    }
}

/// `readers` restore the end.
fn sudden_deaths(scene: &Scene, readers: &[Tool]) {
    let seed = Chance::seed("crash");
    let mut chance = Chance::new(seed);
    let mut life = Life { scene, app: start_app(scene, &mut chance), agent: scene.agent() };
    let mut acknowledged = 0;
    let mut deaths = [0; 3];
    for cycle in 1..=CYCLES {
        agent::mark(&scene.dir().join("agent.log"), &format!("cycle {cycle}"));
        life.agent.ready(SOON);
        std::thread::sleep(chance.between(Duration::from_millis(5), Duration::from_millis(120)));
        acknowledged = acknowledged.max(life.acknowledged_row());
        std::thread::sleep(chance.between(Duration::ZERO, Duration::from_millis(120)));
        let death = Death::draw(&mut chance);
        deaths[death as usize] += 1;
        life.strike(death, acknowledged, cycle, &mut chance);
    }
    println!(
        "{CYCLES} cycles: {} agents, {} apps, {} machines died; row {acknowledged} acknowledged",
        deaths[0], deaths[1], deaths[2]
    );

    // Faults have ceased and writes stop: the replica becomes the newest state.
    life.agent.ready(SOON);
    let newest = life.acknowledged_row();
    life.app.kill();
    let live = oracle::expect_state(&scene.db(), "the live database");
    let drained = life.agent.drain(SOON);
    assert!(drained.ok, "the final sync is proven: {drained:?}");
    assert!(life.agent.exit(SOON).success(), "the agent leaves in peace:\n{}", life.agent.log());
    assert!(live.last >= newest);
    for reader in readers {
        assert_eq!(scene.restored(*reader, &[]), live, "{reader} restores the end, SEED={seed}");
    }
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Agent,
    App,
    Machine,
}

impl Death {
    fn draw(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0..4 => Self::Agent,
            4..8 => Self::App,
            _ => Self::Machine,
        }
    }
}

/// The app and the agent, both running.
struct Life<'a> {
    scene: &'a Scene,
    app: Running,
    agent: Agent,
}

impl Life<'_> {
    /// Freezes the app wherever it is, waits until the agent calls everything committed replicated, lets the app go on.
    /// Returns the newest row that is safe by the agent's word.
    fn acknowledged_row(&mut self) -> i64 {
        self.freeze();
        while !wal::is_readable(&self.scene.db()) {
            self.app.signal(Signal::SIGCONT);
            self.freeze();
        }
        let since = Instant::now();
        let newest = oracle::newest(&self.scene.db()).unwrap_or(0);
        let end = wal::committed_end(&self.scene.db());
        self.agent.acknowledged(end, since, SOON);
        self.app.signal(Signal::SIGCONT);
        newest
    }

    /// The signal has taken effect when the log no longer grows.
    fn freeze(&self) {
        self.app.signal(Signal::SIGSTOP);
        let mut end = wal::committed_end(&self.scene.db());
        loop {
            std::thread::sleep(Duration::from_millis(3));
            let again = wal::committed_end(&self.scene.db());
            if again == end {
                break;
            }
            end = again;
        }
    }

    /// Kills, judges what is left, and starts again what died.
    fn strike(&mut self, death: Death, acknowledged: i64, cycle: u32, chance: &mut Chance) {
        match death {
            Death::Agent => {
                self.agent.kill();
                let newest = oracle::newest(&self.scene.db()).unwrap_or(0);
                self.judge(acknowledged, newest, cycle);
                self.agent = self.scene.agent();
            }
            Death::App => {
                self.app.kill();
                let newest = oracle::newest(&self.scene.db()).unwrap_or(0);
                self.judge(acknowledged, newest, cycle);
                self.app = start_app(self.scene, chance);
            }
            Death::Machine => {
                self.app.kill();
                self.agent.kill();
                let newest = oracle::newest(&self.scene.db()).unwrap_or(0);
                let db = self.scene.db();
                for suffix in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(wal::beside(&db, suffix));
                }
                self.judge(acknowledged, newest, cycle);
                let (said, out) = self.scene.restore(Holdfast, &[]);
                said.expect_success("restore on the new machine");
                std::fs::rename(out, &db).expect("the restored database goes live");
                self.agent = self.scene.agent();
                self.app = start_app(self.scene, chance);
            }
        }
    }

    /// What would be restored now: a committed state, at least what was acknowledged, at most what was committed.
    fn judge(&self, acknowledged: i64, newest: i64, cycle: u32) {
        let restored = self.scene.restored(Holdfast, &[]);
        assert!(
            acknowledged <= restored.last,
            "cycle {cycle}: row {acknowledged} was acknowledged, {} restored; the agent:\n{}",
            restored.last,
            self.agent.log()
        );
        // A live app may have committed more between the look and the restore, never less.
        assert!(
            restored.last <= newest || oracle::newest(&self.scene.db()) >= Some(restored.last),
            "cycle {cycle}: restored row {}, committed {newest}",
            restored.last
        );
    }
}

/// An app with small and large transactions that reuses pages and checkpoints by itself.
fn start_app(scene: &Scene, chance: &mut Chance) -> Running {
    let autocheckpoint = ["0", "20", "200", "1000"][chance.below(4) as usize];
    let seed = chance.below(1_000_000).to_string();
    let load = ["--rate", "1500", "--keep", "400", "--big-txn", "150", "--rows", "2", "--seed", &seed];
    scene.writer().args(load).args(["--autocheckpoint", autocheckpoint]).start()
}
