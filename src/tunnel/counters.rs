//! What a tunnel counts, brought to its route's series. How they are named and shown is telemetry's.

use super::{ABNORMAL, Initiator, Outcome, Side};
use crate::telemetry::metrics::{self, Reconnected, TunnelMetrics};
use crate::websocket::frame::Opcode;
use std::time::Duration;

/// The kinds of messages that are told apart.
pub const KINDS: [Opcode; 5] = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close];

/// Where a tunnel's numbers go.
#[derive(Debug)]
pub struct Counters(TunnelMetrics);

impl Counters {
    /// Counts on these series.
    #[must_use]
    pub fn new(metrics: TunnelMetrics) -> Self {
        Self(metrics)
    }

    /// Adds what one turn saw come from `side`. Series that did not change are not touched: the line
    /// they lie on is shared by every thread.
    pub(super) fn add(&self, side: Side, messages: &[u32; KINDS.len()], bytes: u64) {
        let direction = direction(side);
        for (kind, more) in KINDS.into_iter().zip(messages) {
            if *more > 0 {
                self.0.add_messages(direction, opcode(kind), u64::from(*more));
            }
        }
        self.0.add_bytes(direction, bytes);
    }

    /// Notes how long `side` took to answer a ping of the gateway.
    pub(super) fn round_trip(&self, side: Side, after: Duration) {
        self.0.ping_rtt(metric_side(side), after);
    }

    /// Counts an endpoint that was lost, and what became of the client.
    pub(super) fn reconnected(&self, result: Reconnected) {
        self.0.reconnected(result);
    }

    /// Counts the end.
    pub(super) fn ended(&self, outcome: &Outcome) {
        self.0.closed(outcome.close_code(), outcome.by.into(), outcome.reason.token());
        self.0.lifetime(outcome.lifetime, outcome.messages.iter().sum());
    }
}

impl Outcome {
    /// The code of the Close, when there was one: 1006 is never on the wire (RFC 6455 §7.4.1).
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        Some(self.code).filter(|code| *code != ABNORMAL)
    }
}

impl From<Initiator> for metrics::By {
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
