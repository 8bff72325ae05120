//! The checkpoint protocol on the bundled SQLite, with writers that are processes: what a pin stops, and that moving it loses nothing.
//!
//! | file | one idea |
//! | --- | --- |
//! | `foreign` | a held read transaction against everybody else's checkpoints |
//! | `moving` | rounds against writers that never wait for us |
//! | `manners` | what attaching and letting go leave behind: nothing |
//! | `follow` | a follower that keeps every committed page it saw |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod follow;
mod foreign;
mod manners;
mod moving;

#[test]
fn the_bundled_sqlite_has_no_wal_reset_bug() {
    assert!(rusqlite::version_number() >= 3_051_003, "SQLite {}", rusqlite::version());
}
