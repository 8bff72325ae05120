//! SIGHUP under load: databases and replicas are added, removed and changed, and no commit is lost on the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_config::exit::Exit;
use holdfast_tests::ceph::Ceph;
use holdfast_tests::oracle::{self, State};
use holdfast_tests::process::{Running, code};
use holdfast_tests::replica::Replica;
use holdfast_tests::tool::Tool;
use holdfast_tests::workload::{Writer, truth, truth_of};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// Databases `a.db`, `b.db` of writers that never rest, and an agent with a configuration that changes.
struct Changing {
    dir: TempDir,
    agent: Option<Running>,
    writers: Vec<(PathBuf, Running)>,
}

impl Changing {
    fn new(yaml: impl Fn(&Path) -> String) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir().expect("a temporary directory");
        let mut new = Self { dir, agent: None, writers: Vec::new() };
        for name in ["a.db", "b.db"] {
            let db = new.path(name);
            let writer =
                Writer::on(&db).args(["--rate", "200", "--big-txn", "300", "--autocheckpoint", "100"]);
            let mut writer = writer.start();
            until("the writer writes", || !truth(&truth_of(&db)).is_empty() || !writer.alive());
            new.writers.push((db, writer));
        }
        new.configure(&yaml(new.dir.path()));
        new.agent = Some(Tool::Holdfast.replicate(&new.path("litestream.yml"), &new.path("agent.log")));
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, yaml: &str) {
        std::fs::write(self.path("litestream.yml"), yaml).expect("write the configuration");
    }

    fn agent(&mut self) -> &mut Running {
        self.agent.as_mut().expect("the agent is started")
    }

    /// Another configuration, by SIGHUP; returns when it holds, or was refused.
    fn reload(&mut self, yaml: &str) -> String {
        self.configure(yaml);
        let verdict = |l: &str| l.contains("configuration reloaded") || l.contains("not reloaded");
        let before = self.agent().log().lines().filter(|l| verdict(l)).count();
        self.agent().signal(Signal::SIGHUP);
        let mut said = String::new();
        until("the agent has read the configuration again", || {
            let log = self.agent().log();
            said = log.lines().filter(|l| verdict(l)).nth(before).unwrap_or_default().to_owned();
            !said.is_empty()
        });
        said
    }

    fn says(&mut self, what: &str) {
        self.agent().wait_log(what, SOON, |l| l.contains(what));
    }

    /// The last row of which the writer of `db` was told that it is committed.
    fn committed(&self, db: &str) -> i64 {
        truth(&truth_of(&self.path(db))).last().map_or(0, |c| c.n)
    }

    /// The state a replica restores to; `None` while it is empty or its first snapshot is on its way.
    fn state(&self, replica: &Replica, what: &str) -> Option<State> {
        let dir = tempfile::tempdir_in(self.dir.path()).expect("a temporary directory");
        let (config, out) = (dir.path().join("l.yml"), dir.path().join("out.db"));
        let db = dir.path().join("any.db");
        std::fs::write(&config, holdfast_tests::replica::config(&db, &[], replica, &[]))
            .expect("write the configuration");
        let said = Tool::Holdfast.restore(&config, &db, &out, &[]);
        if [Exit::Empty, Exit::Unrestorable].iter().any(|exit| said.code == i32::from(exit.code())) {
            return None;
        }
        said.expect_success(what);
        Some(oracle::expect_state(&out, what))
    }

    fn restored(&self, replica: &Replica, what: &str) -> State {
        self.state(replica, what).unwrap_or_else(|| panic!("{what}: the replica does not restore"))
    }

    /// Waits until a replica restores to at least this row.
    fn reaches(&mut self, replica: &Replica, row: i64, what: &str) {
        let until = std::time::Instant::now() + SOON;
        loop {
            let last = self.state(replica, what).map_or(0, |state| state.last);
            if last >= row {
                return;
            }
            assert!(std::time::Instant::now() < until, "{what}: {last} of {row}\n{}", self.agent().log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends writers and agent; `replica` must then hold every commit of `db`.
    fn end(&mut self, expected: &[(&str, &Replica)]) {
        for (_, writer) in &mut self.writers {
            writer.stop(SOON);
        }
        let status = self.agent().stop(SOON);
        assert_eq!(code(status), 0, "{}", self.agent().log());
        for (db, replica) in expected {
            let state = self.restored(replica, db);
            let live = oracle::expect_state(&self.path(db), "the live database");
            assert_eq!(state, live, "{db}");
            assert!(state.last >= self.committed(db), "{db}");
        }
    }
}

fn until(what: &str, mut answer: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + SOON;
    while !answer() {
        assert!(std::time::Instant::now() < end, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An item of `dbs` with these replicas.
fn item(dir: &Path, db: &str, replicas: &[&Replica]) -> String {
    let replicas: String =
        replicas.iter().enumerate().map(|(n, r)| r.yaml(&[&format!("name: r{n}"), PACE])).collect();
    format!(
        "  - path: {}\n    min-checkpoint-page-count: 200\n    replicas:\n{replicas}",
        dir.join(db).display()
    )
}

const PACE: &str = "sync-interval: 50ms";

/// Generations of v0.3 in a directory.
fn generations(replica: &Replica) -> usize {
    let Replica::File(path) = replica else { panic!("a directory") };
    std::fs::read_dir(path.join("generations")).map_or(0, Iterator::count)
}

#[test]
fn databases_and_replicas_come_and_go_without_losing_a_commit() {
    let dirs = std::cell::RefCell::new(PathBuf::new());
    let file = |name: &str| Replica::File(dirs.borrow().join(name));
    let mut scene = Changing::new(|dir| {
        dirs.replace(dir.into());
        format!("dbs:\n{}", item(dir, "a.db", &[&file("ra")]))
    });
    let dir = scene.dir.path().to_owned();
    let (ra, rb, rc) = (file("ra"), file("rb"), file("rc"));
    scene.says("wal pinned");
    scene.reaches(&ra, 1, "a.db at first");

    // Another database; the first is not touched.
    let said = scene.reload(&format!("dbs:\n{}{}", item(&dir, "a.db", &[&ra]), item(&dir, "b.db", &[&rb])));
    assert!(said.contains("added=1 replaced=0 removed=0 kept=1"), "{said}");
    let row = scene.committed("b.db");
    scene.reaches(&rb, row, "the added b.db");
    assert_eq!(scene.agent().log().matches("wal pinned").count(), 2);

    // A broken file is refused, and so is a directory that is not there; the old configuration goes on.
    for (broken, why) in [
        ("dbs:\n  - path: /x\n    replicas: [{type: s3}]\n", "bucket: it is missing"),
        ("dbs: [\n", "the file is not YAML"),
        ("dbs: [{dir: /nowhere/at/all, pattern: '*', replica: {path: /r}}]\n", "cannot be read"),
        ("exec: true\ndbs: [{path: /x, replica: {path: /r}}]\n", "`exec` is the supervisor's work"),
    ] {
        let said = scene.reload(broken);
        assert!(said.contains(why) && said.contains("ERROR"), "{said}");
    }
    let row = scene.committed("a.db");
    scene.reaches(&ra, row, "a.db after a refused configuration");

    // A second replica for one of them, then only that: the pin is handed over, and the first ends complete.
    let said =
        scene.reload(&format!("dbs:\n{}{}", item(&dir, "a.db", &[&ra, &rc]), item(&dir, "b.db", &[&rb])));
    assert!(said.contains("added=0 replaced=1 removed=0 kept=1"), "{said}");
    let row = scene.committed("a.db");
    scene.reaches(&rc, row, "the new replica of a.db");
    scene.reaches(&ra, row, "the old replica of a.db");
    let before = scene.committed("a.db");
    let said = scene.reload(&format!("dbs:\n{}{}", item(&dir, "a.db", &[&rc]), item(&dir, "b.db", &[&rb])));
    assert!(said.contains("replaced=1"), "{said}");
    until("a.db is handed over again", || scene.agent().log().matches("handed over").count() == 2);
    assert!(scene.restored(&ra, "the replica that was taken away").last >= before);
    assert_eq!(scene.agent().log().matches("wal pinned").count(), 2, "the pin never ended");

    // A database less: its replica has everything up to then.
    let before = scene.committed("b.db");
    let said = scene.reload(&format!("dbs:\n{}", item(&dir, "a.db", &[&rc])));
    assert!(said.contains("removed=1"), "{said}");
    scene.says("removed database from replication: its replica holds every commit");
    assert!(scene.restored(&rb, "the removed database").last >= before);

    // What takes effect at the next start is named.
    scene.reload(&format!("logging: {{level: warn}}\ndbs:\n{}", item(&dir, "a.db", &[&rc])));
    scene.says("`logging` changed in the configuration");
    scene.end(&[("a.db", &rc)]);
    // It went on where it was, but for hand-overs that met a restart of the WAL.
    assert!(generations(&rc) <= 2, "{} generations", generations(&rc));
}

#[test]
fn credentials_that_were_wrong_are_put_right_and_nothing_is_lost() {
    let server = std::sync::Arc::new(Ceph::connect());
    let right = Replica::S3 { server: server.clone(), prefix: format!("reload-{}/a", std::process::id()) };
    let wrong = |yaml: &str| yaml.replace(&server.secret_key, "not-the-secret");
    let mut scene = Changing::new(|dir| wrong(&format!("dbs:\n{}", item(dir, "a.db", &[&right]))));
    let dir = scene.dir.path().to_owned();
    scene.says("trying again");
    let before = scene.committed("a.db");
    let said = scene.reload(&format!("dbs:\n{}", item(&dir, "a.db", &[&right])));
    assert!(said.contains("replaced=1"), "{said}");
    scene.reaches(&right, before, "with the right secret");
    assert_eq!(scene.agent().log().matches("wal pinned").count(), 1, "the pin never ended");
    scene.end(&[("a.db", &right)]);
}

#[test]
fn a_command_line_has_nothing_to_reload() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    rusqlite::Connection::open(&db)
        .unwrap()
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (a)")
        .unwrap();
    let mut command = Tool::Holdfast.command("replicate");
    command.arg(&db).arg(format!("file://{}", dir.path().join("r").display()));
    let mut agent = Running::start(&mut command, &dir.path().join("agent.log"));
    agent.wait_log("it runs", SOON, |l| l.contains("wal pinned"));
    agent.signal(Signal::SIGHUP);
    agent.wait_log("it says so", SOON, |l| l.contains("SIGHUP ignored"));
    assert_eq!(code(agent.stop(SOON)), 0);
}
