//! Counters of a route's upgraded connections other than WebSockets, by protocol and endpoint.
//!
//! Traffic is counted for each endpoint, as that of WebSockets. A route's sum includes the traffic of endpoints that no
//! longer exist.

use super::endpoint::EndpointMetrics;
use super::exposition::Exposition;
use super::histogram::Histogram;
use super::names;
use super::websocket_labels::{Direction, InitiatorLabel};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// Ends by protocol, initiator and reason.
type Ends = HashMap<(Arc<str>, InitiatorLabel, &'static str), u64>;

/// Bytes by [`Direction`].
type Bytes = [u64; Direction::ALL.len()];

/// Counters and a histogram of a route that has had an upgraded connection.
#[derive(Debug)]
pub(super) struct Upgrades {
    lifetime: Histogram,
    // Locked once at the start and end of each connection.
    closed: Mutex<Ends>,
    places: Mutex<UpgradePlaces>,
}

/// The endpoints of a route.
#[derive(Debug, Default)]
struct UpgradePlaces {
    /// By the endpoint's address in memory and the protocol.
    present: HashMap<(usize, Arc<str>), Arc<UpgradePlace>>,
    /// The traffic of endpoints that no longer exist, by protocol.
    former: HashMap<Arc<str>, Bytes>,
}

/// The connections of one protocol at one endpoint of one route.
#[derive(Debug)]
pub(super) struct UpgradePlace {
    pub(super) protocol: Arc<str>,
    endpoint: Weak<EndpointMetrics>,
    upstream_label: Arc<str>,
    endpoint_label: Arc<str>,
    pub(super) opened: AtomicU64,
    /// Those of them that another process has opened, and counted.
    pub(super) adopted: AtomicU64,
    pub(super) ended: AtomicU64,
    /// By [`Direction`].
    pub(super) bytes: [AtomicU64; Direction::ALL.len()],
}

impl Default for Upgrades {
    fn default() -> Self {
        Self {
            lifetime: Histogram::new(&names::UPGRADED_LIFETIME),
            closed: Mutex::default(),
            places: Mutex::default(),
        }
    }
}

impl Upgrades {
    pub(super) fn lifetime(&self, seconds: f64) {
        self.lifetime.observe(seconds);
    }

    /// Counts an end.
    pub(super) fn closed(&self, protocol: &Arc<str>, by: InitiatorLabel, reason: &'static str) {
        *self.closed.lock().entry((Arc::clone(protocol), by, reason)).or_default() += 1;
    }

    /// The counters of this protocol at one endpoint.
    pub(super) fn place(&self, endpoint: &Arc<EndpointMetrics>, protocol: &Arc<str>) -> Arc<UpgradePlace> {
        // The place holds a weak reference to its endpoint, so the address is not reused during the place's lifetime.
        let key = (Arc::as_ptr(endpoint).addr(), Arc::clone(protocol));
        let mut places = self.places.lock();
        if let Some(place) = places.present.get(&key) {
            return Arc::clone(place);
        }
        // A new endpoint is a good time to drop those of removed ones.
        places.sweep();
        let place = Arc::new(UpgradePlace {
            protocol: Arc::clone(protocol),
            endpoint: Arc::downgrade(endpoint),
            upstream_label: Arc::clone(&endpoint.upstream),
            endpoint_label: Arc::clone(&endpoint.endpoint),
            opened: AtomicU64::new(0),
            adopted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            bytes: Default::default(),
        });
        places.present.insert(key, Arc::clone(&place));
        place
    }

    pub(super) fn collect(&self, route: &str, scrape: &mut Exposition) {
        let mut places = self.places.lock();
        places.sweep();
        for (protocol, bytes) in places.bytes() {
            for direction in Direction::ALL {
                let labels = [route, &*protocol, direction.label()];
                scrape.counter(&names::UPGRADED_BYTES, &labels, bytes[direction as usize] as f64);
            }
        }
        for place in places.present.values() {
            place.collect(route, scrape);
        }
        drop(places);
        scrape.histogram(&names::UPGRADED_LIFETIME, &[route], &self.lifetime);
        for ((protocol, by, reason), count) in &*self.closed.lock() {
            let labels = [route, &**protocol, by.label(), reason];
            scrape.counter(&names::UPGRADED_CLOSED, &labels, *count as f64);
        }
    }
}

impl UpgradePlaces {
    /// Removes the endpoints that no longer exist, and keeps their traffic.
    fn sweep(&mut self) {
        let Self { present, former } = self;
        present.retain(|_, place| {
            let lives = place.endpoint.strong_count() > 0;
            if !lives {
                add(former.entry(Arc::clone(&place.protocol)).or_default(), place.read());
            }
            lives
        });
    }

    /// The traffic by protocol.
    fn bytes(&self) -> HashMap<Arc<str>, Bytes> {
        let mut sums = self.former.clone();
        for place in self.present.values() {
            add(sums.entry(Arc::clone(&place.protocol)).or_default(), place.read());
        }
        sums
    }
}

fn add(sum: &mut Bytes, more: Bytes) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

impl UpgradePlace {
    fn read(&self) -> Bytes {
        Direction::ALL.map(|direction| self.bytes[direction as usize].load(Relaxed))
    }

    fn collect(&self, route: &str, scrape: &mut Exposition) {
        let labels = [route, &*self.protocol, &*self.upstream_label, &*self.endpoint_label];
        // Ended first: one that opens in between is then not missing from the gauge.
        let ended = self.ended.load(Relaxed);
        let (opened, adopted) = (self.opened.load(Relaxed), self.adopted.load(Relaxed));
        scrape.counter(&names::UPGRADED_OPENED, &labels, opened as f64);
        let active = (opened + adopted).saturating_sub(ended);
        scrape.gauge(&names::UPGRADED_ACTIVE, &labels, active as f64);
    }
}
