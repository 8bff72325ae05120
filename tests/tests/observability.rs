//! What people watch Holdfast with: the agent's metrics beside those of both real Litestreams, and `compose/observability/`,
//! whose every expression is about something our programs say.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::dashboard::{alerts, dashboard, expressions, file};
use holdfast_tests::living;
use holdfast_tests::manifest::{Manifests, list, text};
use holdfast_tests::process::{self, Running, code, command};
use holdfast_tests::programs;
use holdfast_tests::scene::Scene;
use holdfast_tests::scrape::{Family, families, free, get, promtool};
use holdfast_tests::supervised::{As, until};
use holdfast_tests::tool::Tool;
use nix::sys::signal::Signal;
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(30);

// ---- Metrics

/// An agent on a scene's database, some commits of its app, and where it is scraped.
struct Watched {
    scene: Scene,
    agent: Running,
    addr: String,
    app: Connection,
}

impl Watched {
    fn start(tool: Tool, scene: Scene, on_top: &[&str], on_replica: &[&str]) -> Self {
        let addr = free();
        let app = Connection::open(scene.db()).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        let listen = format!("addr: {addr}");
        let top: Vec<_> = [listen.as_str()].into_iter().chain(on_top.iter().copied()).collect();
        let database = ["monitor-interval: 100ms", "checkpoint-interval: 500ms"];
        scene.configure_all(&top, &database, on_replica);
        let agent = scene.replicate(tool);
        let watched = Self { scene, agent, addr, app };
        until("it answers", SOON, || get(&watched.addr, "/metrics"));
        watched
    }

    fn commit(&self) {
        self.app.execute("INSERT INTO t VALUES(randomblob(5000))", []).unwrap();
    }

    /// Commits until the page shows all of these.
    fn page_with(&self, names: &[&str]) -> String {
        until(&format!("metrics {names:?}"), SOON, || {
            self.commit();
            std::thread::sleep(Duration::from_millis(100));
            let (status, page) = get(&self.addr, "/metrics")?;
            assert_eq!(status, 200);
            let there = families(&page);
            names.iter().all(|name| there.contains_key(*name)).then_some(page)
        })
    }

    fn end(mut self) {
        drop(self.app);
        self.agent.signal(Signal::SIGTERM);
        let _ = self.agent.wait(SOON);
    }
}

/// What ours print that is Litestream's, and what the real ones print.
fn litestreams(families: &BTreeMap<String, Family>) -> BTreeMap<&str, &Family> {
    families
        .iter()
        .filter(|(name, _)| name.starts_with("litestream_"))
        .map(|(n, f)| (n.as_str(), f))
        .collect()
}

#[test]
fn what_litestream_counts_too_has_its_name_its_type_and_its_labels() {
    let checkpoints = ["litestream_checkpoint_count", "litestream_checkpoint_seconds"];
    let v03 =
        [&checkpoints[..], &["litestream_replica_wal_index", "litestream_replica_validation_total"]].concat();
    let validating = ["sync-interval: 100ms", "validation-interval: 1s"];
    let mut theirs = BTreeMap::new();
    let mut ours = BTreeMap::new();
    let mut complaints = Vec::new();
    for tool in [Tool::V03, Tool::Holdfast] {
        let watched = Watched::start(tool, Scene::on_file(), &[], &validating);
        let page = watched.page_with(&v03);
        let into = if tool == Tool::Holdfast { &mut ours } else { &mut theirs };
        into.extend(families(&page));
        let said = promtool(&page);
        complaints.push((said.stdout + &said.stderr).lines().map(str::to_owned).collect::<BTreeSet<_>>());
        watched.end();
    }
    for (tool, format) in [(Tool::V05, None), (Tool::Holdfast, Some("format: ltx"))] {
        let replica: Vec<_> = ["sync-interval: 100ms"].into_iter().chain(format).collect();
        let watched = Watched::start(tool, Scene::on_file(), &[], &replica);
        let page = watched.page_with(&[&checkpoints[..], &["litestream_txid"]].concat());
        let into = if tool == Tool::Holdfast { &mut ours } else { &mut theirs };
        into.extend(families(&page));
        watched.end();
    }
    for tool in [Tool::V03, Tool::Holdfast] {
        let watched = Watched::start(tool, Scene::on_s3(), &[], &["sync-interval: 100ms"]);
        let page = watched.page_with(&["litestream_replica_operation_total"]);
        let into = if tool == Tool::Holdfast { &mut ours } else { &mut theirs };
        into.extend(families(&page));
        watched.end();
    }
    // What promtool has against ours it has against theirs: the names.
    let new: Vec<_> = complaints[1].difference(&complaints[0]).collect();
    assert!(
        !complaints[0].is_empty() && new.iter().all(|line| line.contains("checkpoint_error_count")),
        "{new:?}"
    );
    let (ours, theirs) = (litestreams(&ours), litestreams(&theirs));
    let program = fs::read(Tool::V03.program()).unwrap();
    for (name, family) in &ours {
        match theirs.get(name) {
            Some(real) => assert_eq!(family, real, "{name}"),
            // Theirs appears with the first error.
            None => {
                assert_eq!(*name, "litestream_checkpoint_error_count");
                assert!(program.windows(22).any(|w| w == b"checkpoint_error_count"), "{name}");
                assert_eq!(*family, ours["litestream_checkpoint_count"]);
            }
        }
    }
    let shared: Vec<_> = ours.keys().copied().collect();
    assert_eq!(
        shared,
        [
            "litestream_checkpoint_count",
            "litestream_checkpoint_error_count",
            "litestream_checkpoint_seconds",
            "litestream_db_size",
            "litestream_replica_operation_total",
            "litestream_replica_validation_total",
            "litestream_replica_wal_bytes",
            "litestream_replica_wal_index",
            "litestream_replica_wal_offset",
            "litestream_total_wal_bytes",
            "litestream_txid",
            "litestream_wal_size",
        ]
    );
}

