//! The seed of this crate's randomised tests. Tests only: reads `SEED=` and the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::test_runner::{Config, RngSeed};

/// Settings for a randomised test: the seed is `SEED=`, else the clock; it is printed, so that a failure replays.
pub(crate) fn seeded() -> Config {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.trim().parse().expect("SEED is a decimal number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs()),
    };
    println!("SEED={seed}");
    Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() }
}
