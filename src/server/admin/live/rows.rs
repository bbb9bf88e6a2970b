//! Rows of the live view: one for each endpoint, and one for each route and upstream.

use super::counters::{CounterReading, DirectionRates, rate, rates, rounded};
use crate::server::admin::EndpointFacts;
use crate::telemetry::metrics::{Direction, RouteCounts, Side, SocketCounts};
use crate::upstream::{EndpointStatus, Health, Leaving, MemberState, ProbeResult};
use serde::Serialize;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EndpointRow {
    pub(super) upstream: Arc<str>,
    pub(super) endpoint: Arc<str>,
    weight: u16,
    tier: u8,
    max_connections: Option<NonZeroU32>,
    health: Health,
    probe: Option<Probe>,
    ejected: bool,
    origin: Option<Arc<str>>,
    state: Option<MemberState>,
    draining: Option<Leaving>,
    active: usize,
    websockets: u64,
    opens: f64,
    closes: f64,
    messages: DirectionRates,
    bytes: DirectionRates,
    rtt: SideRoundTrips,
    latency: Option<f64>,
    closed: Vec<CloseCount>,
    slow_start: Option<f64>,
    drain: Option<DrainView>,
}

/// The last probe. A success has no time: it would make an update of every row at every probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Probe {
    ok: bool,
    reason: Option<String>,
    at: Option<u64>,
}

/// Mean ping round trips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct SideRoundTrips {
    client: Option<f64>,
    backend: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct CloseCount {
    code: String,
    by: &'static str,
    count: u64,
}

/// A drain of WebSockets in progress.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct DrainView {
    started: u64,
    window: f64,
    left: f64,
    websockets_at_start: usize,
}

/// The traffic from one route to one upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct FlowRow {
    pub(super) route: Arc<str>,
    pub(super) upstream: Arc<str>,
    requests: f64,
    websockets: u64,
    messages: f64,
    bytes: f64,
}

/// The counts of an endpoint, over all routes.
#[derive(Clone, Default)]
struct EndpointCounts {
    opened: u64,
    adopted: u64,
    ended: u64,
    messages: [u64; 2],
    bytes: [u64; 2],
    round_trips: [(u64, Duration); 2],
    closed: BTreeMap<(String, &'static str), u64>,
}

impl EndpointCounts {
    fn add(&mut self, more: &SocketCounts) {
        self.opened += more.opened;
        self.adopted += more.adopted;
        self.ended += more.ended;
        for direction in Direction::ALL {
            self.messages[direction as usize] += more.traffic.data_messages(direction);
            self.bytes[direction as usize] += more.traffic.bytes[direction as usize];
        }
        for (sum, more) in self.round_trips.iter_mut().zip(more.round_trips) {
            *sum = (sum.0 + more.0, sum.1 + more.1);
        }
        for (code, by, count) in &more.closed {
            *self.closed.entry((code.clone(), by)).or_default() += count;
        }
    }

    /// The counts of every endpoint, by upstream and address.
    fn by_endpoint(routes: &[RouteCounts]) -> HashMap<(&str, &str), Self> {
        let mut all = HashMap::<_, Self>::new();
        for sockets in routes.iter().flat_map(|route| &route.sockets) {
            all.entry((&*sockets.upstream, &*sockets.endpoint)).or_default().add(sockets);
        }
        all
    }

