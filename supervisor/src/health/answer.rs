//! What each path answers. Values in, values out.
//!
//! | path | 200 | 503 |
//! | --- | --- | --- |
//! | `/livez`, `/healthz` | the loop turns, in every state, a restore and a stop included | it does not |
//! | `/startupz` | the app was ready once | before |
//! | `/readyz` | the app runs and answers, nobody asked for its end, it has no other database open than the one that is replicated, the replica is not further behind and the agent not longer away than they may be | else |
//! | `/status`, `/metrics` | always | |
//!
//! Liveness hangs neither on the app nor on the replica: a restart repairs neither, and a restart loop makes both worse
//! (spec/supervisor.md §7). A failing probe says why in its body.

use std::time::Duration;

use serde_json::{Value, json};

use super::metrics;
use crate::lifecycle::{Attached, View};

/// What an answer is sent as.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

/// What the app said when it was asked, in words if it is not well.
pub(crate) type AppSays = Result<(), String>;

/// What the paths have in common.
pub(crate) struct Question<'a> {
    /// `None` where the loop did not answer.
    pub(crate) view: Option<&'a View>,
    /// The app was ready once.
    pub(crate) started: bool,
    /// The age of the oldest commit that is on no replica from which on the app is not ready; zero is never.
    pub(crate) max_lag: Duration,
}

impl Question<'_> {
    /// What `path` answers; `app` asks the app where that matters.
    pub(crate) fn answer(&self, path: &str, app: impl FnOnce() -> AppSays) -> Answer {
        let Some(view) = self.view else {
            return match path {
                "/livez" | "/healthz" | "/startupz" | "/readyz" | "/status" | "/metrics" => {
                    check(&["the supervisor's loop does not answer".to_owned()])
                }
                _ => nothing_here(),
            };
        };
        match path {
            "/livez" | "/healthz" => check(&[]),
            "/startupz" if self.started => check(&[]),
            "/startupz" => check(&self.not_up(view, app)),
            "/readyz" => {
                let mut against = self.not_up(view, app);
                against.extend(self.behind(view));
                if let Attached::No(others) = &view.attached {
                    let others = others.join(", ");
                    against.push(format!("the app has {others} open, and not what is replicated"));
                }
                if view.agent_missed {
                    against.push(format!("the replication agent has been {} for too long", view.agent));
                }
                check(&against)
            }
            "/status" => Answer { status: 200, kind: JSON, body: format!("{}\n", status(view)) },
            "/metrics" => Answer { status: 200, kind: metrics::KIND, body: metrics::text(view) },
            _ => nothing_here(),
        }
    }

    fn not_up(&self, view: &View, app: impl FnOnce() -> AppSays) -> Vec<String> {
        match view.running {
            true => app().err().into_iter().collect(),
            false => vec![format!("state: {}", view.state)],
        }
    }

    fn behind(&self, view: &View) -> Vec<String> {
        let late = |lag_ms: u64| !self.max_lag.is_zero() && Duration::from_millis(lag_ms) > self.max_lag;
        let databases = view.databases.iter().filter(|db| late(db.lag_ms)).map(|db| {
            let error = db.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
            format!("{} is {:.1} s behind on its replica{error}", db.db, db.lag_ms as f64 / 1000.0)
        });
        // An agent that is away acknowledges nothing: what it last said gets old with the time it is away.
        let away = (!self.max_lag.is_zero() && view.replicated && !view.agent_up)
            .then(|| format!("the replication agent is {}", view.agent));
        databases.chain(away).collect()
    }
}

/// `{"ok":false,"why":["state: restore"]}`
fn check(against: &[String]) -> Answer {
    let body = format!("{}\n", json!({ "ok": against.is_empty(), "why": against }));
    Answer { status: if against.is_empty() { 200 } else { 503 }, kind: JSON, body }
}

fn nothing_here() -> Answer {
    let body = "there is /livez, /readyz, /startupz, /status and /metrics\n".to_owned();
    Answer { status: 404, kind: "text/plain; charset=utf-8", body }
}

fn status(view: &View) -> Value {
    let (attached, others) = match &view.attached {
        Attached::Unknown => (None, None),
        Attached::Yes => (Some(true), None),
        Attached::No(others) => (Some(false), Some(others)),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": view.state,
        "state_seconds": view.age.as_secs_f64(),
        "uptime_seconds": view.uptime.as_secs_f64(),
        "app": view.app,
        "agent": view.replicated.then_some(view.agent),
        "agent_restarts": view.agent_restarts,
        "db_attached": attached,
        "other_databases": others,
        "databases": view.databases,
        "orphans_reaped": view.orphans_reaped,
        "orphans_killed": view.orphans_killed,
    })
}

