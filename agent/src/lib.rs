//! The replication agent: pins the WAL of a live SQLite database, ships committed frames, restores any point in time.
//!
//! ```text
//! app COMMIT ─▶ <db>-wal ─ source ─▶ format::wal ─▶ plan ─▶ encoder ─▶ store: create-only PUT ─▶ acknowledged
//! restore: LIST ─▶ plan::restore ─▶ parallel GET + decode ─▶ newest page wins ─▶ temp ─▶ verify ─▶ rename
//! ```
//! Each room's `mod.rs` says in its first line what it may touch.

pub mod cli;
pub mod durable;
pub mod error;
pub mod format;
pub mod heap;
pub mod plan;
pub mod run;
pub mod source;
pub mod store;
