//! What SQLite did. The only room that touches the live database and its WAL. No network.
//!
//! Closing any descriptor of the database or of its `-shm` drops every POSIX lock this process holds on it, SQLite's
//! included, and the app may then delete the WAL under us (sqlite.org/howtocorrupt.html §2.2; reproduced). So both
//! are opened once per file, in [`files`], and outlive every connection. The `-wal` carries no locks.

pub mod directory;
pub mod entries;
pub mod facts;
pub mod files;
pub mod live;
mod pins;
mod shm;
pub mod tail;
pub mod watch;
