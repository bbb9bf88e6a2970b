//! Numbers that already exist in the current generation, shown to a scrape where they are.

use super::Live;
use crate::telemetry::metrics::names::{UPSTREAM_CONNECTIONS_ACTIVE, UPSTREAM_HEALTHY};
use crate::telemetry::metrics::{Exposition, Source};
use crate::upstream::Health;

impl Source for Live {
    fn collect(&self, scrape: &mut Exposition) {
        for cluster in self.pin().clusters() {
            for endpoint in cluster.endpoints() {
                let labels = [&**cluster.name(), endpoint.name()];
                let healthy = f64::from(u8::from(endpoint.health() == Health::Healthy));
                scrape.gauge(&UPSTREAM_HEALTHY, &labels, healthy);
                // Far fewer than an f64 counts exactly.
                scrape.gauge(&UPSTREAM_CONNECTIONS_ACTIVE, &labels, endpoint.active() as f64);
            }
        }
    }
}
