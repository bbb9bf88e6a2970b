//! Health checks: a table of kinds, one file each.
//!
//! A probe connects, sends a request and judges the response; it has no state. `health_score` applies
//! thresholds, `probe_settings` has the schedule, and pingora-load-balancing runs the probes through
//! `pingora_check`.

mod grpc;
mod h2;
mod http;
mod pingora_check;
mod probe_settings;
mod probe_target;
mod tcp;
#[cfg(test)]
mod tests;
mod websocket;

pub(super) use pingora_check::{Check, SharedCheck};
pub use probe_settings::ProbeSchedule;
pub use probe_target::{Failure, Target};

pub use super::health_score::Thresholds;
pub use super::passive_health::Proof;
use async_trait::async_trait;
use moongate_config::Kind;

/// The kinds of `health_check:`, in the order of `moongate kinds`.
pub static PROBES: &[Kind<dyn Probe>] = &[tcp::KIND, http::KIND, websocket::KIND, grpc::KIND];

/// A health check.
#[async_trait]
pub trait Probe: Send + Sync {
    /// The interval, the timeout and the thresholds.
    fn schedule(&self) -> ProbeSchedule;

    /// What a success proves; failures that it does not cover are kept.
    fn proof(&self) -> Proof;

    /// Probes once, on a connection of its own. The caller enforces [`ProbeSchedule::timeout`] by dropping
    /// it.
    ///
    /// # Errors
    /// Why the endpoint is unhealthy.
    async fn probe(&self, target: &Target<'_>) -> Result<(), Failure>;
}
