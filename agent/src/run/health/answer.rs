//! What each path answers. Values in, values out.
//!
//! | path | 200 | 503 |
//! | --- | --- | --- |
//! | `/livez`, `/healthz` | always: an answer is the proof | |
//! | `/startupz` | every database was pinned, or waited for because it does not exist yet, once | before |
//! | `/readyz` | every database is pinned or waited for, nobody has asked for the end, and no replica is further behind than `max-lag` | else |
//! | `/status`, `/metrics` | always | |
//!
//! Liveness does not hang on a replica: a restart repairs none, and begins with requests that a service in trouble can do
//! without (spec/supervisor.md §7). A failing probe says why in its body, in the supervisor's words.

use serde_json::{Value, json};

use super::{Phase, View};
use crate::run::report::{Report, Standing};

/// What an answer is sent as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Live,
    Startup,
    Ready,
    Status,
    Metrics,
}

impl Page {
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/livez" | "/healthz" => Self::Live,
            "/startupz" => Self::Startup,
            "/readyz" => Self::Ready,
            "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            _ => return None,
        })
    }
}

impl View {
    /// The probe's answer.
    pub(super) fn startup(&self) -> Answer {
        check(&if self.started { Vec::new() } else { self.not_attached() })
    }

    /// The probe's answer.
    pub(super) fn ready(&self) -> Answer {
        let mut against = self.not_attached();
        against.extend(self.behind());
        check(&against)
    }

    /// `/status`
    pub(super) fn status(&self) -> Answer {
        let databases: Vec<_> = self.reports.iter().map(|report| self.database(report)).collect();
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": self.phase.name(),
            "uptime_seconds": self.now.as_secs_f64(),
            "max_lag_seconds": self.max_lag.as_secs_f64(),
            "final_sync": match self.phase {
                Phase::Ended { complete: true } => Some("complete"),
                Phase::Ended { complete: false } => Some("incomplete"),
                Phase::Starting | Phase::Running | Phase::Stopping => None,
            },
            "databases": databases,
        });
        Answer { status: 200, kind: JSON, body: format!("{body}\n") }
    }

    fn database(&self, report: &Report) -> Value {
        let replicas: Vec<_> = report.replicas.iter().map(|replica| self.replica(replica)).collect();
        json!({
            "db": report.db,
            "state": report.state(),
            "error": report.source_error,
            "wal_bytes": report.wal_end,
            "sent_bytes": report.sent_bytes,
            "replicas": replicas,
        })
    }

    fn replica(&self, replica: &Standing) -> Value {
        json!({
            "name": replica.name,
            "type": replica.kind,
            "position": replica.position.map(|p| p.to_string()),
            "lag_bytes": replica.lag_bytes,
            "lag_seconds": replica.lag(self.now).as_secs_f64(),
            "error": replica.error,
            "holds": replica.holds,
            "remarks": replica.remarks,
        })
    }

    fn not_attached(&self) -> Vec<String> {
        match self.phase {
            Phase::Running => few(self.reports.iter().filter(|r| !(r.pinned || r.waiting)).map(|r| {
                let error = r.source_error.as_deref().unwrap_or("attaching");
                format!("{} is not pinned: {error}", r.db)
            })),
            Phase::Starting | Phase::Stopping | Phase::Ended { .. } => {
                vec![format!("phase: {}", self.phase.name())]
            }
        }
    }

    fn behind(&self) -> Vec<String> {
        if self.max_lag.is_zero() {
            return Vec::new();
        }
        let all = self.reports.iter().flat_map(|db| db.replicas.iter().map(move |r| (db, r)));
        let late = all.filter(|(_, replica)| replica.lag(self.now) > self.max_lag);
        few(late.map(|(db, replica)| {
            let error = replica.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
            let lag = replica.lag(self.now).as_secs_f64();
            format!("{} is {lag:.1} s behind on its replica {}{error}", db.db, replica.name)
        }))
    }
}

impl Phase {
    /// `starting`, `running`, `stopping`, `ended`
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended { .. } => "ended",
        }
    }
}

impl Report {
    /// `pinned`, `waiting`, `damaged` or `detached`
    pub(super) const fn state(&self) -> &'static str {
        match (self.pinned, self.damaged, self.waiting) {
            (true, ..) => "pinned",
            (_, true, _) => "damaged",
            (_, _, true) => "waiting",
            (false, false, false) => "detached",
        }
    }
}

/// The first ones, and how many more there are.
fn few(mut all: impl Iterator<Item = String>) -> Vec<String> {
    let mut named: Vec<_> = all.by_ref().take(MOST).collect();
    match all.count() {
        0 => {}
        more => named.push(format!("and {more} more")),
    }
    named
}

