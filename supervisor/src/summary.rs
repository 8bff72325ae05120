//! The last words of a run: one line of proof for people, one line of JSON for machines. Writes the one file that may be there
//! for the latter.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use serde_json::{Map, Value, json};

use crate::lifecycle::{Ended, Level, Outcome, Sync};

/// The proof of the final sync, or what is missing. None when there was nothing to sync.
///
/// ```text
/// final sync proven in 12 ms: the replica holds every commit, up to 0a1b…/00000003:41232
/// final sync NOT complete: 8240 bytes are not on the replica (it holds up to 0a1b…/00000003:32992)
/// ```
pub(crate) fn proof(outcome: &Outcome) -> Option<(Level, String)> {
    match &outcome.sync {
        Sync::NotNeeded => None,
        Sync::Proven(drained) => {
            let up_to = match drained.position.as_str() {
                "" => "there is no database yet".to_owned(),
                position => format!("the replica holds every commit, up to {position}"),
            };
            Some((Level::Info, format!("final sync proven in {} ms: {up_to}", drained.ms)))
        }
        Sync::Failed { why, drained } => {
            let held = drained
                .as_ref()
                .filter(|d| !d.position.is_empty())
                .map(|d| format!(" (it holds up to {})", d.position))
                .unwrap_or_default();
            Some((Level::Error, format!("final sync NOT complete: {why}{held}")))
        }
    }
}

/// The summary, one line without a line end, at most 4 KiB (what Kubernetes keeps of it).
///
/// ```text
/// {"exit":0,"cause":"SIGTERM","app":{"exit":0,"killed_by":null},"sync":{"ok":true,…},"agent_restarts":0,
///  "orphans_reaped":1,"orphans_killed":0,"log_dropped":0,"seconds":{"restore":0.1,…,"total":12.3}}
/// ```
pub(crate) fn json(outcome: &Outcome, log_dropped: u64) -> String {
    let mut seconds: Map<String, Value> =
        outcome.spent.iter().map(|(phase, time)| ((*phase).to_owned(), millis(*time))).collect();
    seconds.insert("total".into(), millis(outcome.total));
    json!({
        "exit": outcome.code,
        "cause": cut(&outcome.cause),
        "app": app(outcome),
        "sync": sync(&outcome.sync),
        "agent_restarts": outcome.agent_restarts,
        "orphans_reaped": outcome.orphans_reaped,
        "orphans_killed": outcome.orphans_killed,
        "log_dropped": log_dropped,
        "seconds": seconds,
    })
    .to_string()
}

/// Writes `json` to `path`, if that is there: Kubernetes makes the file, elsewhere nobody reads it. A pipe that nobody reads is
/// waited for by nobody, either.
pub(crate) fn leave(path: &Path, json: &str) -> io::Result<()> {
    let open =
        File::options().write(true).truncate(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    match open {
        Ok(mut file) => file.write_all(json.as_bytes()),
        Err(_) => Ok(()),
    }
}

fn app(outcome: &Outcome) -> Value {
    let killed_by = outcome.killed_app.then_some("supervisor");
    match outcome.app {
        None if outcome.killed_app => json!({"exit": null, "signal": null, "killed_by": killed_by}),
        None => Value::Null,
        Some(Ended::Code(code)) => json!({"exit": code, "killed_by": killed_by}),
        Some(Ended::Signal(sig)) => json!({"signal": sig.to_string(), "killed_by": killed_by}),
        Some(Ended::NotStarted(code)) => json!({"not_started": code}),
    }
}

fn sync(sync: &Sync) -> Value {
    match sync {
        Sync::NotNeeded => Value::Null,
        Sync::Proven(d) => {
            json!({"ok": true, "position": cut(&d.position), "wal_end": d.wal_end, "lag_bytes": d.lag_bytes, "ms": d.ms})
        }
        Sync::Failed { why, drained } => json!({
            "ok": false,
            "why": cut(why),
            "quiesced": drained.as_ref().map(|d| d.quiesced),
            "position": drained.as_ref().map(|d| cut(&d.position)),
            "lag_bytes": drained.as_ref().map(|d| d.lag_bytes),
        }),
    }
}

fn millis(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Three such texts and the rest stay below 4 KiB even where every character is escaped.
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Sig;
    use holdfast_config::control::Drained;

    fn outcome(sync: Sync) -> Outcome {
        Outcome {
            code: 0,
            cause: "SIGTERM".into(),
            app: Some(Ended::Code(0)),
            killed_app: false,
            sync,
            agent_restarts: 0,
            orphans_reaped: 2,
            orphans_killed: 0,
            spent: vec![("run", Duration::from_millis(1500))],
            total: Duration::from_secs(2),
        }
    }

    #[test]
    fn what_is_left_replaces_what_was_there_and_waits_for_no_reader() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe) = (dir.path().join("log"), dir.path().join("pipe"));
        std::fs::write(&file, "what an earlier container left").unwrap();
        leave(&file, "{}").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{}");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        leave(&pipe, "{}").unwrap();
        leave(&dir.path().join("not there"), "{}").unwrap();
        assert!(!dir.path().join("not there").exists());
    }

    #[test]
    fn the_summary_reads_as_documented() {
        let drained = Drained {
            ok: true,
            quiesced: true,
            wal_end: 7,
            position: "g/0:7".into(),
            ms: 12,
            ..Drained::default()
        };
        let proven = outcome(Sync::Proven(drained));
        assert_eq!(
            json(&proven, 0),
            r#"{"agent_restarts":0,"app":{"exit":0,"killed_by":null},"cause":"SIGTERM","exit":0,"log_dropped":0,"orphans_killed":0,"orphans_reaped":2,"seconds":{"run":1.5,"total":2.0},"sync":{"lag_bytes":0,"ms":12,"ok":true,"position":"g/0:7","wal_end":7}}"#
        );
        let (level, line) = proof(&proven).unwrap();
        assert_eq!(
            (level, line.as_str()),
            (Level::Info, "final sync proven in 12 ms: the replica holds every commit, up to g/0:7")
        );
    }

    #[test]
    fn a_failed_sync_is_loud_and_says_how_far_it_came() {
        let drained = Drained { position: "g/0:5".into(), lag_bytes: 9, ..Drained::default() };
        let failed = outcome(Sync::Failed { why: "9 bytes".into(), drained: Some(drained) });
        let (level, line) = proof(&failed).unwrap();
        assert_eq!(
            (level, line.as_str()),
            (Level::Error, "final sync NOT complete: 9 bytes (it holds up to g/0:5)")
        );
        assert_eq!(proof(&outcome(Sync::NotNeeded)), None);
    }

    #[test]
    fn the_summary_fits_into_a_kubernetes_termination_message() {
        let long = "\u{1}".repeat(100_000);
        let drained = Drained { position: long.clone(), ..Drained::default() };
        let mut worst = outcome(Sync::Failed { why: long.clone(), drained: Some(drained) });
        worst.cause = long;
        worst.app = Some(Ended::Signal(Sig::KILL));
        assert!(json(&worst, u64::MAX).len() <= 4096, "{}", json(&worst, u64::MAX).len());
    }
}