#[test]
fn a_reload_moves_the_address_and_the_limit_and_one_that_is_refused_shows() {
    let mut watched = Watched::start(Tool::Holdfast, Scene::on_file(), &[], &[]);
    let value = |addr: &str, line: &str| {
        get(addr, "/metrics").is_some_and(|(_, page)| page.lines().any(|l| l == line))
    };
    assert!(value(&watched.addr, "holdfast_max_lag_seconds 0"));
    let second = free();
    watched.scene.configure_all(&[&format!("addr: {second}"), "max-lag: 90s"], &[], &[]);
    watched.agent.signal(Signal::SIGHUP);
    until("it answers at the new address", SOON, || {
        value(&second, "holdfast_max_lag_seconds 90").then_some(())
    });
    assert_eq!(get(&watched.addr, "/livez"), None, "nobody listens at the old one");
    assert!(value(&second, "holdfast_reloads_total{result=\"done\"} 1"));
    assert!(value(&second, "holdfast_reload_refused 0"));

    fs::write(watched.scene.config(), "dbs: [").unwrap();
    watched.agent.signal(Signal::SIGHUP);
    until("the refusal shows", SOON, || value(&second, "holdfast_reload_refused 1").then_some(()));

    watched.scene.configure_all(&[], &[], &[]);
    watched.agent.signal(Signal::SIGHUP);
    until("nobody listens any more", SOON, || get(&second, "/livez").is_none().then_some(()));
    watched.agent.signal(Signal::SIGTERM);
    assert_eq!(code(watched.agent.wait(SOON)), 0, "{}", watched.agent.log());
}

// ---- compose/observability

#[track_caller]
fn promtool_on(args: &[&str], file: &Path) {
    let done = process::run(command("promtool").args(args).arg(file), SOON);
    done.expect_success(&format!("promtool {args:?} {}", file.display()));
}

/// Every name our programs give a metric: of agents with either layout, and of a supervisor with an agent.
fn exposed() -> BTreeSet<String> {
    let mut names = BTreeSet::from(["up".to_owned()]);
    for format in ["format: litestream", "format: ltx"] {
        let replica: &[&str] = if format.ends_with("ltx") { &["format: ltx"] } else { &[] };
        let watched = Watched::start(Tool::Holdfast, Scene::on_file(), &[], replica);
        let page = watched.page_with(&["holdfast_replica_acknowledged_timestamp_seconds"]);
        names.extend(families(&page).into_keys());
        watched.end();
    }
    let dir = tempfile::tempdir().unwrap();
    let (scene, host) =
        living::scene(As::Subreaper, &dir.path().join("app.db"), &["--rate", "20"]).listening();
    let run = scene.flags(["-attach-wait", "200ms"]).start();
    let page = until("a lag is known, and which database the app has", SOON, || {
        let (_, page) = get(&host, "/metrics")?;
        let known = ["replication_lag_bytes{db=", "holdfast_supervisor_db_attached"];
        known.iter().all(|name| page.contains(name)).then_some(page)
    });
    names.extend(families(&page).into_keys());
    run.signal(Signal::SIGTERM);
    run.wait();
    names
}

