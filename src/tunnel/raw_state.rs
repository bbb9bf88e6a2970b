//! State of a raw relay that another process continues: everything but its sockets and its request.
//!
//! Times are relative, because clocks of processes differ. A missing member has its default.

use super::TunnelIo;
use super::state::connect;
use crate::net::tunnel_io::RecordState;
use crate::runtime::base64_bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The state of a raw relay.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct RawState {
    /// By source side, the client first.
    pub(super) directions: [RawDirectionState; 2],
    pub(super) clocks: RawClocksState,
    /// By source side.
    pub(super) bytes: [u64; 2],
    pub(super) drain_part: Option<u32>,
    /// The debts of the client's rate in nanoseconds.
    pub(super) rate_debts: [u64; 2],
    /// The records of sides with TLS, the client's first.
    pub(super) records: [Option<RecordState>; 2],
    /// The times until the rechecks.
    pub(super) recheck_waits: Vec<Duration>,
}

/// The state of a direction.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct RawDirectionState {
    /// Bytes that the sink has not accepted yet.
    #[serde(with = "base64_bytes")]
    pub(super) backlog: Vec<u8>,
    /// Whether the source has ended its direction.
    pub(super) has_ended: bool,
}

/// The clocks, as times before now.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct RawClocksState {
    pub(super) age: Duration,
    pub(super) data: Duration,
    /// The time until `max_age`.
    pub(super) expires_in: Option<Duration>,
    /// By side.
    pub(super) stuck: [Option<Duration>; 2],
}

impl RawState {
    /// As [`TunnelState::connect`](super::TunnelState::connect).
    pub fn connect(&mut self, sockets: [TunnelIo; 2]) -> Option<[TunnelIo; 2]> {
        connect(std::mem::take(&mut self.records), sockets)
    }

    /// When its session leaves in a drain.
    pub fn drain_part(&self) -> Option<u32> {
        self.drain_part
    }
}
