//! What a replica holds that the database does not descend from: it is seen, and it goes only when somebody asks for it by
//! its name. Real agents, in both layouts.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_tests::oracle;
use holdfast_tests::process::{self, Finished};
use holdfast_tests::scene::Scene;
use holdfast_tests::scrape::{free, get};
use holdfast_tests::supervised::until;
use holdfast_tests::tool::Tool::Holdfast;
use rusqlite::Connection;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A replica of a good database, beside which somebody has begun with another; and where its agent listens.
struct Held {
    scene: Scene,
    addr: String,
    /// Objects of the good one.
    good: Vec<PathBuf>,
}

impl Held {
    fn with(format: &str) -> Self {
        let scene = Scene::on_file();
        let addr = free();
        let top = [&format!("addr: {addr}"), "snapshot: {interval: 1s}"];
        let replica = [
            "sync-interval: 20ms",
            "retention-check-interval: 1s",
            "retention: 1h",
            &format!("format: {format}"),
        ];
        scene.configure_all(&top, &[], &replica);
        let mut agent = scene.agent();
        agent.ready(SOON);
        assert!(scene.writer().args(["--commits", "30"]).start().wait(SOON).success());
        assert!(agent.drain(SOON).ok && agent.exit(SOON).success());
        let good = objects(&scene);

        for name in ["app.db", "app.db-wal", "app.db-shm", ".app.db.holdfast"] {
            let _ = fs::remove_file(scene.dir().join(name));
        }
        let other = Connection::open(scene.db()).unwrap();
        other
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE other(a); INSERT INTO other VALUES(1)")
            .unwrap();
        Self { scene, addr, good }
    }

    fn status(&self) -> Option<Value> {
        let (_, body) = get(&self.addr, "/status")?;
        Some(serde_json::from_str::<Value>(&body).unwrap()["databases"][0]["replicas"][0].take())
    }

    fn rm(&self, name: &str, flags: &[&str]) -> Finished {
        let mut command = Holdfast.command("generations");
        command.args(["-rm", name]).args(flags).arg("-config").arg(self.scene.config()).arg(self.scene.db());
        process::run(&mut command, SOON)
    }

    /// What is restored now.
    fn restored(&self) -> u64 {
        let (said, out) = self.scene.restore(Holdfast, &[]);
        said.expect_success("restore");
        oracle::digest_of(&out).unwrap()
    }

    #[track_caller]
    fn refuses(&self, name: &str, code: i32, says: &str) {
        let before = objects(&self.scene);
        let said = self.rm(name, &[]);
        assert!(said.code == code && said.stderr.contains(says), "{name}: {said:?}");
        assert!(before.iter().all(|path| path.exists()), "{name}: nothing is deleted");
    }
}

fn objects(scene: &Scene) -> Vec<PathBuf> {
    let (mut all, mut dirs) = (Vec::new(), vec![scene.dir().join("replica")]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { all.push(path) }
        }
    }
    all
}

#[test]
fn t61_what_is_on_hold_is_shown_and_goes_only_by_its_name() {
    for format in ["v0.3", "ltx"] {
        let held = Held::with(format);
        let mut agent = held.scene.replicate(Holdfast);
        let status = until("the hold shows", SOON, || {
            let status = held.status()?;
            (status["holds"].as_array()?.len() == 1 && !status["position"].is_null()).then_some(status)
        });
        let name = status["holds"][0].as_str().unwrap().to_owned();
        let (_, page) = get(&held.addr, "/metrics").unwrap();
        let shown = page.lines().any(|l| l.starts_with("holdfast_generation_holds{") && l.ends_with(" 1"));
        assert!(shown, "{format}: {page}");

        // The database that is here goes on, up to a full copy of it.
        let app = Connection::open(held.scene.db()).unwrap();
        until("there is another base", SOON, || {
            app.execute("INSERT INTO other VALUES(2)", []).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            (held.rm(&name, &["-dry-run"]).code == 0).then_some(())
        });
        let before = held.restored();
        assert!(held.good.iter().all(|path| path.exists()), "{format}: only said");

        let current = status["position"].as_str().unwrap().split('/').next().unwrap().to_owned();
        held.refuses(&name[1..], 64, "with 16 hex digits");
        match format {
            "v0.3" => held.refuses(&current, 75, "it is the one that is written to"),
            _ => held.refuses("ltx:ffffffffffffffff", 75, "the latest state is restored from it"),
        }
        let said = held.rm(&name, &["-json"]).expect_success("delete");
        let values: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(values[0]["outcome"], "deleted", "{values}");
        assert!(held.good.iter().all(|path| !path.exists()), "{format}: {:?}", held.good);
        assert_eq!(held.restored(), before, "{format}");
        held.refuses(&name, 66, "the replica holds no such thing");

        app.execute("INSERT INTO other VALUES(3)", []).unwrap();
        assert_eq!(agent.stop(SOON).code(), Some(0), "{}", agent.log());
        assert_eq!(held.restored(), oracle::digest_of(&held.scene.db()).unwrap(), "{format}");
        let mut agent = held.scene.replicate(Holdfast);
        until("nothing is held any more", SOON, || {
            held.status().filter(|s| s["holds"] == Value::Array(vec![]) && !s["position"].is_null())
        });
        assert_eq!(agent.stop(SOON).code(), Some(0), "{}", agent.log());
    }
}

#[test]
fn t61_a_listing_says_which_generation_is_on_hold() {
    let held = Held::with("v0.3");
    let mut agent = held.scene.replicate(Holdfast);
    until("there are two", SOON, || {
        let mut command = Holdfast.command("generations");
        command.arg("-json").arg("-config").arg(held.scene.config()).arg(held.scene.db());
        let said = process::run(&mut command, SOON).expect_success("list");
        let values: Value = serde_json::from_str(&said.stdout).unwrap();
        let mut holds: Vec<_> = values.as_array().unwrap().iter().map(|g| g["hold"].as_bool()).collect();
        holds.sort();
        (holds == [Some(false), Some(true)]).then_some(())
    });
    assert_eq!(agent.stop(SOON).code(), Some(0), "{}", agent.log());
}
