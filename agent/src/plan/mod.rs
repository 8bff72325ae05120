//! What to do next. Values in, values out; time and chance are arguments. No I/O, no clock, no async, no logging.

pub mod backlog;
pub mod chance;
pub mod database;
pub mod discovery;
pub mod follower;
pub mod handover;
pub mod holds;
pub mod linger;
pub mod ltx;
pub mod opening;
pub mod position;
pub mod reload;
pub mod remote;
pub mod removal;
pub mod replica;
pub mod restore;
pub mod retain;
pub mod retry;
pub mod start;
