//! Gauges read from the current generation at scrape time.

use super::Live;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::names::{
    ACME_EXPIRY, ACME_FAILURES, ACME_ISSUED, ACME_LAST_SUCCESS, DISCOVERY_ENDPOINTS, SOURCE_ERRORS,
    SOURCE_LAST_SUCCESS, SOURCE_OBJECTS, TLS_CERTIFICATE_EXPIRY, UPSTREAM_CONNECTIONS_ACTIVE,
    UPSTREAM_HEALTHY,
};
use crate::telemetry::metrics::{Exposition, MetricSource};
use crate::upstream::Health;

impl MetricSource for Live {
    fn collect(&self, scrape: &mut Exposition) {
        let snapshot = self.pin();
        for (listener, tls) in snapshot.secure() {
            for about in tls.certificates() {
                let labels = [listener, &*about.certificate];
                scrape.gauge(&TLS_CERTIFICATE_EXPIRY, &labels, about.not_after as f64);
            }
        }
        for cluster in snapshot.clusters() {
            for endpoint in cluster.endpoints() {
                let labels = [&**cluster.name(), endpoint.name()];
                let healthy = f64::from(u8::from(endpoint.health() == Health::Healthy));
                scrape.gauge(&UPSTREAM_HEALTHY, &labels, healthy);
                // Far below the largest integer that f64 represents exactly.
                scrape.gauge(&UPSTREAM_CONNECTIONS_ACTIVE, &labels, endpoint.active() as f64);
            }
        }
        discoveries(&snapshot, scrape);
        sources(&snapshot, scrape);
        removed(&snapshot, scrape);
        certificates(self, scrape);
        #[cfg(feature = "wasm")]
        filters(scrape);
    }
}

/// The discoveries of upstreams.
fn discoveries(snapshot: &Snapshot, scrape: &mut Exposition) {
    for cluster in snapshot.clusters() {
        let Some(feed) = cluster.discovery_status() else { continue };
        let states = [
            ("ready", feed.ready),
            ("leaving", feed.leaving),
            ("absent", feed.absent),
            ("rejected", feed.rejected),
        ];
        for (state, count) in states {
            scrape.gauge(&DISCOVERY_ENDPOINTS, &[&**cluster.name(), state], count as f64);
        }
        if let Some(at) = feed.last_success {
            let source = format!("{}: {}", cluster.name(), feed.source);
            scrape.gauge(&SOURCE_LAST_SUCCESS, &[&source], (at / 1000) as f64);
        }
    }
}

/// The sources of documents.
fn sources(snapshot: &Snapshot, scrape: &mut Exposition) {
    for source in snapshot.sources.all() {
        let (origin, status) = (&**source.origin(), source.feed().status());
        for (state, count) in [("used", status.documents), ("rejected", status.rejected)] {
            scrape.gauge(&SOURCE_OBJECTS, &[origin, "document", state], count as f64);
        }
        if let Some(at) = status.last_success {
            scrape.gauge(&SOURCE_LAST_SUCCESS, &[origin], (at / 1000) as f64);
        }
        for (reason, count) in source.feed().errors() {
            scrape.counter(&SOURCE_ERRORS, &[origin, reason], count as f64);
        }
    }
}

/// Removed endpoints with open connections. They have no health, since they are not probed.
fn removed(snapshot: &Snapshot, scrape: &mut Exposition) {
    let present = snapshot.clusters().map(|cluster| (cluster.name(), cluster.status()));
    let gone = snapshot.removed().iter().map(|upstream| (upstream.name(), upstream.status()));
    for (name, status) in present.chain(gone) {
        let endpoints = status.endpoints.iter().filter(|endpoint| endpoint.state.is_none());
        for endpoint in endpoints {
            let labels = [&**name, &*endpoint.address];
            scrape.gauge(&UPSTREAM_CONNECTIONS_ACTIVE, &labels, endpoint.active as f64);
        }
    }
}

/// The automatic certificates.
fn certificates(live: &Live, scrape: &mut Exposition) {
    for job in live.pin().certificates.all() {
        let (id, directory) = (job.settings().id(), &*job.settings().directory);
        let labels = [&*id, directory];
        let (issued, expires) = job.times();
        // Seconds since 1970 are far below the largest integer that f64 represents exactly.
        if let Some(issued) = issued {
            scrape.gauge(&ACME_LAST_SUCCESS, &labels, issued as f64);
        }
        if let Some(expires) = expires {
            scrape.gauge(&ACME_EXPIRY, &labels, expires as f64);
        }
        scrape.counter(&ACME_ISSUED, &labels, job.issued() as f64);
        for (reason, count) in job.failures().filter(|(_, count)| *count > 0) {
            scrape.counter(&ACME_FAILURES, &[&*id, directory, reason], count as f64);
        }
    }
}

/// Metrics defined by WebAssembly filters.
#[cfg(feature = "wasm")]
fn filters(scrape: &mut Exposition) {
    use crate::telemetry::metrics::ObservedValue;
    use crate::telemetry::metrics::names::{WASM_COUNTER, WASM_GAUGE, WASM_HISTOGRAM};
    use moongate_wasm::Count;

    for series in moongate_wasm::metrics() {
        let labels = [&*series.plugin, &*series.name];
        match series.count {
            Count::Counter(value) => scrape.counter(&WASM_COUNTER, &labels, value as f64),
            Count::Gauge(value) => scrape.gauge(&WASM_GAUGE, &labels, value as f64),
            Count::Histogram { buckets, count, sum } => {
                let buckets = buckets.into_iter().map(|(bound, count)| (bound as f64, count)).collect();
                let observed = ObservedValue { buckets, count, sum: sum as f64, ..ObservedValue::default() };
                scrape.observed(&WASM_HISTOGRAM, &labels, &observed);
            }
        }
    }
}
