//! Counters at one moment, and rates between two moments.

use crate::telemetry::metrics::{self, Direction, ObservedValue, RouteCounts};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;

/// Sums over all routes: what was counted between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) handshakes: u64,
    pub(super) messages: [u64; 2],
    pub(super) bytes: [u64; 2],
    pub(super) errors: u64,
}

/// The counters at one moment.
pub(super) struct CounterReading {
    pub(super) at: Instant,
    pub(super) routes: Vec<RouteCounts>,
    pub(super) failed: Vec<(&'static str, u64)>,
    pub(super) round_trips: ObservedValue,
}

/// Rates of both directions, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct DirectionRates {
    pub(super) to_backend: f64,
    pub(super) to_client: f64,
}

impl CounterReading {
    /// Reads the counters.
    pub(super) fn now() -> Self {
        let at = Instant::now();
        let all = metrics::global();
        Self {
            at,
            routes: all.route_counts(),
            failed: all.failed_requests(),
            round_trips: all.client_round_trips(),
        }
    }

    /// The open WebSockets.
    pub(super) fn open(&self) -> u64 {
        let sockets = self.routes.iter().flat_map(|route| &route.sockets);
        sockets.map(|sockets| sockets.open()).sum()
    }

    /// What was counted since `before`. The counters of a route or endpoint are removed with it, and those of the
    /// others must not lose by that: each is compared with its own earlier count.
    pub(super) fn since(&self, before: &Self) -> Totals {
        let earlier = by_series(&before.routes);
        let none = Totals::default();
        let mut change =
            Totals { errors: errors(&self.failed).saturating_sub(errors(&before.failed)), ..none };
        for (series, now) in by_series(&self.routes) {
            change.add_difference(&now, earlier.get(&series).unwrap_or(&none));
        }
        change
    }
}

/// All failed requests. Their reasons are a fixed list, so the sum never decreases.
fn errors(failed: &[(&'static str, u64)]) -> u64 {
    failed.iter().map(|(_, count)| count).sum()
}

/// The rate of each reason between two moments.
pub(super) fn error_rates(
    now: &CounterReading,
    before: &CounterReading,
    seconds: f64,
) -> impl Iterator<Item = (&'static str, f64)> {
    let earlier = |reason: &str| {
        before.failed.iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| *count)
    };
    now.failed.iter().map(move |(reason, total)| (*reason, rate(*total, earlier(reason), seconds)))
}

/// The counts of each route, upstream and endpoint. Traffic is counted by route, because it outlives its endpoint
/// there.
fn by_series(routes: &[RouteCounts]) -> HashMap<(&str, &str, &str), Totals> {
    let mut all = HashMap::<_, Totals>::new();
    for route in routes {
        for (upstream, requests) in &route.responses {
            all.entry((&*route.route, &**upstream, "")).or_default().requests += requests;
        }
        for sockets in &route.sockets {
            let key = (&*route.route, &*sockets.upstream, &*sockets.endpoint);
            all.entry(key).or_default().handshakes += sockets.opened;
        }
        let counts = all.entry((&*route.route, "", "")).or_default();
        let traffic = route.sockets.iter().map(|sockets| &sockets.traffic).chain([&route.former]);
        for traffic in traffic {
            for direction in Direction::ALL {
                counts.messages[direction as usize] += traffic.data_messages(direction);
                counts.bytes[direction as usize] += traffic.bytes[direction as usize];
            }
        }
    }
    all
}

impl Totals {
    fn add_difference(&mut self, now: &Self, before: &Self) {
        self.requests += now.requests.saturating_sub(before.requests);
        self.handshakes += now.handshakes.saturating_sub(before.handshakes);
        for direction in Direction::ALL.map(|direction| direction as usize) {
            self.messages[direction] += now.messages[direction].saturating_sub(before.messages[direction]);
            self.bytes[direction] += now.bytes[direction].saturating_sub(before.bytes[direction]);
        }
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
    use crate::telemetry::metrics::{SocketCounts, Traffic};

    fn reading(routes: Vec<RouteCounts>) -> CounterReading {
        CounterReading {
            at: Instant::now(),
            routes,
            failed: vec![("no_route", 3)],
            round_trips: ObservedValue::default(),
        }
    }

    fn route(name: &str, requests: u64, endpoints: &[(&str, u64)], former: u64) -> RouteCounts {
        let traffic = |bytes| Traffic { bytes: [bytes, 0], ..Traffic::default() };
        let sockets = endpoints.iter().map(|(endpoint, opened)| SocketCounts {
            upstream: "u".into(),
            endpoint: (*endpoint).into(),
            opened: *opened,
            adopted: 0,
            ended: 0,
            traffic: traffic(opened * 10),
            round_trips: Default::default(),
            closed: Vec::new(),
        });
        RouteCounts {
            route: name.into(),
            responses: vec![("u".into(), requests)],
            sockets: sockets.collect(),
            former: traffic(former),
        }
    }

    #[test]
    fn a_removed_route_or_endpoint_takes_nothing_from_the_others() {
        let before =
            reading(vec![route("a", 100, &[("1", 5), ("2", 50)], 0), route("b", 1000, &[("1", 9)], 0)]);
        // Endpoint 2 is removed, its traffic stays with the route; route b is removed.
        let now = reading(vec![route("a", 110, &[("1", 7)], 500)]);
        let change = now.since(&before);
        assert_eq!((change.requests, change.handshakes, change.bytes, change.errors), (10, 2, [20, 0], 0));
        assert_eq!((now.open(), before.open()), (7, 64));
    }

    #[test]
    fn a_rate_is_never_negative_and_has_three_digits() {
        assert_eq!((rate(10, 20, 1.0), rate(20, 10, 2.0), rate(1234, 0, 1.0)), (0.0, 5.0, 1230.0));
        assert_eq!(rate(1, 0, 3.0), 0.333);
        assert_eq!([f64::NAN, f64::INFINITY, 0.0].map(rounded), [0.0; 3]);
    }
}
