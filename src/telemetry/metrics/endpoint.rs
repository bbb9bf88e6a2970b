//! Metrics of an upstream and its endpoints. Health and active connections are read from their owners by a
//! `MetricSource`.

use super::exposition::Exposition;
use super::names;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The series of one endpoint of an upstream, as long as the endpoint holds the handle.
#[derive(Debug)]
pub struct EndpointMetrics {
    pub(super) upstream: Arc<str>,
    pub(super) endpoint: Arc<str>,
    // A list under a lock is smaller than a map of atomics: failures are rare and have a handful of reasons.
    failures: Mutex<Vec<(&'static str, u64)>>,
}

/// The series of one upstream, as long as the upstream holds the handle.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    name: Box<str>,
    all_unhealthy: AtomicU64,
    resolve_failures: AtomicU64,
}

impl EndpointMetrics {
    /// The existing or new series of the endpoint `endpoint` (an address) of `upstream`.
    pub fn of(upstream: &str, endpoint: &str) -> Arc<Self> {
        super::global().endpoint(upstream, endpoint)
    }

    pub(super) fn new(upstream: &str, endpoint: &str) -> Self {
        Self { upstream: upstream.into(), endpoint: endpoint.into(), failures: Mutex::default() }
    }

    /// Counts a failed attempt, by a short constant reason such as `connect_refused`.
    pub fn failed(&self, reason: &'static str) {
        let mut failures = self.failures.lock();
        match failures.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => failures.push((reason, 1)),
        }
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (reason, count) in &*self.failures.lock() {
            scrape.counter(
                &names::UPSTREAM_FAILURES,
                &[&self.upstream, &self.endpoint, reason],
                *count as f64,
            );
        }
    }
}

impl UpstreamMetrics {
    /// The existing or new series of `upstream`.
    pub(crate) fn of(upstream: &str) -> Arc<Self> {
        super::global().upstream(upstream)
    }

    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), all_unhealthy: AtomicU64::new(0), resolve_failures: AtomicU64::new(0) }
    }

    /// Counts a selection while every endpoint was unhealthy.
    pub(crate) fn all_unhealthy(&self) {
        self.all_unhealthy.fetch_add(1, Relaxed);
    }

    /// Counts a failed lookup of a host name.
    pub(crate) fn resolve_failed(&self) {
        self.resolve_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (family, count) in [
            (&names::UPSTREAM_ALL_UNHEALTHY, self.all_unhealthy.load(Relaxed)),
            (&names::UPSTREAM_RESOLVE_FAILURES, self.resolve_failures.load(Relaxed)),
        ] {
            scrape.counter(family, &[&self.name], count as f64);
        }
    }
}