const JSON: &str = "application/json";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use holdfast_config::control::Status;

    pub(in super::super) fn view(state: &'static str, lag_ms: u64) -> View {
        let status = Status { db: "/d/x.db".into(), lag_ms, lag_bytes: lag_ms, ..Status::default() };
        View {
            state,
            age: Duration::from_secs(2),
            uptime: Duration::from_millis(3_500),
            spent: vec![("restore", Duration::from_millis(1_500)), (state, Duration::from_secs(2))],
            grace: Duration::from_secs(10),
            running: state == "run",
            app: "running".into(),
            replicated: true,
            agent: "ready",
            agent_up: true,
            agent_silence: Some(Duration::from_millis(250)),
            agent_missed: false,
            agent_restarts: 3,
            attached: Attached::Unknown,
            databases: vec![status],
            orphans_reaped: 5,
            orphans_killed: 1,
            log_dropped: 7,
        }
    }

    fn ask(view: Option<&View>, path: &str, app: AppSays, max_lag: u64) -> (u16, String) {
        let question = Question { view, started: false, max_lag: Duration::from_secs(max_lag) };
        let answer = question.answer(path, || app);
        (answer.status, answer.body)
    }

    /// The table of the head, state by state: `/livez`, `/startupz`, `/readyz`.
    #[test]
    fn each_state_has_its_three_answers() {
        for (state, expected) in [
            ("restore", [200, 503, 503]),
            ("attach", [200, 503, 503]),
            ("run", [200, 200, 200]),
            ("stop", [200, 503, 503]),
            ("drain", [200, 503, 503]),
        ] {
            let view = view(state, 0);
            let found = ["/livez", "/startupz", "/readyz"].map(|path| ask(Some(&view), path, Ok(()), 0).0);
            assert_eq!(found, expected, "{state}");
            let stuck = ["/livez", "/startupz", "/readyz"].map(|path| ask(None, path, Ok(()), 0).0);
            assert_eq!(stuck, [503; 3], "{state}");
        }
        // What has started stays so.
        let stopping = view("stop", 0);
        let question = Question { view: Some(&stopping), started: true, max_lag: Duration::ZERO };
        assert_eq!(question.answer("/startupz", || Ok(())).status, 200);
    }

    #[test]
    fn an_app_that_does_not_answer_is_not_ready_and_not_dead() {
        let running = view("run", 0);
        let deaf = || Err("the app does not answer: refused".to_owned());
        assert_eq!(ask(Some(&running), "/livez", deaf(), 0).0, 200);
        assert_eq!(
            ask(Some(&running), "/readyz", deaf(), 0),
            (503, "{\"ok\":false,\"why\":[\"the app does not answer: refused\"]}\n".into())
        );
    }

    #[test]
    fn a_replica_too_far_behind_makes_unready_only_where_a_limit_is_set() {
        let late = view("run", 61_000);
        assert_eq!(ask(Some(&late), "/readyz", Ok(()), 0).0, 200);
        assert_eq!(ask(Some(&late), "/readyz", Ok(()), 120).0, 200);
        let (status, why) = ask(Some(&late), "/readyz", Ok(()), 60);
        assert_eq!(status, 503);
        assert!(why.contains("/d/x.db is 61.0 s behind on its replica"), "{why}");
        let away = View { agent_up: false, agent: "down", ..view("run", 0) };
        assert_eq!(ask(Some(&away), "/readyz", Ok(()), 0).0, 200, "the app does not suffer for the agent");
        assert_eq!(ask(Some(&away), "/readyz", Ok(()), 60).0, 503);
    }

    #[test]
    fn t84_an_app_on_another_database_is_not_ready_and_one_that_may_be_is() {
        let on = |attached| ask(Some(&View { attached, ..view("run", 0) }), "/readyz", Ok(()), 0);
        assert_eq!(on(Attached::Yes).0, 200);
        assert_eq!(on(Attached::Unknown).0, 200, "no proof is no reason");
        let (status, why) = on(Attached::No(vec!["/root/other.db".into()]));
        assert_eq!(status, 503);
        assert!(why.contains("the app has /root/other.db open, and not what is replicated"), "{why}");
        let view = View { attached: Attached::No(vec!["/root/other.db".into()]), ..view("run", 0) };
        let (_, said) = ask(Some(&view), "/status", Ok(()), 0);
        assert!(said.contains("\"db_attached\":false"), "{said}");
        assert!(said.contains("\"other_databases\":[\"/root/other.db\"]"), "{said}");
    }

    #[test]
    fn another_path_says_what_there_is() {
        let (status, says) = ask(Some(&view("run", 0)), "/health", Ok(()), 0);
        assert_eq!(status, 404);
        assert!(says.contains("/readyz"));
        assert_eq!(ask(None, "/", Ok(()), 0).0, 404);
    }
}
