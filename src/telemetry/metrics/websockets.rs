//! WebSocket counters of one route. A tunnel counts in plain integers and adds them here from time to time.

use super::endpoint::EndpointMetrics;
use super::exposition::Exposition;
use super::histogram::Histogram;
use super::names;
use super::websocket_labels::{Direction, InitiatorLabel, Opcode, Reconnected, Side};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

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
    messages: [[AtomicU64; Opcode::ALL.len()]; Direction::ALL.len()],
    bytes: [AtomicU64; Direction::ALL.len()],
    lifetime: Histogram,
    lifetime_messages: Histogram,
    round_trips: [Histogram; Side::ALL.len()],
    // Locked once at the start and end of each WebSocket; a handful of entries.
    closed: Mutex<Closed>,
    // Locked once for each lost endpoint; one or two upstreams.
    reconnected: Mutex<HashMap<(Arc<str>, Reconnected), u64>>,
    pairs: Mutex<HashMap<usize, Arc<Pair>>>,
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
    pub(super) ended: AtomicU64,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            messages: Default::default(),
            bytes: Default::default(),
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
    pub(super) fn add_messages(&self, direction: Direction, opcode: Opcode, count: u64) {
        self.messages[direction as usize][opcode as usize].fetch_add(count, Relaxed);
    }

    pub(super) fn add_bytes(&self, direction: Direction, count: u64) {
        self.bytes[direction as usize].fetch_add(count, Relaxed);
    }

    pub(super) fn round_trip(&self, side: Side, seconds: f64) {
        self.round_trips[side as usize].observe(seconds);
    }

    pub(super) fn lifetime(&self, seconds: f64, messages: u64) {
        self.lifetime.observe(seconds);
        self.lifetime_messages.observe(messages as f64);
    }

    pub(super) fn closed(&self, code: Option<u16>, by: InitiatorLabel, reason: &'static str) {
        let mut closed = self.closed.lock();
        let code = code.map_or(Code::None, |code| closed.code(code));
        *closed.counts.entry((code, by, reason)).or_default() += 1;
    }

    pub(super) fn reconnected(&self, upstream: &Arc<str>, result: Reconnected) {
        *self.reconnected.lock().entry((Arc::clone(upstream), result)).or_default() += 1;
    }

    /// The counters of this route at one endpoint; `key` identifies the endpoint.
    pub(super) fn pair(&self, key: usize, make: impl FnOnce() -> Pair) -> Arc<Pair> {
        let mut pairs = self.pairs.lock();
        if let Some(pair) = pairs.get(&key) {
            return Arc::clone(pair);
        }
        // A new endpoint is a good time to drop those of removed ones.
        pairs.retain(|_, pair| pair.lives());
        Arc::clone(pairs.entry(key).or_insert_with(|| Arc::new(make())))
    }

    pub(super) fn collect(&self, route: &str, scrape: &mut Exposition) {
        for direction in Direction::ALL {
            for opcode in Opcode::ALL {
                let count = self.messages[direction as usize][opcode as usize].load(Relaxed);
                if count > 0 {
                    let labels = [route, direction.label(), opcode.label()];
                    scrape.counter(&names::WEBSOCKET_MESSAGES, &labels, count as f64);
                }
            }
            let bytes = self.bytes[direction as usize].load(Relaxed);
            scrape.counter(&names::WEBSOCKET_BYTES, &[route, direction.label()], bytes as f64);
        }
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
        let mut pairs = self.pairs.lock();
        pairs.retain(|_, pair| pair.lives());
        for pair in pairs.values() {
            pair.collect(route, scrape);
        }
    }
}

impl Pair {
    pub(super) fn new(endpoint: &Arc<EndpointMetrics>) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            upstream_label: Arc::clone(&endpoint.upstream),
            endpoint_label: Arc::clone(&endpoint.endpoint),
            opened: AtomicU64::new(0),
            ended: AtomicU64::new(0),
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
        let opened = self.opened.load(Relaxed);
        scrape.counter(&names::WEBSOCKET_OPENED, &labels, opened as f64);
        scrape.gauge(&names::WEBSOCKET_ACTIVE, &labels, opened.saturating_sub(ended) as f64);
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
