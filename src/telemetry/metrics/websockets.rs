//! WebSocket counters of one route, and of the route at each of its endpoints.
//!
//! Traffic is counted for each endpoint, so that tunnels of different endpoints share no cache line. A route's sum
//! includes the traffic of endpoints that no longer exist.

use super::endpoint::EndpointMetrics;
use super::exposition::Exposition;
use super::histogram::Histogram;
use super::names;
use super::websocket_labels::{Direction, InitiatorLabel, Opcode, Reconnected, Side};
use super::websocket_traffic::{RoundTripSum, Traffic, TrafficCounts};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Private close codes with their own label. Peers may use 2,000 (RFC 6455 §7.4.2).
const PRIVATE_CODES: usize = 32;

/// The close code label of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Code {
    None,
    Known(u16),
    Other,
}

/// Counters and histograms of a route that has had a WebSocket.
#[derive(Debug)]
pub(super) struct Sockets {
    lifetime: Histogram,
    lifetime_messages: Histogram,
    round_trips: [Histogram; Side::ALL.len()],
    // Locked once at the start and end of each WebSocket; a handful of entries.
    closed: Mutex<Closed>,
    // Locked once for each lost endpoint; one or two upstreams.
    reconnected: Mutex<HashMap<(Arc<str>, Reconnected), u64>>,
    pairs: Mutex<Pairs>,
}

/// The endpoints of a route.
#[derive(Debug, Default)]
struct Pairs {
    present: HashMap<usize, Arc<Pair>>,
    /// The traffic of endpoints that no longer exist.
    former: Traffic,
}

/// Ends by code, initiator and reason.
#[derive(Debug, Default)]
struct Closed {
    counts: HashMap<(Code, InitiatorLabel, &'static str), u64>,
    private: Vec<u16>,
}

/// The WebSockets of one route at one endpoint.
#[derive(Debug)]
pub(super) struct Pair {
    endpoint: Weak<EndpointMetrics>,
    pub(super) upstream_label: Arc<str>,
    endpoint_label: Arc<str>,
    pub(super) opened: AtomicU64,
    /// Those of them that another process has opened, and counted.
    pub(super) adopted: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) traffic: TrafficCounts,
    round_trips: [RoundTripSum; Side::ALL.len()],
    closed: Mutex<HashMap<(Code, InitiatorLabel), u64>>,
}

/// The counts of a route's WebSockets at one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct SocketCounts {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The endpoint's address.
    pub endpoint: Arc<str>,
    /// WebSockets opened by this process.
    pub opened: u64,
    /// WebSockets that another process has opened.
    pub adopted: u64,
    /// WebSockets ended.
    pub ended: u64,
    /// Messages and bytes.
    pub traffic: Traffic,
    /// The number of ping round trips and their sum, by [`Side`].
    pub round_trips: [(u64, Duration); Side::ALL.len()],
    /// Ends by close code and initiator.
    pub closed: Vec<(String, &'static str, u64)>,
}

impl SocketCounts {
    /// The WebSockets that are open.
    pub(crate) fn open(&self) -> u64 {
        (self.opened + self.adopted).saturating_sub(self.ended)
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            lifetime: Histogram::new(&names::WEBSOCKET_LIFETIME),
            lifetime_messages: Histogram::new(&names::WEBSOCKET_LIFETIME_MESSAGES),
            round_trips: std::array::from_fn(|_| Histogram::new(&names::WEBSOCKET_PING_RTT)),
            closed: Mutex::default(),
            reconnected: Mutex::default(),
            pairs: Mutex::default(),
        }
    }
}

impl Sockets {
    pub(super) fn round_trip(&self, side: Side, seconds: f64) {
        self.round_trips[side as usize].observe(seconds);
    }

    /// The round trips of one side.
    pub(super) fn round_trips(&self, side: Side) -> &Histogram {
        &self.round_trips[side as usize]
    }

    pub(super) fn lifetime(&self, seconds: f64, messages: u64) {
        self.lifetime.observe(seconds);
        self.lifetime_messages.observe(messages as f64);
    }

    /// Counts an end, and returns the label of its code.
    pub(super) fn closed(&self, code: Option<u16>, by: InitiatorLabel, reason: &'static str) -> Code {
        let mut closed = self.closed.lock();
        let code = code.map_or(Code::None, |code| closed.code(code));
        *closed.counts.entry((code, by, reason)).or_default() += 1;
        code
    }

    pub(super) fn reconnected(&self, upstream: &Arc<str>, result: Reconnected) {
        *self.reconnected.lock().entry((Arc::clone(upstream), result)).or_default() += 1;
    }

    /// The counters of this route at one endpoint; `key` identifies the endpoint.
    pub(super) fn pair(&self, key: usize, make: impl FnOnce() -> Pair) -> Arc<Pair> {
        let mut pairs = self.pairs.lock();
        if let Some(pair) = pairs.present.get(&key) {
            return Arc::clone(pair);
        }
        // A new endpoint is a good time to drop those of removed ones.
        pairs.sweep();
        Arc::clone(pairs.present.entry(key).or_insert_with(|| Arc::new(make())))
    }

