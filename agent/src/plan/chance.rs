//! Chance as an argument: a seeded generator, and the back-off that uses it. Values only.

use std::time::Duration;

/// A small deterministic generator (splitmix64). The shell seeds it from the system, the simulator from `SEED=`.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The wait before attempt number `failures + 1`: doubling from half a second to [`BACKOFF_CAP`], a quarter of
    /// it at random, so that many agents do not return in step.
    pub fn backoff(&mut self, failures: u32) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let whole = doubled.min(BACKOFF_CAP).as_millis() as u64;
        Duration::from_millis(whole - self.roll() % (whole / 4).max(1))
    }
}

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest wait between two attempts.
pub const BACKOFF_CAP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_stays_within_a_quarter_and_never_passes_the_cap() {
        let mut dice = Dice::new(7);
        for failures in 1..40 {
            let whole = (500u64 << (failures - 1).min(16)).min(30_000);
            let wait = dice.backoff(failures).as_millis() as u64;
            assert!(wait <= whole && wait >= whole - whole / 4, "failure {failures}: {wait} ms of {whole}");
        }
    }

    #[test]
    fn the_same_seed_rolls_the_same_numbers() {
        let (mut a, mut b) = (Dice::new(1), Dice::new(1));
        assert!((0..100).all(|_| a.roll() == b.roll()));
        assert_ne!(Dice::new(1).roll(), Dice::new(2).roll());
    }
}
