//! What a service answers, and what the store makes of it: the answers that no server here gives when asked to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod azure;
mod google;
mod s3;
mod server;
