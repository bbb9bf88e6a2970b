//! Requests that failed or were refused by the gateway, by reason.

use super::exposition::Exposition;
use super::names;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts by reason; a reason appears with its first request.
#[derive(Debug, Default)]
pub(super) struct FailedRequests(RwLock<BTreeMap<&'static str, AtomicU64>>);

impl FailedRequests {
    pub(super) fn add(&self, reason: &'static str) {
        if let Some(count) = self.0.read().get(reason) {
            count.fetch_add(1, Relaxed);
            return;
        }
        self.0.write().entry(reason).or_default().fetch_add(1, Relaxed);
    }

    /// The counts by reason.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.read().iter().map(|(reason, count)| (*reason, count.load(Relaxed))).collect()
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (reason, count) in self.0.read().iter() {
            scrape.counter(&names::HTTP_REQUESTS_FAILED, &[reason], count.load(Relaxed) as f64);
        }
    }
}
