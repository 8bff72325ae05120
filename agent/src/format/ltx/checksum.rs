//! CRC-64/GO-ISO over a file's plain bytes, and the rolling checksum of a database. No I/O.
//!
//! Reflected polynomial `0xD800000000000000`, first and last value inverted: `123456789` gives `b90956c775a41001`.
//! A stored checksum always has bit 63 set (spec/litestream-v05.md §1.5).

use crc_fast::{CrcAlgorithm, Digest};

/// Marks a stored checksum, so that none is 0.
pub(super) const FLAG: u64 = 1 << 63;

/// The checksum of a run of bytes, which another run can continue.
///
/// Runs are summed on any thread and joined in order: the CRC of `a ‖ b` is that of `a`, moved by the length of `b`
/// (a multiplication modulo the polynomial), plus that of `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    crc: u64,
    len: u64,
}

impl Sum {
    /// The sum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { crc: crc_fast::checksum(CrcAlgorithm::Crc64GoIso, bytes), len: bytes.len() as u64 }
    }

    /// The sum of these bytes and then those of `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { crc: multiply(shift(next.len), self.crc) ^ next.crc, len: self.len + next.len }
    }

    /// As it stands in the file.
    pub fn stored(self) -> u64 {
        self.crc | FLAG
    }
}

/// A sum that grows by pieces.
#[derive(Debug, Clone)]
pub(super) struct Running {
    digest: Digest,
    len: u64,
}

impl Running {
    pub(super) fn new() -> Self {
        Self { digest: Digest::new(CrcAlgorithm::Crc64GoIso), len: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub(super) fn sum(&self) -> Sum {
        Sum { crc: self.digest.finalize(), len: self.len }
    }
}

/// LiteFS's checksum of a whole database: every page's own checksum, added without carry, so that a page can be
/// taken out and put in. The lock page does not count. Litestream never writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rolling(u64);

impl Rolling {
    /// Of a database without pages.
    pub const EMPTY: Self = Self(FLAG);

    /// `None` without the mark every checksum carries.
    pub fn from_stored(stored: u64) -> Option<Self> {
        (stored & FLAG != 0).then_some(Self(stored))
    }

    /// As it stands in the file.
    pub fn stored(self) -> u64 {
        self.0
    }

    /// Adds a page, or takes it out again.
    #[must_use]
    pub fn toggle(self, number: u32, image: &[u8]) -> Self {
        self.join(Self(page(number, image)))
    }

    /// The pages of both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self(FLAG | (self.0 ^ other.0))
    }
}

fn page(number: u32, image: &[u8]) -> u64 {
    let mut running = Running::new();
    running.update(&number.to_be_bytes());
    running.update(image);
    running.sum().stored()
}

/// `x` to the power of `8 × bytes`.
fn shift(mut bytes: u64) -> u64 {
    let mut power = ONE;
    let mut square = 3;
    while bytes != 0 {
        if bytes & 1 != 0 {
            power = multiply(POWERS[square % POWERS.len()], power);
        }
        bytes >>= 1;
        square += 1;
    }
    power
}

/// The product of two polynomials modulo the CRC's. Bit 63 is the coefficient of `x⁰`.
const fn multiply(mut a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    while a != 0 {
        product ^= b & (((a as i64) >> 63) as u64);
        a <<= 1;
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

const POLYNOMIAL: u64 = 0xD800_0000_0000_0000;
const ONE: u64 = 1 << 63;
/// `x` to the power of 1, 2, 4, 8 and so on. The multiplicative order divides 2⁶⁴ − 1, so 64 of them come round.
const POWERS: [u64; 64] = {
    let mut powers = [ONE >> 1; 64];
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_crc_litestream_uses() {
        assert_eq!(Sum::of(b"123456789").crc, 0xb909_56c7_75a4_1001);
        assert_eq!(Sum::default().then(Sum::of(b"123456789")), Sum::of(b"123456789"));
    }

    /// Bit by bit, as the definition says.
    fn plainly(bytes: &[u8]) -> u64 {
        let step = |c: u64, byte: &u8| {
            (0..8).fold(c ^ u64::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ POLYNOMIAL } else { c >> 1 })
        };
        !bytes.iter().fold(!0, step)
    }

    proptest! {
        #[test]
        fn sums_of_parts_join_to_the_sum_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        ) {
            let whole = Sum::of(&bytes);
            prop_assert_eq!(whole.crc, plainly(&bytes));
            let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut running = Running::new();
            let mut joined = Sum::default();
            for part in cuts.windows(2).map(|w| &bytes[w[0]..w[1]]) {
                running.update(part);
                joined = joined.then(Sum::of(part));
            }
            prop_assert_eq!(joined, whole);
            prop_assert_eq!(running.sum(), whole);
        }
    }

    #[test]
    fn a_page_taken_out_leaves_the_checksum_of_the_rest() {
        let one = Rolling::EMPTY.toggle(1, &[1; 512]);
        let both = one.toggle(2, &[2; 512]);
        assert_ne!(one, both);
        assert_eq!(both.toggle(2, &[2; 512]), one);
        assert_eq!(one.toggle(1, &[1; 512]), Rolling::EMPTY);
        assert_eq!(Rolling::from_stored(1), None);
        assert_eq!(Rolling::from_stored(both.stored()), Some(both));
    }
}
