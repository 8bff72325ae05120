//! Chance with a name: one seed, printed, taken from `SEED=` when it is set. Values and the environment only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64: small, fast, the same on every machine.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// A generator that repeats itself for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of this run: `SEED=` from the environment, else the clock. Printed, so that a failure can be replayed.
    pub fn seed(test: &str) -> u64 {
        let seed = match std::env::var("SEED") {
            Ok(text) => text.trim().parse().expect("SEED is a decimal number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_nanos() as u64 % 1_000_000_007),
        };
        println!("{test}: SEED={seed}");
        seed
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "a range has at least one number");
        self.bits() % end
    }

    /// A time in `from..=to`, to the microsecond.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_micros() as u64;
        from + Duration::from_micros(self.below(span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..100).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_time_stays_within_its_bounds() {
        let (from, to) = (Duration::from_millis(3), Duration::from_millis(5));
        let mut chance = Chance::new(1);
        for _ in 0..1000 {
            let drawn = chance.between(from, to);
            assert!(from <= drawn && drawn <= to, "{drawn:?}");
        }
    }
}
