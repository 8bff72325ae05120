//! Whatever an app does to its database, the agent replicates it and the replica restores to it. A directory as replica.
//!
//! | file | one idea |
//! | --- | --- |
//! | `checkpoints` | who moves the WAL, and who keeps it from moving |
//! | `contents` | what stands in the WAL: sizes, page sizes, checksums, transactions that end and that do not |
//! | `files` | databases that appear, change their mode, are replaced or deleted |
//! | `restarts` | an agent that ends and starts again, and what continues |
//! | `replicas` | several of them, one of which hangs or fails |
//! | `pace` | when something is sent, and what it costs when nothing is |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod checkpoints;
mod contents;
mod files;
mod pace;
mod replicas;
mod restarts;

/// Creates the table every test writes to.
const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)";
/// A commit of a few pages.
const WRITE: &str = "BEGIN IMMEDIATE; INSERT INTO t(v) VALUES(randomblob(abs(random() % 900)));
    INSERT INTO t(v) VALUES(randomblob(300)); UPDATE t SET v = randomblob(50) WHERE id = abs(random() % 500); COMMIT";

/// A statement that inserts `rows` rows of `bytes` bytes in one transaction.
fn insert(rows: u32, bytes: u32) -> String {
    format!(
        "INSERT INTO t(v) WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         SELECT randomblob({bytes}) FROM n"
    )
}
