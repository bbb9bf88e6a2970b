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
    discovery: Mutex<Option<DiscoveryCounts>>,
}

/// The counts of an upstream with discovery.
#[derive(Debug)]
struct DiscoveryCounts {
    source: Arc<str>,
    changes: u64,
    errors: Vec<(&'static str, u64)>,
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
        Self {
            name: name.into(),
            all_unhealthy: AtomicU64::new(0),
            resolve_failures: AtomicU64::new(0),
            discovery: Mutex::default(),
        }
    }

    /// Counts a selection while every endpoint was unhealthy.
    pub(crate) fn all_unhealthy(&self) {
        self.all_unhealthy.fetch_add(1, Relaxed);
    }

    /// Counts a failed lookup of a host name.
    pub(crate) fn resolve_failed(&self) {
        self.resolve_failures.fetch_add(1, Relaxed);
    }

    /// Counts a change of the members that were discovered from this source.
    pub(crate) fn members_changed(&self, source: &Arc<str>) {
        self.discovered(source, |counts| counts.changes += 1);
    }

    /// Counts a failed read of this source, by a short constant reason such as `timeout`.
    pub(crate) fn discovery_failed(&self, source: &Arc<str>, reason: &'static str) {
        self.discovered(source, |counts| {
            match counts.errors.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => counts.errors.push((reason, 1)),
            }
        });
    }

    fn discovered(&self, source: &Arc<str>, count: impl FnOnce(&mut DiscoveryCounts)) {
        let mut counts = self.discovery.lock();
        if counts.as_ref().is_none_or(|counts| counts.source != *source) {
            let changes = counts.as_ref().map_or(0, |counts| counts.changes);
            *counts = Some(DiscoveryCounts { source: Arc::clone(source), changes, errors: Vec::new() });
        }
        counts.as_mut().map(count);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        if let Some(counts) = &*self.discovery.lock() {
            scrape.counter(&names::DISCOVERY_CHANGES, &[&self.name], counts.changes as f64);
            let source = format!("{}: {}", self.name, counts.source);
            for (reason, count) in &counts.errors {
                scrape.counter(&names::SOURCE_ERRORS, &[&source, reason], *count as f64);
            }
        }
        for (family, count) in [
            (&names::UPSTREAM_ALL_UNHEALTHY, self.all_unhealthy.load(Relaxed)),
            (&names::UPSTREAM_RESOLVE_FAILURES, self.resolve_failures.load(Relaxed)),
        ] {
            scrape.counter(family, &[&self.name], count as f64);
        }
    }
}
