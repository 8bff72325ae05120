//! A view as Prometheus text, version 0.0.4. Values in, text out.
//!
//! By hand, because every value stands in the view already: a registry would be a second copy of the state in PID 1.
//! `promtool check metrics` reads it in the tests.
//!
//! Of spec/supervisor.md §7 these are left out on purpose: what the agent knows first hand and says at its own `addr`
//! (`last_upload_timestamp_seconds`, `upload_errors_total`, `wal_pin_dropped_total`, `generation_holds`, `restore_bytes`); what
//! shows only when nobody can scrape any more, and stands in the summary and the exit code instead (`final_sync_ok`,
//! `restore_result`); what nothing here has (`lease_*`); `app_ready`, for which a scrape would have to ask the app: that is what
//! `/readyz` does; and `signals_total`, because the log says of each what came of it. `phase_seconds_total` is `restore_seconds`,
//! `app_start_seconds` and `stop_phase_seconds` in one.

use std::fmt::{Display, Write};

use crate::lifecycle::{Attached, STATES, View};

/// The content type.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn text(view: &View) -> String {
    let mut out = Text::default();
    out.gauge(
        "build_info",
        "The version that runs, as a label.",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    out.gauge("uptime_seconds", "Time since the supervisor started.", &[], view.uptime.as_secs_f64());
    out.gauge("state_seconds", "How long it has been in this state.", &[], view.age.as_secs_f64());
    for state in STATES {
        let here = u8::from(state == view.state);
        out.gauge("state", "Where the run stands: 1 for the state it is in.", &[("state", state)], here);
    }
    for (state, spent) in &view.spent {
        let what = "How long it has been in each state so far.";
        out.counter("phase_seconds_total", what, &[("phase", state)], spent.as_secs_f64());
    }
    let what = "From the first stop signal to the platform's SIGKILL, as it was said or guessed.";
    out.gauge("stop_grace_seconds", what, &[], view.grace.as_secs_f64());
    out.gauge("app_up", "The app lives, and nobody has asked for its end.", &[], u8::from(view.running));
    let replicated = u8::from(view.replicated);
    out.gauge("replication_configured", "There is a replica to write to.", &[], replicated);
    out.gauge("agent_up", "The replication agent is ready.", &[], u8::from(view.agent_up));
    if let Some(silence) = view.agent_silence {
        let what = "How long ago a ready agent last said anything.";
        out.gauge("agent_heartbeat_age_seconds", what, &[], silence.as_secs_f64());
    }
    let what = "How often the agent was started again.";
    out.counter("agent_restarts_total", what, &[], view.agent_restarts);
    let attached = match view.attached {
        Attached::Unknown => None,
        Attached::Yes => Some(1),
        Attached::No(_) => Some(0),
    };
    // Left away while nobody knows: a value would be a claim.
    if let Some(attached) = attached {
        let what = "The app has a database open that is replicated, and not another one instead.";
        out.gauge("db_attached", what, &[], attached);
    }
    for db in &view.databases {
        let labels = [("db", db.db.as_str())];
        out.gauge("wal_bytes", "Bytes in the WAL up to its last commit.", &labels, db.wal_end);
    }
    for db in &view.databases {
        let labels = [("db", db.db.as_str())];
        let what = "Stored bytes the agent has sent to replicas since it started.";
        out.counter("sent_bytes_total", what, &labels, db.sent_bytes);
    }
    for db in &view.databases {
        let labels = [("db", db.db.as_str())];
        let what = "Bytes committed and not acknowledged by the slowest replica.";
        out.gauge("replication_lag_bytes", what, &labels, db.lag_bytes);
    }
    for db in &view.databases {
        let labels = [("db", db.db.as_str())];
        let what = "Age of the oldest commit not acknowledged by the slowest replica.";
        out.gauge("replication_lag_seconds", what, &labels, db.lag_ms as f64 / 1000.0);
    }
    for db in &view.databases {
        let labels = [("db", db.db.as_str())];
        out.gauge(
            "replica_error",
            "A replica failed at the last try.",
            &labels,
            u8::from(db.error.is_some()),
        );
    }
    out.counter(
        "orphans_reaped_total",
        "Processes the app left behind, and that ended.",
        &[],
        view.orphans_reaped,
    );
    out.counter("orphans_killed_total", "Those that had to be killed.", &[], view.orphans_killed);
    let what = "Lines of the supervisor's log that nobody read in time.";
    out.counter("log_dropped_total", what, &[], view.log_dropped);
    out.out
}

/// Samples of one name have to come one after another: they stand under one head.
#[derive(Default)]
struct Text {
    out: String,
    last: String,
}

impl Text {
    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.sample("gauge", name, help, labels, value);
    }

    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.sample("counter", name, help, labels, value);
    }

    fn sample(&mut self, kind: &str, name: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        let name = format!("holdfast_supervisor_{name}");
        if name != self.last {
            self.out += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            self.last.clone_from(&name);
        }
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::view;
    use super::*;

    #[test]
    fn every_sample_stands_once_under_its_head() {
        let mut view = view("run", 1_500);
        view.databases.push(holdfast_config::control::Status { db: "a\"b\\".into(), ..Default::default() });
        assert!(!text(&view).contains("db_attached"), "nobody knows");
        view.attached = Attached::No(vec!["/x.db".into()]);
        let text = text(&view);
        for line in [
            "holdfast_supervisor_db_attached 0",
            "holdfast_supervisor_state{state=\"run\"} 1",
            "holdfast_supervisor_state{state=\"stop\"} 0",
            "holdfast_supervisor_agent_restarts_total 3",
            "holdfast_supervisor_replication_lag_seconds{db=\"/d/x.db\"} 1.5",
            "holdfast_supervisor_replication_lag_bytes{db=\"a\\\"b\\\\\"} 0",
            "holdfast_supervisor_orphans_killed_total 1",
            "holdfast_supervisor_state_seconds 2",
            "holdfast_supervisor_phase_seconds_total{phase=\"restore\"} 1.5",
            "holdfast_supervisor_phase_seconds_total{phase=\"run\"} 2",
            "holdfast_supervisor_stop_grace_seconds 10",
            "holdfast_supervisor_agent_heartbeat_age_seconds 0.25",
            "holdfast_supervisor_log_dropped_total 7",
            "holdfast_supervisor_sent_bytes_total{db=\"/d/x.db\"} 0",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}\n{text}");
        }
        let mut samples: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let all = samples.len();
        samples.sort_unstable();
        samples.dedup_by_key(|l| l.rsplit_once(' ').unwrap().0);
        assert_eq!(samples.len(), all, "no series twice");
    }
}
