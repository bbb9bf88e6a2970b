//! The moment within a drain at which a session leaves the draining endpoint.
//!
//! A session is what a cookie of `sticky` or a key of `consistent_hash` ties to an endpoint. Its requests and
//! WebSockets leave together: a chat group is not split over two backends, and a long-polling client keeps
//! its session. The moments of many sessions are spread evenly over the window. Each is computed from the
//! session alone, so that several gateways agree on it.

use sha2::{Digest, Sha256};

/// A fraction of a drain's window, in units of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrainMoment(u32);

impl DrainMoment {
    /// The end of the window.
    pub const LAST: Self = Self(u32::MAX);

    /// The moment of the session that `key` names.
    pub fn of(key: &[u8]) -> Self {
        // Independent of the ring, on which the keys of one endpoint are adjacent.
        let digest = Sha256::new().chain_update(b"moongate drain").chain_update(key).finalize();
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }

    /// The fraction of the window, in units of 2^-32.
    pub const fn part(self) -> u32 {
        self.0
    }

    /// The moment in milliseconds from the start of a drain with a window of `window` milliseconds.
    pub(super) fn within(self, window: u64) -> u64 {
        let moment = (u128::from(window) * u128::from(self.0)) >> 32;
        // A fraction of the window is never longer than the window.
        u64::try_from(moment).unwrap_or(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_of_many_sessions_are_spread_evenly() {
        let mut slots = [0; 10];
        for session in 0..10_000_u32 {
            let moment = DrainMoment::of(&session.to_be_bytes()).within(30_000);
            slots[usize::try_from(moment / 3_000).unwrap_or(usize::MAX)] += 1;
        }
        assert!(slots.iter().all(|slot| (900..1_100).contains(slot)), "{slots:?}");
    }

    #[test]
    fn a_moment_is_within_the_window_however_long_that_is() {
        for window in [0, 1, 30_000, u64::MAX] {
            assert!(DrainMoment::LAST.within(window) <= window);
            assert_eq!(DrainMoment(0).within(window), 0);
        }
        assert_eq!(DrainMoment::LAST.within(1_000_000), 999_999);
    }
}
