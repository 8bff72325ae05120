//! The agent as a systemd service: when it is ready, and one line about how replication stands. Reads the environment.

use std::time::{Duration, Instant};

use holdfast_config::Env;
use holdfast_config::systemd::{self, Phase};

use super::report::Report;

/// systemd, told by us.
#[derive(Debug)]
pub(super) struct Service {
    systemd: systemd::Service,
    started: Instant,
    status: String,
}

impl Service {
    /// `None` if nobody asked to be told, or in a language we do not speak, which is logged.
    pub(super) fn from_env() -> Option<Self> {
        let found = systemd::Service::from_env(&Env::from_process(), std::process::id());
        let systemd = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "find systemd's socket; it will not hear that replication is ready");
            None
        })?;
        Some(Self { systemd, started: Instant::now(), status: String::new() })
    }

    /// Where things stand: every report, and whether it is news.
    pub(super) fn tell(&mut self, ready: bool, reports: &[(Report, bool)]) {
        self.status = status(&reports.iter().map(|(report, _)| report).collect::<Vec<_>>());
        self.say(if ready { Phase::Ready } else { Phase::Starting });
    }

    /// The final sync begins and takes `limit` at most.
    pub(super) fn stopping(&mut self, limit: Duration) {
        "final sync".clone_into(&mut self.status);
        // What is in flight when the time is over still gets a moment to end.
        self.say(Phase::Stopping(limit + Duration::from_secs(5)));
    }

    /// How long until there is something to say even if nothing happens.
    pub(super) fn due(&self) -> Duration {
        let due = self.systemd.deadline().map(|deadline| deadline.saturating_sub(self.started.elapsed()));
        due.unwrap_or(NEVER)
    }

    fn say(&mut self, phase: Phase) {
        if let Err(error) = self.systemd.tell(self.started.elapsed(), phase, &self.status) {
            tracing::debug!(%error, "tell systemd");
        }
    }
}

/// One line for `systemctl status`: the databases that are not as they should be, else how many there are.
///
/// ```text
/// waiting for databases
/// 2 databases: every commit is replicated
/// 2 databases: 8240 bytes to send
/// /data/a.db: waiting for it to exist in WAL mode; /data/b.db: 8240 bytes to send: PUT s3://b/x: connection refused
/// ```
fn status(reports: &[&Report]) -> String {
    let mut trouble: Vec<_> = reports.iter().copied().filter_map(trouble).collect();
    if reports.is_empty() {
        return "waiting for databases".to_owned();
    }
    if !trouble.is_empty() {
        let more = trouble.split_off(trouble.len().min(MOST)).len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        return trouble.join("; ") + &more;
    }
    let many =
        if reports.len() == 1 { "1 database".to_owned() } else { format!("{} databases", reports.len()) };
    match reports.iter().map(|r| r.lag_bytes()).sum::<u64>() {
        0 if reports.iter().all(|r| r.position().is_some()) => format!("{many}: every commit is replicated"),
        0 => format!("{many}: the first copy is on its way"),
        lag => format!("{many}: {lag} bytes to send"),
    }
}

fn trouble(report: &Report) -> Option<String> {
    let db = &report.db;
    match (report.error(), report.waiting) {
        (Some(error), _) => Some(format!("{db}: {} bytes to send: {error}", report.lag_bytes())),
        (None, true) => Some(format!("{db}: waiting for it to exist in WAL mode")),
        (None, false) => None,
    }
}

/// Databases in trouble that are named: a status is one line.
const MOST: usize = 3;
/// A day: nothing is due at all.
const NEVER: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::report::Standing;

    fn report(db: &str, lag_bytes: u64, error: Option<&str>) -> Report {
        let standing = Standing {
            name: "file".into(),
            kind: "file",
            position: Some(crate::plan::position::Position::Ltx(crate::format::ltx::Txid::ONE)),
            lag_bytes,
            behind_since: None,
            error: error.map(str::to_owned),
            holds: Vec::new(),
            remarks: Vec::new(),
            work: crate::run::report::ReplicaWork::default(),
        };
        Report { db: db.into(), pinned: true, replicas: vec![standing], ..Report::default() }
    }

    #[test]
    fn the_status_names_what_is_not_as_it_should_be_and_else_counts() {
        let well = report("/a.db", 0, None);
        assert_eq!(status(&[]), "waiting for databases");
        assert_eq!(status(&[&well]), "1 database: every commit is replicated");
        assert_eq!(status(&[&well, &report("/b.db", 10, None)]), "2 databases: 10 bytes to send");
        let waiting = Report { waiting: true, ..report("/c.db", 0, None) };
        let refused = report("/b.db", 10, Some("refused"));
        assert_eq!(
            status(&[&well, &refused, &waiting]),
            "/b.db: 10 bytes to send: refused; /c.db: waiting for it to exist in WAL mode"
        );
        assert!(status(&[&refused; 9]).ends_with("refused; and 6 more"));
        let mut young = well;
        young.replicas[0].position = None;
        assert_eq!(status(&[&young]), "1 database: the first copy is on its way");
    }
}