    /// The mean round trip since `before`; the mean of all without a new one.
    fn round_trip(&self, before: &Self, side: Side) -> Option<f64> {
        let ((count, sum), (earlier, earlier_sum)) =
            (self.round_trips[side as usize], before.round_trips[side as usize]);
        let (count, sum) = match count.checked_sub(earlier) {
            Some(new) if new > 0 => (new, sum.saturating_sub(earlier_sum)),
            _ => (count, sum),
        };
        (count > 0).then(|| rounded(sum.as_secs_f64() / count as f64))
    }
}

/// Merges a removed endpoint in use into the present one at its address: a row is identified by upstream and address,
/// by which its WebSockets are counted too.
fn merge_removed(endpoints: Vec<EndpointFacts>) -> Vec<EndpointFacts> {
    let mut merged = Vec::<EndpointFacts>::with_capacity(endpoints.len());
    let mut places = HashMap::new();
    for facts in endpoints {
        match places.entry((Arc::clone(&facts.upstream), facts.status.address.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(merged.len());
                merged.push(facts);
            }
            Entry::Occupied(entry) => {
                let row = &mut merged[*entry.get()];
                row.status.active += facts.status.active;
                row.drain = row.drain.or(facts.drain);
            }
        }
    }
    merged
}

/// The rows of all endpoints, with rates between two readings.
pub(super) fn endpoint_rows(
    endpoints: Vec<EndpointFacts>,
    now: &CounterReading,
    before: &CounterReading,
    seconds: f64,
) -> Vec<EndpointRow> {
    let (counts, earlier) =
        (EndpointCounts::by_endpoint(&now.routes), EndpointCounts::by_endpoint(&before.routes));
    let none = EndpointCounts::default();
    let row = |facts: EndpointFacts| {
        let key = (&*facts.upstream, &*facts.status.address);
        let counts = counts.get(&key).unwrap_or(&none);
        EndpointRow::new(&facts, counts, earlier.get(&key).unwrap_or(&none), seconds)
    };
    merge_removed(endpoints).into_iter().map(row).collect()
}

impl EndpointRow {
    fn new(facts: &EndpointFacts, now: &EndpointCounts, before: &EndpointCounts, seconds: f64) -> Self {
        let EndpointStatus { weight, tier, max_connections, health, .. } = facts.status;
        let EndpointStatus { ejected, state, draining, active, latency, slow_start, .. } = facts.status;
        let probe = facts.status.probe.clone().map(|ProbeResult { ok, reason, at }| Probe {
            ok,
            reason,
            at: (!ok).then_some(at),
        });
        let closed = now.closed.iter();
        Self {
            upstream: Arc::clone(&facts.upstream),
            endpoint: facts.status.address.as_str().into(),
            weight,
            tier,
            max_connections,
            health,
            probe,
            ejected,
            origin: facts.status.origin.clone(),
            state,
            draining,
            active,
            websockets: (now.opened + now.adopted).saturating_sub(now.ended),
            opens: rate(now.opened, before.opened, seconds),
            closes: rate(now.ended, before.ended, seconds),
            messages: rates(now.messages, before.messages, seconds),
            bytes: rates(now.bytes, before.bytes, seconds),
            rtt: SideRoundTrips {
                client: now.round_trip(before, Side::Client),
                backend: now.round_trip(before, Side::Backend),
            },
            latency,
            closed: closed
                .map(|((code, by), count)| CloseCount { code: code.clone(), by, count: *count })
                .collect(),
            slow_start,
            drain: facts.drain.map(|drain| DrainView {
                started: drain.started,
                window: drain.window.as_secs_f64(),
                left: drain.left().as_secs_f64().round(),
                websockets_at_start: drain.websockets,
            }),
        }
    }
}

/// The rows of all routes that have had a request or have a WebSocket, with rates between two readings.
pub(super) fn flow_rows(now: &CounterReading, before: &CounterReading, seconds: f64) -> Vec<FlowRow> {
    let earlier = flows(&before.routes);
    let none = FlowCounts::default();
    let mut rows: Vec<_> = flows(&now.routes)
        .into_iter()
        .filter(|(_, counts)| counts.requests > 0 || counts.open > 0)
        .map(|((route, upstream), counts)| {
            let before = earlier.get(&(route, upstream)).unwrap_or(&none);
            FlowRow {
                route: route.into(),
                upstream: upstream.into(),
                requests: rate(counts.requests, before.requests, seconds),
                websockets: counts.open,
                messages: rate(counts.messages, before.messages, seconds),
                bytes: rate(counts.bytes, before.bytes, seconds),
            }
        })
        .collect();
    rows.sort_unstable_by(|a, b| (&a.route, &a.upstream).cmp(&(&b.route, &b.upstream)));
    rows
}

#[derive(Clone, Copy, Default)]
struct FlowCounts {
    requests: u64,
    open: u64,
    messages: u64,
    bytes: u64,
}

fn flows(routes: &[RouteCounts]) -> HashMap<(&str, &str), FlowCounts> {
    let mut all = HashMap::<_, FlowCounts>::new();
    for route in routes {
        for (upstream, requests) in &route.responses {
            all.entry((&*route.route, &**upstream)).or_default().requests += requests;
        }
        for sockets in &route.sockets {
            let counts = all.entry((&*route.route, &*sockets.upstream)).or_default();
            counts.open += sockets.open();
            for direction in Direction::ALL {
                counts.messages += sockets.traffic.data_messages(direction);
                counts.bytes += sockets.traffic.bytes[direction as usize];
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::telemetry::metrics::{ObservedValue, Traffic};
    use std::time::Instant;

    fn reading(routes: Vec<RouteCounts>) -> CounterReading {
        CounterReading {
            at: Instant::now(),
            routes,
            failed: Vec::new(),
            round_trips: ObservedValue::default(),
        }
    }

    fn sockets(opened: u64, ended: u64, pings: u64) -> SocketCounts {
        SocketCounts {
            upstream: "u".into(),
            endpoint: "1".into(),
            opened,
            adopted: 0,
            ended,
            traffic: Traffic { messages: [[opened, 0, 0, 0, 0, 0], [0; 6]], bytes: [opened * 100, 0] },
            round_trips: [(pings, Duration::from_millis(pings * 10)), (0, Duration::ZERO)],
            closed: vec![("1000".to_owned(), "client", ended)],
        }
    }

    fn route(name: &str, requests: u64, sockets: SocketCounts) -> RouteCounts {
        RouteCounts {
            route: name.into(),
            responses: vec![("u".into(), requests)],
            sockets: vec![sockets],
            former: Traffic::default(),
        }
    }

    fn facts(address: &str, active: usize, draining: Option<Leaving>) -> EndpointFacts {
        let status = EndpointStatus {
            address: address.to_owned(),
            weight: 1,
            tier: 1,
            max_connections: NonZeroU32::new(9),
            health: Health::Healthy,
            ejected: false,
            origin: Some("list".into()),
            state: None,
            zone: None,
            draining,
            active,
            probe: Some(ProbeResult { ok: false, reason: Some("refused".to_owned()), at: 7 }),
            latency: Some(0.25),
            slow_start: Some(0.5),
            token: 1,
        };
        EndpointFacts { upstream: "u".into(), status, drain: None }
    }

    #[test]
    fn an_endpoint_has_the_counts_of_all_its_routes_and_rates_between_two_readings() {
        let before = reading(vec![route("a", 0, sockets(2, 0, 1)), route("b", 0, sockets(1, 0, 0))]);
        let now = reading(vec![route("a", 0, sockets(12, 4, 3)), route("b", 0, sockets(5, 1, 0))]);
        let [row] = &*endpoint_rows(vec![facts("1", 9, None)], &now, &before, 2.0) else { panic!() };
        assert_eq!((row.websockets, row.opens, row.closes), (12, 7.0, 2.5));
        assert_eq!((row.messages.to_backend, row.bytes.to_backend), (7.0, 700.0));
        assert_eq!((row.rtt.client, row.rtt.backend), (Some(0.01), None));
        assert_eq!((row.latency, row.slow_start, row.active), (Some(0.25), Some(0.5), 9));
        assert_eq!((row.tier, row.max_connections), (1, NonZeroU32::new(9)));
        assert_eq!(row.closed, [CloseCount { code: "1000".to_owned(), by: "client", count: 5 }]);
        let probe = row.probe.clone().unwrap();
        assert_eq!((probe.ok, probe.reason.as_deref(), probe.at), (false, Some("refused"), Some(7)));
    }

    #[test]
    fn a_removed_endpoint_in_use_is_part_of_the_present_one_at_its_address() {
        let none = reading(Vec::new());
        let all = vec![facts("1", 2, None), facts("1", 3, Some(Leaving::Removed)), facts("2", 1, None)];
        let rows = endpoint_rows(all, &none, &none, 1.0);
        let shown: Vec<_> = rows.iter().map(|row| (&*row.endpoint, row.active, row.draining)).collect();
        assert_eq!(shown, [("1", 5, None), ("2", 1, None)]);
    }

    #[test]
    fn a_flow_has_the_requests_and_websockets_of_a_route_at_an_upstream() {
        let before = reading(vec![route("a", 10, sockets(0, 0, 0))]);
        let now = reading(vec![route("a", 30, sockets(4, 1, 0)), route("idle", 0, sockets(0, 0, 0))]);
        let rows = flow_rows(&now, &before, 2.0);
        let shown: Vec<_> =
            rows.iter().map(|row| (&*row.route, row.requests, row.websockets, row.messages)).collect();
        assert_eq!(shown, [("a", 10.0, 3, 2.0)]);
    }
}
