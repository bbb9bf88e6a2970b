//! Lease of an endpoint for one exchange. Counts are undone on drop.

use super::balance::Member;
use super::endpoint::Endpoint;
use super::passive_health::{Policy, Reason};
use moongate_sdk::log_throttle;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why no endpoint could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoEndpoint {
    /// Every endpoint has no address, has weight 0 or is draining.
    #[error("the upstream has no endpoint")]
    Empty,
    /// All are unhealthy, and `when_all_unhealthy: fail` is set.
    #[error("every endpoint is unhealthy")]
    Unhealthy,
    /// Every endpoint that may be selected has as many requests and WebSockets as its `max_connections` allows.
    #[error("every endpoint is full")]
    Full,
    /// Every eligible endpoint was tried for this request.
    #[error("every endpoint was tried")]
    Tried,
}

/// An active request or WebSocket at an endpoint, counted until drop.
///
/// A lease holds the endpoint but not the generation that selected it.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    policy: Policy,
}

impl Lease {
    /// A lease of a member; `None` if the endpoint is full.
    pub(super) fn of(member: &Member, policy: Policy) -> Option<Self> {
        // Counted before connecting: a slow handshake is load too.
        match member.limit() {
            Some(limit) if !member.endpoint().try_enter(limit) => return None,
            Some(_) => {}
            None => member.endpoint().enter(),
        }
        Some(Self { endpoint: Arc::clone(member.endpoint()), policy })
    }

    /// A lease that no limit refuses.
    pub(super) fn new(endpoint: Arc<Endpoint>, policy: Policy) -> Self {
        endpoint.enter();
        Self { endpoint, policy }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Records a successful connect.
    pub fn connected(&self) {
        self.endpoint.passive().connected();
    }

    /// Records a response header (or a valid 101) and the time since the request was sent on an open
    /// connection.
    pub fn record_latency(&self, latency: Duration) {
        self.endpoint.record_latency(latency);
    }

    /// Counts a failed attempt by its reason token, and records the failure if the endpoint is at fault.
    pub fn end_failed(&self, token: &'static str, fault: Option<Reason>) {
        self.endpoint.metrics().failed(token);
        if let Some(reason) = fault {
            self.failed(reason);
        }
    }

    /// Records a failure; enough consecutive ones eject the endpoint.
    pub fn failed(&self, reason: Reason) {
        if !self.endpoint.record_failure(reason, self.policy) {
            return;
        }
        let upstream = self.endpoint.upstream();
        if log_throttle::admit(log::Level::Warn, "endpoint ejected", &[upstream, self.endpoint.name()]) {
            log::warn!(
                upstream, endpoint:% = self.endpoint.address(), reason = reason.as_str();
                "endpoint ejected"
            );
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::TriedEndpoints;

    #[test]
    fn a_lease_may_live_in_any_task() {
        fn living<T: Send + Sync + 'static>() {}
        living::<Lease>();
        living::<TriedEndpoints>();
    }
}
