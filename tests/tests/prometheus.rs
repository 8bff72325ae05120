//! `compose/observability/` at work: a real Prometheus scrapes a real agent and a real supervisor, has data for the
//! dashboard, and calls when the replica is gone.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::dashboard::{alerts, expressions};
use holdfast_tests::living::{scene, wait_for_rows};
use holdfast_tests::manifest::{list, text};
use holdfast_tests::prometheus::Prometheus;
use holdfast_tests::scrape::free;
use holdfast_tests::supervised::{As, until};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(45);

/// Panels that have nothing to show while all is well.
const EMPTY_WHEN_WELL: [&str; 1] = ["Requests that were not answered well"];

#[test]
fn a_scraper_has_data_for_the_dashboard_and_calls_when_the_replica_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db");
    let replica = db.with_extension("replica");
    let agent = free();
    let (scene, supervisor) = scene(As::Subreaper, &db, &["--rate", "50"]).listening();
    let run = scene.var("LITESTREAM_ADDR", &agent).start();
    wait_for_rows(&db, 20);
    // Somebody who is called after a minute of lag is called after a second here.
    let targets = [("station:9090", agent.as_str()), ("station:9811", supervisor.as_str())];
    let prometheus = Prometheus::start(&targets, |rules| {
        assert_eq!(rules.matches("lag_seconds > 60").count(), 2);
        rules.replace("lag_seconds > 60", "lag_seconds > 1")
    });

    // Both answer, under the names of the configuration.
    let up = until("both targets are up", SOON, || {
        let up = prometheus.query("up == 1");
        (up.len() == 2).then_some(up)
    });
    let of: BTreeSet<_> =
        up.iter().map(|s| (text(&s["metric"]["job"]), text(&s["metric"]["instance"]))).collect();
    assert_eq!(
        of,
        BTreeSet::from([("holdfast", agent.as_str()), ("holdfast-supervisor", supervisor.as_str())])
    );

    // Every rule is evaluated without an error, and none of them calls anybody.
    let all = alerts();
    until("every rule is evaluated", SOON, || {
        let data = prometheus.api("rules");
        let rules: Vec<_> = list(&data["groups"]).flat_map(|g| list(&g["rules"])).cloned().collect();
        assert_eq!(rules.len(), all.len());
        assert!(rules.iter().all(|rule| rule["lastError"].is_null()), "{rules:#?}");
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
    assert_eq!(prometheus.firing(), [""; 0]);

    // What the dashboard asks for is there.
    for (panel, expression) in expressions("5s") {
        until(&format!("{panel} shows something: {expression}"), SOON, || {
            let something = !prometheus.query(&expression).is_empty();
            (something || EMPTY_WHEN_WELL.contains(&panel.as_str())).then_some(())
        });
    }

    // The volume of the replica is gone, and comes back.
    let away = replica.with_extension("away");
    fs::rename(&replica, &away).unwrap();
    until("somebody is called", SOON, || {
        let behind = ["HoldfastReplicaBehind", "HoldfastSupervisorReplicaBehind"];
        (prometheus.firing() == behind).then_some(())
    });
    for alert in list(&prometheus.api("alerts")["alerts"]).filter(|alert| alert["state"] == "firing") {
        let summary = text(&alert["annotations"]["summary"]);
        assert!(summary.contains(db.to_str().unwrap()), "it says which database: {alert}");
        assert!(Path::new(text(&alert["labels"]["db"])) == db, "{alert}");
        assert_eq!(alert["labels"]["severity"], "critical", "{alert}");
    }
    fs::rename(&away, &replica).unwrap();
    until("all is well again", SOON, || prometheus.firing().is_empty().then_some(()));

    run.signal(Signal::SIGTERM);
    let ended = run.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}