/// `{"ok":false,"why":["phase: starting"]}`
fn check(against: &[String]) -> Answer {
    let body = format!("{}\n", json!({ "ok": against.is_empty(), "why": against }));
    Answer { status: if against.is_empty() { 200 } else { 503 }, kind: JSON, body }
}

/// `/livez`
pub(super) fn live() -> Answer {
    check(&[])
}

/// Any other path.
pub(super) fn nothing_here() -> Answer {
    let body = "there is /livez, /readyz, /startupz, /status and /metrics\n".to_owned();
    Answer { status: 404, kind: TEXT, body }
}

/// Any method but GET and HEAD.
pub(super) fn not_allowed() -> Answer {
    Answer { status: 405, kind: TEXT, body: "GET or HEAD\n".to_owned() }
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Reasons given: a probe's answer is a line or a few.
const MOST: usize = 10;

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::Reloads;
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    pub(in super::super) fn report(db: &str, behind_since: Option<u64>) -> Report {
        let replica = Standing {
            name: "s3".into(),
            kind: "s3",
            position: None,
            lag_bytes: 4120,
            behind_since: behind_since.map(Duration::from_secs),
            error: None,
            holds: Vec::new(),
            remarks: Vec::new(),
            work: crate::run::report::ReplicaWork::default(),
        };
        Report { db: db.into(), pinned: true, replicas: vec![replica], ..Report::default() }
    }

    pub(in super::super) fn view(phase: Phase, reports: Vec<Report>) -> View {
        let started = phase != Phase::Starting;
        View { now: secs(100), phase, started, max_lag: secs(0), reports, reloads: Reloads::default() }
    }

    /// The table of the head.
    #[test]
    fn each_phase_has_its_answers() {
        for (phase, expected) in [
            (Phase::Starting, [503, 503]),
            (Phase::Running, [200, 200]),
            (Phase::Stopping, [200, 503]),
            (Phase::Ended { complete: true }, [200, 503]),
        ] {
            let view = view(phase, vec![report("/a.db", None)]);
            assert_eq!([view.startup().status, view.ready().status], expected, "{phase:?}");
        }
        assert_eq!(live().status, 200);
    }

    #[test]
    fn a_database_that_is_not_pinned_is_not_ready_unless_it_does_not_exist_yet() {
        let mut lost = report("/a.db", None);
        lost.pinned = false;
        lost.source_error = Some("open /a.db: permission denied".into());
        let answer = view(Phase::Running, vec![lost.clone()]).ready();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, "{\"ok\":false,\"why\":[\"/a.db is not pinned: open /a.db: permission denied\"]}\n")
        );
        lost.waiting = true;
        assert_eq!(view(Phase::Running, vec![lost]).ready().status, 200);
        assert_eq!(view(Phase::Running, Vec::new()).ready().status, 200, "a directory that is empty yet");
    }

    #[test]
    fn a_replica_too_far_behind_makes_unready_only_where_a_limit_is_set() {
        let mut late = view(Phase::Running, vec![report("/a.db", Some(30)), report("/b.db", None)]);
        assert_eq!(late.ready().status, 200);
        late.max_lag = secs(70);
        assert_eq!(late.ready().status, 200);
        late.max_lag = secs(60);
        let why = late.ready();
        assert_eq!(why.status, 503);
        assert_eq!(why.body, "{\"ok\":false,\"why\":[\"/a.db is 70.0 s behind on its replica s3\"]}\n");
        assert_eq!(late.startup().status, 200, "what has started stays so");
    }

    #[test]
    fn of_many_reasons_a_few_are_given() {
        let all = (0..1000).map(|n| report(&format!("/{n}.db"), Some(0))).collect();
        let many = View { max_lag: secs(1), ..view(Phase::Running, all) };
        let body = many.ready().body;
        assert!(body.len() < 1000 && body.contains("and 990 more"), "{body}");
    }

    #[test]
    fn the_status_says_where_each_replica_stands() {
        let status: Value =
            serde_json::from_str(&view(Phase::Running, vec![report("/a.db", Some(98))]).status().body)
                .unwrap();
        assert_eq!(status["phase"], "running");
        let db = &status["databases"][0];
        assert_eq!((&db["db"], &db["state"]), (&json!("/a.db"), &json!("pinned")));
        let replica = &db["replicas"][0];
        assert_eq!((&replica["lag_bytes"], &replica["lag_seconds"]), (&json!(4120), &json!(2.0)));
        assert_eq!(replica["position"], Value::Null);
    }
}
