//! How a tunnel ended, for the access log, the metrics and passive health.

use crate::websocket::frame::FrameError;
use std::time::Duration;

/// One of the two sides of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who opened the WebSocket.
    Client = 0,
    /// The endpoint that serves it.
    Backend = 1,
}

impl Side {
    /// Both, the client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// Who ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// One of the sides: by a Close, or by vanishing.
    Side(Side),
    /// The gateway, by policy.
    Gateway,
}

/// Why tunnels are asked to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The gateway ends.
    Shutdown = 1,
    /// The endpoint was removed or marked.
    Endpoint,
    /// The endpoint is unhealthy.
    Unhealthy,
    /// The route was removed or changed.
    Route,
    /// An operator asked for it.
    Operator,
    /// The endpoint holds more than its share.
    Rebalance,
}

impl Cause {
    pub(super) const ALL: [Self; 6] =
        [Self::Shutdown, Self::Endpoint, Self::Unhealthy, Self::Route, Self::Operator, Self::Rebalance];
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A side sent a Close.
    Closed,
    /// A side's transport ended in order, without a Close.
    Eof,
    /// A side's transport failed.
    Reset,
    /// A side answered no ping.
    PingTimeout,
    /// A side took nothing of what was sent to it.
    WriteTimeout,
    /// No data frame passed for `idle_timeout`.
    Idle,
    /// `max_age` was reached.
    MaxAge,
    /// Asked to come again.
    Drain(Cause),
    /// A side broke the protocol.
    Invalid(Side, FrameError),
    /// A side sent a frame or message longer than allowed.
    TooBig(Side, FrameError),
    /// The client sent more than its rate.
    Rate,
    /// A plugin ended it for a message.
    Plugin,
    /// A plugin could not do its work.
    PluginFailed,
    /// A plugin that was asked again refused what it had let in.
    Refused,
    /// The process ended.
    Aborted,
    /// The relay panicked.
    Panicked,
}

impl Reason {
    /// The word for logs and metrics.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Closed => "close",
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::PingTimeout => "ping_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Idle => "idle_timeout",
            Self::MaxAge => "max_age",
            Self::Drain(Cause::Shutdown) => "drain_shutdown",
            Self::Drain(Cause::Endpoint) => "drain_endpoint",
            Self::Drain(Cause::Unhealthy) => "drain_unhealthy",
            Self::Drain(Cause::Route) => "drain_route",
            Self::Drain(Cause::Operator) => "drain_operator",
            Self::Drain(Cause::Rebalance) => "drain_rebalance",
            Self::Invalid(Side::Client, _) => "client_invalid_frame",
            Self::Invalid(Side::Backend, _) => "backend_invalid_frame",
            Self::TooBig(Side::Client, _) => "client_too_big",
            Self::TooBig(Side::Backend, _) => "backend_too_big",
            Self::Rate => "rate",
            Self::Plugin => "plugin",
            Self::PluginFailed => "plugin_failed",
            Self::Refused => "plugin_refused",
            Self::Aborted => "aborted",
            Self::Panicked => "internal",
        }
    }
}

/// The code of RFC 6455 §7.1.5 for an end without a Close.
pub const ABNORMAL: u16 = 1006;

/// How a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who ended it: the first to do so.
    pub by: Initiator,
    /// Why.
    pub reason: Reason,
    /// The code of the first Close, a side's or the gateway's own; 1005 for one without a code and
    /// [`ABNORMAL`] for an end without a Close.
    pub code: u16,
    /// Messages (text and binary) of each side, by [`Side`].
    pub messages: [u64; 2],
    /// Wire bytes of each side, heads of frames included.
    pub bytes: [u64; 2],
    /// From the start of the relay to its end.
    pub lifetime: Duration,
    /// The last round trip of a gateway's ping to each side.
    pub ping_rtt: [Option<Duration>; 2],
}
