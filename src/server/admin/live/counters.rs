//! Counters at one moment, and rates between two moments.

use crate::telemetry::metrics::{self, Direction, ObservedValue, RouteCounts};
use serde::Serialize;
use std::time::Instant;

/// Sums over all routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) handshakes: u64,
    pub(super) open: u64,
    pub(super) messages: [u64; 2],
    pub(super) bytes: [u64; 2],
    pub(super) errors: u64,
}

/// The counters at one moment.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) routes: Vec<RouteCounts>,
    pub(super) failed: Vec<(&'static str, u64)>,
    pub(super) round_trips: ObservedValue,
    pub(super) totals: Totals,
}

/// Rates of both directions, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct DirectionRates {
    pub(super) to_backend: f64,
    pub(super) to_client: f64,
}

impl Reading {
    /// Reads the counters.
    pub(super) fn now() -> Self {
        let at = Instant::now();
        let all = metrics::global();
        let (routes, failed) = (all.route_counts(), all.failed_requests());
        let totals = Totals::of(&routes, &failed);
        Self { at, routes, failed, round_trips: all.client_round_trips(), totals }
    }
}

impl Totals {
    fn of(routes: &[RouteCounts], failed: &[(&'static str, u64)]) -> Self {
        let mut totals = Self { errors: failed.iter().map(|(_, count)| count).sum(), ..Self::default() };
        for route in routes {
            totals.requests += route.responses.iter().map(|(_, count)| count).sum::<u64>();
            for direction in Direction::ALL {
                totals.messages[direction as usize] += route.former.data_messages(direction);
                totals.bytes[direction as usize] += route.former.bytes[direction as usize];
            }
            for sockets in &route.sockets {
                totals.handshakes += sockets.opened;
                totals.open += sockets.opened.saturating_sub(sockets.ended);
                for direction in Direction::ALL {
                    totals.messages[direction as usize] += sockets.traffic.data_messages(direction);
                    totals.bytes[direction as usize] += sockets.traffic.bytes[direction as usize];
                }
            }
        }
        totals
    }
}

/// The change of a counter per second, with three significant digits. A counter that was removed with its route
/// counts from 0 again.
pub(super) fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    rounded(now.saturating_sub(before) as f64 / seconds.max(1e-3))
}

/// The rates of both directions.
pub(super) fn rates(now: [u64; 2], before: [u64; 2], seconds: f64) -> DirectionRates {
    let of = |direction: Direction| rate(now[direction as usize], before[direction as usize], seconds);
    DirectionRates { to_backend: of(Direction::ToBackend), to_client: of(Direction::ToClient) }
}

/// Three significant digits: more would only make updates of what is equal to the eye.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(2.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_negative_and_has_three_digits() {
        assert_eq!((rate(10, 20, 1.0), rate(20, 10, 2.0), rate(1234, 0, 1.0)), (0.0, 5.0, 1230.0));
        assert_eq!(rate(1, 0, 3.0), 0.333);
        assert_eq!([f64::NAN, f64::INFINITY, 0.0].map(rounded), [0.0; 3]);
    }
}
