//! Backoff of failed attempts. Let's Encrypt allows five failed validations of a name per hour and blocks
//! further ones, so failures that the CA counts are limited to four per hour.

use super::failure::Reason;
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The limit per hour on failures that the CA counts, across restarts.
const IN_AN_HOUR: usize = 4;

/// The wait after this many failures in a row, from 1; `chance` (0 to 1) adds up to a tenth.
pub(super) fn wait(reason: Reason, in_a_row: u32, chance: f64) -> Duration {
    let (first, longest) = match reason {
        // The CA does not count these: the network or the CA recovers.
        Reason::Unreachable => (5, HOUR),
        Reason::RateLimited => (HOUR, 24 * HOUR),
        Reason::Timeout | Reason::Storage | Reason::Challenge | Reason::Account | Reason::Rejected => {
            (5 * MINUTE, 12 * HOUR)
        }
    };
    let doubled = first << in_a_row.saturating_sub(1).min(16);
    Duration::from_secs(doubled.min(longest)).mul_f64(1.0 + chance / 10.0)
}

/// Whether the CA counts such a failure.
pub(super) fn counts(reason: Reason) -> bool {
    !matches!(reason, Reason::Unreachable)
}

/// Drops failures that are too old at `now`.
pub(super) fn forget(failed: &mut Vec<u64>, now: u64) {
    // A time in the future comes from a clock that was wrong.
    failed.retain(|at| *at <= now && now - at < HOUR);
}

/// The earliest time of an attempt after the last hour's failures, in Unix seconds.
pub(super) fn allowed(failed: &[u64], now: u64) -> u64 {
    match failed.len().checked_sub(IN_AN_HOUR) {
        Some(at) => failed.get(at).map_or(now, |at| (at + HOUR).max(now)),
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The failures of one day if every attempt fails with this reason.
    fn day(reason: Reason) -> Vec<u64> {
        let mut tries = vec![0];
        let mut at = 0;
        while at < 24 * HOUR {
            at += wait(reason, u32::try_from(tries.len()).unwrap_or(u32::MAX), 0.0).as_secs();
            tries.push(at);
        }
        tries
    }

    #[test]
    fn counted_failures_are_limited_to_four_per_hour() {
        for reason in Reason::ALL.into_iter().filter(|reason| counts(*reason)) {
            let tries = day(reason);
            for first in &tries {
                let hour = tries.iter().filter(|at| (*first..first + HOUR).contains(at)).count();
                assert!(hour <= IN_AN_HOUR, "{reason:?}: {hour} tries in an hour");
            }
            assert!(tries.len() < 14, "{reason:?}: {} tries in a day", tries.len());
        }
    }

    #[test]
    fn the_limit_holds_across_restarts() {
        let now = 10 * HOUR;
        assert_eq!(allowed(&[], now), now);
        assert_eq!(allowed(&[now - 3, now - 2, now - 1], now), now);
        assert_eq!(allowed(&[now - 60, now - 3, now - 2, now - 1], now), now - 60 + HOUR);
        assert_eq!(allowed(&[now - 90, now - 60, now - 3, now - 2, now - 1], now), now - 60 + HOUR);
        let mut failed = vec![now - HOUR, now - 1, now + 1];
        forget(&mut failed, now);
        assert_eq!(failed, [now - 1]);
    }

    #[test]
    fn a_wait_is_bounded_and_never_zero() {
        for reason in Reason::ALL {
            for in_a_row in [0, 1, 30, u32::MAX] {
                let wait = wait(reason, in_a_row, 1.0);
                assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(27 * HOUR));
            }
        }
    }
}
