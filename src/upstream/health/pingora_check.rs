//! Adapter from [`Probe`] to pingora-load-balancing's `HealthCheck`; the endpoint keeps the results.

use super::{Failure, Probe, Target};
use crate::upstream::connector::Connector;
use crate::upstream::dial::DialError;
use crate::upstream::endpoint::{Endpoint, ProbeResult};
use crate::upstream::endpoint_set::EndpointSet;
use crate::upstream::health_score::Health;
use async_trait::async_trait;
use log::Level;
use moongate_sdk::log_throttle;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::sync::Arc;

/// The health check of one upstream.
pub(in crate::upstream) struct Check {
    probe: Box<dyn Probe>,
    connector: Arc<Connector>,
    endpoint_set: Arc<EndpointSet>,
}

impl Check {
    pub(in crate::upstream) fn new(
        probe: Box<dyn Probe>,
        connector: Arc<Connector>,
        endpoint_set: Arc<EndpointSet>,
    ) -> Self {
        Self { probe, connector, endpoint_set }
    }
}

#[async_trait]
impl HealthCheck for Check {
    /// Always Ok: the endpoint holds the verdict. pingora-load-balancing's own verdict starts as "healthy",
    /// belongs to one generation and would be logged a second time.
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let members = self.endpoint_set.current();
        let Some(member) = members.find(&target.addr) else { return Ok(()) };
        let endpoint = member.endpoint();
        let schedule = self.probe.schedule();
        let target = Target::new(endpoint.address(), endpoint.host(), &self.connector);
        let outcome = match tokio::time::timeout(schedule.timeout, self.probe.probe(&target)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::TimedOut(schedule.timeout)),
        };
        if let Err(Failure::Dial(DialError::Exhausted(error))) = &outcome {
            // The gateway lacks descriptors, ports or memory, which says nothing about the endpoint.
            const MESSAGE: &str = "health check skipped: no resources for a connection";
            if log_throttle::admit(Level::Error, MESSAGE, &[endpoint.upstream()]) {
                log::error!(upstream = endpoint.upstream(), error:%; "{MESSAGE}");
            }
            self.endpoint_set.announce_probe();
            return Ok(());
        }
        endpoint.record_probe(ProbeResult::now(outcome.as_ref().err().map(ToString::to_string)));
        if let Some(health) = endpoint.probed(outcome.is_ok(), self.probe.proof(), schedule.thresholds) {
            report(endpoint, health, outcome.err().as_ref());
        }
        self.endpoint_set.announce_probe();
        Ok(())
    }

    fn health_threshold(&self, _: bool) -> usize {
        1
    }
}

/// The health check as a part of pingora-load-balancing's backends.
pub(in crate::upstream) struct SharedCheck(pub(in crate::upstream) Arc<Check>);

#[async_trait]
impl HealthCheck for SharedCheck {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        self.0.check(target).await
    }

    fn health_threshold(&self, success: bool) -> usize {
        self.0.health_threshold(success)
    }
}

fn report(endpoint: &Endpoint, health: Health, failure: Option<&Failure>) {
    let (upstream, address) = (endpoint.upstream(), endpoint.address());
    let object = [upstream, endpoint.name()];
    match failure {
        // A flapping endpoint must not fill the log.
        Some(failure) if health == Health::Unhealthy => {
            if log_throttle::admit(Level::Warn, "endpoint became unhealthy", &object) {
                log::warn!(upstream, endpoint:% = address, reason:% = failure; "endpoint became unhealthy");
            }
        }
        _ if !log_throttle::admit(Level::Info, "endpoint became healthy", &object) => {}
        _ => log::info!(upstream, endpoint:% = address; "endpoint became healthy"),
    }
}