    /// The counts at every endpoint, and the traffic of endpoints that no longer exist.
    pub(super) fn counts(&self) -> (Vec<SocketCounts>, Traffic) {
        let pairs = self.pairs.lock();
        (pairs.present.values().map(|pair| pair.counts()).collect(), pairs.former)
    }

    pub(super) fn collect(&self, route: &str, scrape: &mut Exposition) {
        let mut pairs = self.pairs.lock();
        pairs.sweep();
        let traffic = pairs.traffic();
        for direction in Direction::ALL {
            for opcode in Opcode::ALL {
                let count = traffic.messages[direction as usize][opcode as usize];
                if count > 0 {
                    let labels = [route, direction.label(), opcode.label()];
                    scrape.counter(&names::WEBSOCKET_MESSAGES, &labels, count as f64);
                }
            }
            let bytes = traffic.bytes[direction as usize];
            scrape.counter(&names::WEBSOCKET_BYTES, &[route, direction.label()], bytes as f64);
        }
        for pair in pairs.present.values() {
            pair.collect(route, scrape);
        }
        drop(pairs);
        scrape.histogram(&names::WEBSOCKET_LIFETIME, &[route], &self.lifetime);
        scrape.histogram(&names::WEBSOCKET_LIFETIME_MESSAGES, &[route], &self.lifetime_messages);
        for side in Side::ALL {
            let labels = [route, side.label()];
            scrape.histogram(&names::WEBSOCKET_PING_RTT, &labels, &self.round_trips[side as usize]);
        }
        for ((code, by, reason), count) in &self.closed.lock().counts {
            let labels = [route, &*code.label(), by.label(), reason];
            scrape.counter(&names::WEBSOCKET_CLOSED, &labels, *count as f64);
        }
        for ((upstream, result), count) in &*self.reconnected.lock() {
            let labels = [route, &**upstream, result.label()];
            scrape.counter(&names::WEBSOCKET_RECONNECTED, &labels, *count as f64);
        }
    }
}

impl Pairs {
    /// Removes the endpoints that no longer exist, and keeps their traffic.
    fn sweep(&mut self) {
        let Self { present, former } = self;
        present.retain(|_, pair| {
            let lives = pair.lives();
            if !lives {
                *former += pair.traffic.read();
            }
            lives
        });
    }

    fn traffic(&self) -> Traffic {
        self.present.values().fold(self.former, |sum, pair| sum + pair.traffic.read())
    }
}

impl Pair {
    pub(super) fn new(endpoint: &Arc<EndpointMetrics>) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            upstream_label: Arc::clone(&endpoint.upstream),
            endpoint_label: Arc::clone(&endpoint.endpoint),
            opened: AtomicU64::new(0),
            adopted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            traffic: TrafficCounts::default(),
            round_trips: Default::default(),
            closed: Mutex::default(),
        }
    }

    pub(super) fn round_trip(&self, side: Side, after: Duration) {
        self.round_trips[side as usize].add(after);
    }

    pub(super) fn closed(&self, code: Code, by: InitiatorLabel) {
        *self.closed.lock().entry((code, by)).or_default() += 1;
    }

    fn counts(&self) -> SocketCounts {
        // Ended first, as in `collect`.
        let ended = self.ended.load(Relaxed);
        let closed = self.closed.lock();
        let closed = closed.iter().map(|((code, by), count)| (code.label(), by.label(), *count));
        SocketCounts {
            upstream: Arc::clone(&self.upstream_label),
            endpoint: Arc::clone(&self.endpoint_label),
            opened: self.opened.load(Relaxed),
            adopted: self.adopted.load(Relaxed),
            ended,
            traffic: self.traffic.read(),
            round_trips: Side::ALL.map(|side| self.round_trips[side as usize].read()),
            closed: closed.collect(),
        }
    }

    /// Whether its endpoint is still one of the upstream, or has a WebSocket.
    fn lives(&self) -> bool {
        self.endpoint.strong_count() > 0
    }

    fn collect(&self, route: &str, scrape: &mut Exposition) {
        let labels = [route, &*self.upstream_label, &*self.endpoint_label];
        // Ended first: one that opens in between is then not missing from the gauge.
        let ended = self.ended.load(Relaxed);
        let (opened, adopted) = (self.opened.load(Relaxed), self.adopted.load(Relaxed));
        scrape.counter(&names::WEBSOCKET_OPENED, &labels, opened as f64);
        let active = (opened + adopted).saturating_sub(ended);
        scrape.gauge(&names::WEBSOCKET_ACTIVE, &labels, active as f64);
    }
}

impl Closed {
    fn code(&mut self, code: u16) -> Code {
        if (1000..=1015).contains(&code) || self.private.contains(&code) {
            return Code::Known(code);
        }
        if self.private.len() == PRIVATE_CODES {
            return Code::Other;
        }
        self.private.push(code);
        Code::Known(code)
    }
}

impl Code {
    fn label(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Known(code) => code.to_string(),
            Self::Other => "other".to_owned(),
        }
    }
}
