//! Results of consecutive probes, compared with thresholds. pingora-load-balancing sends the probes.

use serde::Serialize;
use std::num::NonZeroU16;

/// The health of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Health {
    /// Not probed yet. It gets no traffic unless no other endpoint is healthy: requests then wait up to one probe
    /// timeout and follow `when_all_unhealthy`.
    Unknown,
    /// Selected for new requests.
    Healthy,
    /// Its probes fail, or passive health ejected it.
    Unhealthy,
}

impl Health {
    pub(super) const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Healthy,
            2 => Self::Unhealthy,
            _ => Self::Unknown,
        }
    }
}

/// The number of consecutive outcomes that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes that make an endpoint healthy.
    pub healthy_after: NonZeroU16,
    /// Failures that make an endpoint unhealthy.
    pub unhealthy_after: NonZeroU16,
}

/// A verdict and the consecutive outcomes that contradict it.
#[derive(Debug)]
pub(super) struct Score {
    health: Health,
    successes: u16,
    failures: u16,
}

impl Score {
    pub(super) const fn new(health: Health) -> Self {
        Self { health, successes: 0, failures: 0 }
    }

    /// Records an outcome; returns the verdict if it changed.
    pub(super) fn observe(&mut self, well: bool, thresholds: Thresholds) -> Option<Health> {
        (self.successes, self.failures) =
            if well { (self.successes.saturating_add(1), 0) } else { (0, self.failures.saturating_add(1)) };
        let verdict = match self.health {
            Health::Unknown | Health::Unhealthy if self.successes >= thresholds.healthy_after.get() => {
                Health::Healthy
            }
            // One failure is enough for an endpoint that was never healthy.
            Health::Unknown if self.failures > 0 => Health::Unhealthy,
            Health::Healthy if self.failures >= thresholds.unhealthy_after.get() => Health::Unhealthy,
            same => same,
        };
        let changed = verdict != self.health;
        self.health = verdict;
        changed.then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn thresholds(healthy_after: u16, unhealthy_after: u16) -> Thresholds {
        Thresholds {
            healthy_after: NonZeroU16::new(healthy_after).unwrap(),
            unhealthy_after: NonZeroU16::new(unhealthy_after).unwrap(),
        }
    }

    #[test]
    fn an_unknown_endpoint_becomes_healthy_after_its_successes() {
        let mut score = Score::new(Health::Unknown);
        assert_eq!(score.observe(true, thresholds(2, 3)), None);
        assert_eq!(score.observe(true, thresholds(2, 3)), Some(Health::Healthy));
        assert_eq!(score.observe(true, thresholds(2, 3)), None);
    }

    #[test]
    fn an_unknown_endpoint_that_fails_is_unhealthy_at_once() {
        let mut score = Score::new(Health::Unknown);
        assert_eq!(score.observe(false, thresholds(1, 3)), Some(Health::Unhealthy));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut score = Score::new(Health::Healthy);
        for _ in 0..5 {
            assert_eq!(score.observe(false, thresholds(1, 3)), None);
            assert_eq!(score.observe(false, thresholds(1, 3)), None);
            assert_eq!(score.observe(true, thresholds(1, 3)), None);
        }
        score.observe(false, thresholds(1, 3));
        score.observe(false, thresholds(1, 3));
        assert_eq!(score.observe(false, thresholds(1, 3)), Some(Health::Unhealthy));
        assert_eq!(score.observe(true, thresholds(1, 3)), Some(Health::Healthy));
    }
}
