//! Request ids: 128 random bits as 32 hexadecimal digits. They tell requests apart; they are not secrets.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

const HEX: &[u8; 16] = b"0123456789abcdef";

thread_local! {
    // Two generators of 64 bits each, seeded by the operating system: one alone would let ids of
    // different threads meet after some billions. Nothing is shared, so nothing is contended.
    static SEEDS: [Cell<u64>; 2] = [Cell::new(RandomState::new().hash_one(0)), Cell::new(RandomState::new().hash_one(1))];
}

/// An id for one request: `X-Request-Id`, access-log lines and error answers carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// A fresh id. No allocation, no system call, no lock.
    pub fn fresh() -> Self {
        SEEDS.with(|[high, low]| Self::from_bits(u128::from(next(high)) << 64 | u128::from(next(low))))
    }

    /// The id as 32 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        // Only ever filled from HEX, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn from_bits(bits: u128) -> Self {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(digits)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.as_str())
    }
}

fn next(state: &Cell<u64>) -> u64 {
    let mut generator = fastrand::Rng::with_seed(state.get());
    let bits = generator.u64(..);
    state.set(generator.get_seed());
    bits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_id_is_32_lower_case_hex_digits() {
        let id = RequestId::from_bits(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(id.as_str(), "0123456789abcdeffedcba9876543210");
        assert_eq!(id.to_string(), id.as_str());
        assert_eq!(RequestId::from_bits(0).as_str().len(), 32);
    }

    #[test]
    fn ids_of_many_threads_do_not_repeat() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| Vec::from_iter((0..5000).map(|_| RequestId::fresh()))))
            .collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 20_000);
    }
}
