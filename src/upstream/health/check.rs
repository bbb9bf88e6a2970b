//! A [`Probe`] as the engine's health check: it runs them, we keep the score.

use super::{Failure, Probe, Target};
use crate::upstream::endpoint::{Endpoint, Health};
use crate::upstream::reach::Reach;
use crate::upstream::roster::Roster;
use async_trait::async_trait;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::sync::Arc;

/// One upstream's health check.
pub(in crate::upstream) struct Check {
    probe: Box<dyn Probe>,
    reach: Arc<Reach>,
    roster: Arc<Roster>,
}

impl Check {
    pub(in crate::upstream) fn new(probe: Box<dyn Probe>, reach: Arc<Reach>, roster: Arc<Roster>) -> Self {
        Self { probe, reach, roster }
    }
}

#[async_trait]
impl HealthCheck for Check {
    /// Always Ok: the verdict is the endpoint's. The engine's own starts at "healthy", belongs to one
    /// generation and would be logged a second time, in free text.
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let members = self.roster.current();
        let Some(member) = members.find(&target.addr) else { return Ok(()) };
        let endpoint = member.endpoint();
        let rhythm = self.probe.rhythm();
        let target = Target::new(endpoint.address(), endpoint.host(), &self.reach);
        let outcome = match tokio::time::timeout(rhythm.timeout, self.probe.probe(&target)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::TimedOut(rhythm.timeout)),
        };
        if let Some(health) = endpoint.probed(outcome.is_ok(), self.probe.proof(), rhythm.thresholds) {
            report(endpoint, health, outcome.err().as_ref());
        }
        Ok(())
    }

    fn health_threshold(&self, _: bool) -> usize {
        1
    }
}

fn report(endpoint: &Endpoint, health: Health, failure: Option<&Failure>) {
    let (upstream, address) = (endpoint.upstream(), endpoint.address());
    match failure {
        Some(failure) if health == Health::Unhealthy => {
            log::warn!(upstream, endpoint:% = address, reason:% = failure; "endpoint became unhealthy");
        }
        _ => log::info!(upstream, endpoint:% = address; "endpoint became healthy"),
    }
}
