//! What an upstream and its endpoints count. Health and living connections are not counted here: their owners show them through a `Source`.

use super::exposition::Exposition;
use super::names;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The series of one endpoint of an upstream. The endpoint keeps the handle; they live as long as it does.
#[derive(Debug)]
pub struct EndpointMetrics {
    pub(super) upstream: Arc<str>,
    pub(super) endpoint: Arc<str>,
    // Failures are rare and their reasons a handful: a list under a lock is smaller than a map of atomics.
    failures: Mutex<Vec<(&'static str, u64)>>,
}

/// The series of one upstream. The upstream keeps the handle.
#[derive(Debug)]
pub struct UpstreamMetrics {
    name: Box<str>,
    panics: AtomicU64,
    resolve_failures: AtomicU64,
}

impl EndpointMetrics {
    /// The series of `endpoint` (its address) in `upstream`: those already in use, or new ones.
    pub fn of(upstream: &str, endpoint: &str) -> Arc<Self> {
        super::global().endpoint(upstream, endpoint)
    }

    pub(super) fn new(upstream: &str, endpoint: &str) -> Self {
        Self { upstream: upstream.into(), endpoint: endpoint.into(), failures: Mutex::default() }
    }

    /// Counts an attempt that failed here, by a short constant reason such as `connect_refused`.
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
    /// The series of `upstream`: those already in use under that name, or new ones.
    pub fn of(upstream: &str) -> Arc<Self> {
        super::global().upstream(upstream)
    }

    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), panics: AtomicU64::new(0), resolve_failures: AtomicU64::new(0) }
    }

    /// Counts a choice while every endpoint was unhealthy.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// Counts a host name that could not be resolved.
    pub fn resolve_failed(&self) {
        self.resolve_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (family, count) in [
            (&names::UPSTREAM_ALL_UNHEALTHY, self.panics.load(Relaxed)),
            (&names::UPSTREAM_RESOLVE_FAILURES, self.resolve_failures.load(Relaxed)),
        ] {
            scrape.counter(family, &[&self.name], count as f64);
        }
    }
}
