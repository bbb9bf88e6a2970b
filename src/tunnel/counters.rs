//! Counters of a tunnel, added to the metrics of its route, upstream and endpoint.

use super::{ABNORMAL, Initiator, Outcome, Side};
use crate::telemetry::metrics::{self, Reconnected, TunnelMetrics, UpgradeMetrics};
use crate::websocket::frame::Opcode;
use std::time::Duration;

/// The message kinds that are counted separately.
pub const KINDS: [Opcode; 5] = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close];

/// The metrics of a tunnel.
#[derive(Debug)]
pub struct Counters(TunnelMetrics);

impl Counters {
    /// Creates counters for these metrics.
    #[must_use]
    pub fn new(metrics: TunnelMetrics) -> Self {
        Self(metrics)
    }

    /// Adds the frames of one turn from `side`. Unchanged metrics are not written, since their cache lines
    /// are shared by all threads.
    pub(super) fn add(&self, side: Side, messages: &[u32; KINDS.len()], bytes: u64) {
        let direction = direction(side);
        for (kind, more) in KINDS.into_iter().zip(messages) {
            if *more > 0 {
                self.0.add_messages(direction, opcode(kind), u64::from(*more));
            }
        }
        self.0.add_bytes(direction, bytes);
    }

    /// Records the round-trip time of a gateway ping to `side`.
    pub(super) fn round_trip(&self, side: Side, after: Duration) {
        self.0.ping_rtt(metric_side(side), after);
    }

    /// Counts a lost endpoint and the result of the failover.
    pub(super) fn reconnected(&self, result: Reconnected) {
        self.0.reconnected(result);
    }

    /// Counts the end of the tunnel.
    pub(super) fn ended(&self, outcome: &Outcome) {
        self.0.closed(outcome.close_code(), outcome.by.into(), outcome.reason.token());
        self.0.lifetime(outcome.lifetime, outcome.messages.iter().sum());
    }
}

/// The metrics of a raw relay.
#[derive(Debug)]
pub struct RawCounters(UpgradeMetrics);

impl RawCounters {
    /// Creates counters for these metrics.
    #[must_use]
    pub fn new(metrics: UpgradeMetrics) -> Self {
        Self(metrics)
    }

    /// Adds the bytes of one turn from `side`.
    pub(super) fn add(&self, side: Side, bytes: u64) {
        self.0.add_bytes(direction(side), bytes);
    }

    /// Counts the end of the relay.
    pub(super) fn ended(&self, outcome: &Outcome) {
        self.0.closed(outcome.by.into(), outcome.reason.token());
        self.0.lifetime(outcome.lifetime);
    }
}

impl Outcome {
    /// The code of the Close frame, if there was one: 1006 is never sent (RFC 6455 §7.4.1).
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        Some(self.code).filter(|code| *code != ABNORMAL)
    }
}

impl From<Initiator> for metrics::InitiatorLabel {
    fn from(by: Initiator) -> Self {
        match by {
            Initiator::Gateway => Self::Gateway,
            Initiator::Side(Side::Client) => Self::Client,
            Initiator::Side(Side::Backend) => Self::Backend,
        }
    }
}

fn direction(from: Side) -> metrics::Direction {
    match from {
        Side::Client => metrics::Direction::ToBackend,
        Side::Backend => metrics::Direction::ToClient,
    }
}

fn metric_side(side: Side) -> metrics::Side {
    match side {
        Side::Client => metrics::Side::Client,
        Side::Backend => metrics::Side::Backend,
    }
}

fn opcode(kind: Opcode) -> metrics::Opcode {
    match kind {
        Opcode::Text => metrics::Opcode::Text,
        Opcode::Binary => metrics::Opcode::Binary,
        Opcode::Ping => metrics::Opcode::Ping,
        Opcode::Pong => metrics::Opcode::Pong,
        Opcode::Close => metrics::Opcode::Close,
        Opcode::Continuation | Opcode::Reserved => metrics::Opcode::Other,
    }
}
