//! How endpoints are probed: a table of kinds, one file each.
//!
//! A probe connects, asks and judges the answer; it keeps no memory. What a row of outcomes means
//! is the score's, when to probe is the rhythm's, and running the probes is the engine's through
//! `check`.

mod grpc;
mod h2;
mod http;
mod pingora_check;
mod probe_schedule;
mod probe_target;
mod tcp;
#[cfg(test)]
mod tests;
mod websocket;

pub(super) use pingora_check::Check;
pub use probe_schedule::ProbeSchedule;
pub use probe_target::{Failure, Target};

pub use super::health_score::Thresholds;
pub use super::passive_health::Proof;
use async_trait::async_trait;
use moongate_config::Kind;

/// The kinds of `health_check:`, in the order that `moongate kinds` shows them.
pub static PROBES: &[Kind<dyn Probe>] = &[tcp::KIND, http::KIND, websocket::KIND, grpc::KIND];

/// A way to ask an endpoint how it is.
#[async_trait]
pub trait Probe: Send + Sync {
    /// How often, how long at most, and how many outcomes in a row count.
    fn rhythm(&self) -> ProbeSchedule;

    /// What a success proves: failures of requests that it does not cover are not forgiven.
    fn proof(&self) -> Proof;

    /// Asks once, on a connection of its own. The caller ends it at [`Rhythm::timeout`] by dropping it.
    ///
    /// # Errors
    /// Why the endpoint is not well.
    async fn probe(&self, target: &Target<'_>) -> Result<(), Failure>;
}
