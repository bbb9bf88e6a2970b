//! When to try again. Let's Encrypt lets five proofs of a name fail in an hour, and who goes on is shut
//! out for longer: what the authority counts is repeated four times in an hour at most.

use super::failure::Reason;
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// So many failures that an authority counts may be in an hour, restarts included.
const IN_AN_HOUR: usize = 4;

/// The wait behind so many failures in a row, from 1; `chance` (0 to 1) makes it a tenth longer at most.
pub(super) fn wait(reason: Reason, in_a_row: u32, chance: f64) -> Duration {
    let (first, longest) = match reason {
        // Costs nobody anything: the network comes up, the authority comes back.
        Reason::Unreachable => (5, HOUR),
        Reason::RateLimited => (HOUR, 24 * HOUR),
        Reason::Timeout | Reason::Storage | Reason::Challenge | Reason::Account | Reason::Rejected => {
            (5 * MINUTE, 12 * HOUR)
        }
    };
    let doubled = first << in_a_row.saturating_sub(1).min(16);
    Duration::from_secs(doubled.min(longest)).mul_f64(1.0 + chance / 10.0)
}

/// Whether the authority counts such a failure.
pub(super) fn counts(reason: Reason) -> bool {
    !matches!(reason, Reason::Unreachable)
}

/// Forgets the failures that no longer matter at `now`.
pub(super) fn forget(failed: &mut Vec<u64>, now: u64) {
    // One from the future was written by a clock that went wrong.
    failed.retain(|at| *at <= now && now - at < HOUR);
}

/// When, in seconds since 1970, a try may be made behind the failures of the last hour.
pub(super) fn allowed(failed: &[u64], now: u64) -> u64 {
    match failed.len().checked_sub(IN_AN_HOUR) {
        Some(at) => failed.get(at).map_or(now, |at| (at + HOUR).max(now)),
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The failures of a day's tries that all fail so.
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
    fn nothing_that_an_authority_counts_is_tried_more_than_four_times_in_an_hour() {
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
    fn a_process_that_is_started_again_and_again_keeps_to_it_too() {
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
    fn a_wait_has_an_end_and_is_never_nothing() {
        for reason in Reason::ALL {
            for in_a_row in [0, 1, 30, u32::MAX] {
                let wait = wait(reason, in_a_row, 1.0);
                assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(27 * HOUR));
            }
        }
    }
}
