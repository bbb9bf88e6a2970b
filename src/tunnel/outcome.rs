//! The outcome of a tunnel, for the access log, the metrics and passive health.

use crate::websocket::frame::FrameError;
use std::time::Duration;

/// One of the two sides of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client that opened the WebSocket.
    Client = 0,
    /// The endpoint that serves it.
    Backend = 1,
}

impl Side {
    /// Both, the client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// The initiator of a tunnel's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// One of the sides: by a Close frame or by disconnecting.
    Side(Side),
    /// The gateway, by policy.
    Gateway,
}

/// Why tunnels are closed with 1012.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The gateway shuts down.
    Shutdown = 1,
    /// The endpoint was removed or is marked.
    Endpoint,
    /// The endpoint is unhealthy.
    Unhealthy,
    /// The route was removed or changed.
    Route,
    /// An operator ordered it.
    Operator,
    /// The endpoint holds more than its share.
    Rebalance,
    /// The listener was removed.
    Listener,
    /// The TLS keys of a moved connection have come to their end.
    Keys,
}

impl Cause {
    pub(super) const ALL: [Self; 8] = [
        Self::Shutdown,
        Self::Endpoint,
        Self::Unhealthy,
        Self::Route,
        Self::Operator,
        Self::Rebalance,
        Self::Listener,
        Self::Keys,
    ];
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A side sent a Close frame.
    Closed,
    /// A side closed its transport without a Close frame.
    Eof,
    /// A side's transport failed.
    Reset,
    /// A side did not respond to a ping.
    PingTimeout,
    /// A side stopped reading.
    WriteTimeout,
    /// No data frame was relayed for `idle_timeout`.
    Idle,
    /// `max_age` was reached.
    MaxAge,
    /// Drained.
    Drain(Cause),
    /// An operator closed it.
    Operator,
    /// Another process continues it: it has not ended.
    Moved,
    /// A side violated the protocol.
    Invalid(Side, FrameError),
    /// A side sent a frame or message above the limit.
    TooBig(Side, FrameError),
    /// The client exceeded its rate.
    Rate,
    /// A plugin closed it because of a message.
    Plugin,
    /// A plugin failed.
    PluginFailed,
    /// A recheck by a plugin rejected it.
    Refused,
    /// The process ended.
    Aborted,
    /// The relay panicked.
    Panicked,
}

impl Reason {
    /// The token in logs and metrics.
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
            Self::Operator => "operator",
            Self::Moved => "moved",
            Self::Drain(Cause::Shutdown) => "drain_shutdown",
            Self::Drain(Cause::Endpoint) => "drain_endpoint",
            Self::Drain(Cause::Unhealthy) => "drain_unhealthy",
            Self::Drain(Cause::Route) => "drain_route",
            Self::Drain(Cause::Listener) => "drain_listener",
            Self::Drain(Cause::Keys) => "drain_keys",
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

/// The code for an end without a Close frame (RFC 6455 §7.1.5).
pub const ABNORMAL: u16 = 1006;

/// How a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first initiator.
    pub by: Initiator,
    /// The reason.
    pub reason: Reason,
    /// The code of the first Close frame, of a side or of the gateway. 1005 for one without a code,
    /// [`ABNORMAL`] for an end without a Close frame.
    pub code: u16,
    /// Messages (text and binary) from each side, by [`Side`].
    pub messages: [u64; 2],
    /// Wire bytes from each side, frame headers included.
    pub bytes: [u64; 2],
    /// From the start of the relay to its end.
    pub lifetime: Duration,
    /// The last ping round-trip time of each side.
    pub ping_rtt: [Option<Duration>; 2],
}