/// The metrics an expression is about.
fn names_in(expression: &str) -> BTreeSet<String> {
    // What stands in quotes is no name of a metric, and what stands in braces or behind `by` is a label's.
    let mut bare = String::new();
    let (mut quoted, mut braces) = (false, 0);
    for c in expression.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => braces += 1,
            '}' if !quoted => braces -= 1,
            _ if quoted || braces > 0 => {}
            c => bare.push(c),
        }
    }
    let words = bare.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = ["holdfast_", "litestream_", "process_"];
    words
        .filter(|word| *word == "up" || ours.iter().any(|prefix| word.starts_with(prefix)))
        .map(|word| {
            let base = ["_bucket", "_count"].iter().find_map(|end| word.strip_suffix(end));
            base.filter(|base| base.ends_with("lock_seconds")).unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn the_scraper_takes_its_configuration_and_every_alert_does_what_its_test_says() {
    promtool_on(&["check", "config"], &file("prometheus.yml"));
    promtool_on(&["check", "rules"], &file("alerts.yml"));
    promtool_on(&["test", "rules"], &file("alerts.test.yml"));
    let rules = alerts();
    let named: BTreeSet<_> = rules.iter().map(|rule| text(&rule["alert"])).collect();
    let tests = &Manifests::read(&["compose/observability/alerts.test.yml"]).0[0];
    let tested: BTreeSet<_> = list(&tests["tests"]).map(|test| text(&test["name"])).collect();
    assert_eq!(named, tested, "every alert has its test");
    for rule in &rules {
        assert!(["critical", "warning"].contains(&text(&rule["labels"]["severity"])), "{rule}");
        for says in ["summary", "action"] {
            assert!(rule["annotations"][says].is_string(), "{rule}: {says}");
        }
    }
}

#[test]
fn the_dashboard_and_the_alerts_are_about_metrics_there_are() {
    let exposed = exposed();
    let dashboard = dashboard();
    let panels: Vec<_> = list(&dashboard["panels"]).filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 15, "{} panels", panels.len());
    let ids: BTreeSet<_> = list(&dashboard["panels"]).map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), list(&dashboard["panels"]).count(), "no panel's id twice");
    for panel in panels {
        assert!(list(&panel["targets"]).count() > 0, "{}", panel["title"]);
        assert!(list(&panel["targets"]).all(|t| t["datasource"]["uid"] == "${datasource}"), "{panel}");
    }
    let expressions: Vec<_> = expressions("5m").into_iter().map(|(_, expression)| expression).collect();
    // Each parses: promtool reads it as a rule.
    let dir = tempfile::tempdir().unwrap();
    let rules: Vec<_> = expressions
        .iter()
        .enumerate()
        .map(|(n, expr)| serde_json::json!({ "record": format!("dashboard:{n}"), "expr": expr }))
        .collect();
    let rules = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let path = dir.path().join("rules.yml");
    fs::write(&path, rules.to_string()).unwrap();
    promtool_on(&["check", "rules"], &path);

    let of_alerts = alerts().into_iter().map(|rule| text(&rule["expr"]).to_owned());
    let used: BTreeSet<_> = expressions.iter().cloned().chain(of_alerts).flat_map(|e| names_in(&e)).collect();
    assert!(used.len() > 25, "{used:?}");
    let unknown: Vec<_> =
        used.difference(&exposed).filter(|name| !name.starts_with("holdfast_checkpoint_lock")).collect();
    assert!(unknown.is_empty(), "no program of ours says {unknown:?}");
    assert!(exposed.contains("holdfast_checkpoint_lock_seconds"));
}

#[test]
fn the_names_in_an_expression_are_those_of_metrics() {
    let of = |expression| names_in(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(
        of("sum by (job, name) (increase(holdfast_a_total{db=\"holdfast_x\"}[1h])) > 0"),
        ["holdfast_a_total"]
    );
    assert_eq!(of("up{job=~\"holdfast.*\"} == 0 and on (up_x) litestream_b"), ["litestream_b", "up"]);
    assert_eq!(of("rate(holdfast_checkpoint_lock_seconds_bucket[5m])"), ["holdfast_checkpoint_lock_seconds"]);
    assert_eq!(of("litestream_checkpoint_count"), ["litestream_checkpoint_count"]);
}

#[test]
fn what_is_scraped_is_where_the_programs_listen_in_compose() {
    let over = &Manifests::read(&["compose/observability/compose.yml"]).0[0]["services"];
    let port = |text: &str| text.rsplit_once(':').unwrap().1.to_owned();
    let station = &over["station"]["environment"];
    let listens: Vec<_> =
        ["LITESTREAM_ADDR", "SUPERVISOR_LISTEN"].map(|name| port(text(&station[name]))).into();
    let scraper = &Manifests::read(&["compose/observability/prometheus.yml"]).0[0];
    let targets = list(&scraper["scrape_configs"])
        .flat_map(|job| list(&job["static_configs"]))
        .flat_map(|c| list(&c["targets"]));
    let targets: Vec<_> = targets.map(|target| text(target).to_owned()).collect();
    assert_eq!(targets, listens.iter().map(|port| format!("station:{port}")).collect::<Vec<_>>());
    for service in ["prometheus", "grafana"] {
        for volume in list(&over[service]["volumes"]).map(text) {
            let Some(source) = volume.strip_prefix("./") else { continue };
            let source = source.split(':').next().unwrap();
            assert!(programs::root().join("compose").join(source).is_file(), "{service}: {volume}");
        }
        for open in list(&over[service]["ports"]).map(text) {
            assert!(open.starts_with("127.0.0.1:"), "{service}: {open} is open to the world");
        }
    }
}
