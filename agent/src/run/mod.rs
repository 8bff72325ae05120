//! The loop. Performs what plan decided, with the clock, the runtime and the signals. No byte layouts, no policy.

mod clock;
mod control;
mod database;
mod flights;
pub mod replicate;
mod report;
pub mod restore;
mod segment;
mod snapshot;

/// Chance from the system, for generation names and jitter.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds this from the operating system's generator, once a thread, and counts on from there.
    std::hash::RandomState::new().build_hasher().finish()
}
