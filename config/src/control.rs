//! What the supervisor and a supervised agent say to each other. Values only; each program does its own I/O.
//!
//! The wire: a `SOCK_STREAM` socket pair, the agent's end on the descriptor named by [`FD_VAR`], one JSON object a
//! line in both directions. End of file from the supervisor means it died: the agent drains as well as it can and
//! exits. A supervised agent ignores SIGTERM and SIGINT (a platform may broadcast them) and stops only on
//! [`ToAgent::Exit`] or end of file.
//!
//! ```text
//! agent  {"phase":{"name":"attach"}}
//! agent  {"ready":{"mode":"pinned","db":"/data/station.db"}}
//! agent  {"status":{"wal_end":41232,"acked":41232,"lag_bytes":0,...}}       every second and at every change
//! superv {"drain":{"deadline_ms":4000}}
//! agent  {"drained":{"ok":true,"quiesced":true,"wal_end":41232,...}}
//! superv {"exit":{}}
//! ```

use serde::{Deserialize, Serialize};

/// The environment variable that names the agent's end of the socket pair.
pub const FD_VAR: &str = "HOLDFAST_CONTROL_FD";

/// The environment variable that is set for every program the supervisor starts as the agent.
pub const SUPERVISED_VAR: &str = "HOLDFAST_SUPERVISED";

/// The environment variable that names the app's database on a server to the agent's `ask-database`.
pub const DATABASE_VAR: &str = "HOLDFAST_DATABASE";

/// From the agent to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAgent {
    /// What it is doing before it is ready.
    Phase { name: String },
    /// Every configured database is pinned, or does not exist yet and is being waited for.
    Ready { mode: ReadyMode, db: String },
    /// Where replication stands. Also the heartbeat.
    Status(Status),
    /// The answer to [`ToAgent::Drain`].
    Drained(Drained),
    /// It is about to exit with `code`, for the reason in `message`.
    Fatal { code: u8, message: String },
}

/// Why the agent calls itself ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyMode {
    /// A read transaction holds the WAL.
    Pinned,
    /// The database does not exist yet, or is not in WAL mode yet.
    WaitingForDb,
}

/// Where replication of one database stands. Offsets are bytes in the current WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub db: String,
    /// End of the last committed frame.
    pub wal_end: u64,
    /// `GENERATION/INDEX:OFFSET` the slowest replica has acknowledged; empty before the first base.
    pub position: String,
    /// Bytes committed and not yet acknowledged by the slowest replica.
    pub lag_bytes: u64,
    /// Age of the oldest commit not yet acknowledged.
    pub lag_ms: u64,
    /// Bytes sent to replicas since start, as stored.
    pub sent_bytes: u64,
    /// The last error of a replica, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What should be known of the destinations, though they work: each a sentence.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub remarks: Box<[String]>,
}

/// What a drain achieved. `ok` is the proof the supervisor exits 0 on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// `quiesced`, and every replica acknowledged exactly the end of the WAL.
    pub ok: bool,
    /// The write lock was taken: nobody, in any container, can commit any more.
    pub quiesced: bool,
    pub wal_end: u64,
    /// `GENERATION/INDEX:OFFSET` of the slowest replica.
    pub position: String,
    pub lag_bytes: u64,
    pub ms: u64,
    /// Why `ok` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// From the supervisor to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// A stop has begun: upload without waiting for the sync interval.
    Flush {},
    /// Read the configuration again, as on SIGHUP.
    Reload {},
    /// The app is gone: prove that the replica holds everything, within `deadline_ms`.
    Drain { deadline_ms: u64 },
    /// Close and exit.
    Exit {},
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_the_documentation_shows_them() {
        let ready = FromAgent::Ready { mode: ReadyMode::WaitingForDb, db: "/data/station.db".into() };
        let line = serde_json::to_string(&ready).unwrap();
        assert_eq!(line, r#"{"ready":{"mode":"waiting-for-db","db":"/data/station.db"}}"#);
        assert_eq!(serde_json::from_str::<FromAgent>(&line).unwrap(), ready);
        assert_eq!(serde_json::to_string(&ToAgent::Exit {}).unwrap(), r#"{"exit":{}}"#);
        let drain: ToAgent = serde_json::from_str(r#"{"drain":{"deadline_ms":4000}}"#).unwrap();
        assert_eq!(drain, ToAgent::Drain { deadline_ms: 4000 });
    }
}
