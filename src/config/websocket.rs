//! Types of a route's `websocket` policy; `tunnel` implements it.

use moongate_config::{Period, Placed, Rate, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::num::NonZeroU32;
use std::time::Duration;

/// The policy of a route's WebSockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocket {
    /// The longest silence, without a data frame in either direction; then both sides get Close 1001.
    /// `0s` switches it off. Default 1h.
    pub idle_timeout: Period,
    /// A side that sent nothing for so long is pinged by the gateway. `0s` switches it off. Default 30s.
    pub ping_interval: Period,
    /// A pinged side that sends nothing for so long is dead; the other side gets Close 1001. Longer than 0, unless
    /// `ping_interval` is `0s`. Default 10s.
    pub ping_timeout: Period,
    /// A connection is asked to come again (Close 1012) after this life. Absent or `0s`: it may live on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
    /// Up to so much is taken off `max_age`, another share for every connection. `0s`: nothing. Default a tenth of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Period>,
    /// The longest payload of one frame in wire bytes (compressed, when that was agreed), otherwise Close 1009.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frame: Option<Size>,
    /// The longest message over all its frames in wire bytes, otherwise Close 1009. Default: off, and 1MiB in a
    /// direction whose messages plugins look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message: Option<Size>,
    /// Messages, pings included, from a client a second; a second's worth may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<NonZeroU32>,
    /// Wire bytes from a client a second; a second's worth may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Size>,
    /// What happens to a client that sends more than these two allow.
    pub on_exceed: Exceed,
    /// WebSockets of this route at a time, otherwise 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<NonZeroU32>,
    /// WebSockets of one client at a time, otherwise 429: a number, or a mapping with the client's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_client: Option<PerClient>,
    /// Handshakes of this route in a time, as `500/s`, `30/m` or `10/h`: a tenth of them may come at once,
    /// those beyond wait for their turn up to a second, and the rest gets 503 with Retry-After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_rate: Option<Rate>,
    /// Origins of pages that may connect, otherwise 403: `https://example.com`, `https://*.example.com`
    /// or `null`. Absent: any. A request without Origin comes from no page and is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<Placed<String>>>,
    /// What happens when a side breaks the protocol.
    pub invalid_frames: InvalidFrames,
    /// The window over which the connections of a leaving endpoint, route or process are asked to come
    /// again (Close 1012), spread evenly. `0s`: all at once. Default 30s.
    pub drain_window: Period,
    /// What happens to the connections of an endpoint that is unhealthy while another one of its upstream is not.
    pub on_unhealthy: Stay,
    /// What happens to connections whose endpoint was removed from its upstream, or that were opened before
    /// their route was removed, or before its destination or this policy was changed.
    pub on_reload: Stay,
    /// How long an answering Close is waited for before the transport is closed. `0s`: it is not. Default 5s.
    pub close_timeout: Period,
    /// A side that takes nothing of what is sent to it for so long is cut. `0s` switches it off. Default 1m.
    pub write_timeout: Period,
    /// What happens to a client whose backend vanishes without a Close, or leaves with Close 1001 or 1012.
    pub on_endpoint_loss: OnEndpointLoss,
    /// What is kept for a client while another backend is looked for, and of a message that is on its way;
    /// a longer message that is cut costs the connection. Default 64KiB.
    pub reconnect_buffer: Size,
    /// How long another backend is looked for, longer than 0; then the client gets Close 1012. Default 10s.
    pub reconnect_timeout: Period,
    /// How long one attempt at a backend may take, from the connect to the head of the response; then the next
    /// endpoint is asked. Longer than 0. Default 5s or the route's `timeout`, whichever is shorter, and at most a third of what is
    /// left of `reconnect_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Period>,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            idle_timeout: seconds(3600),
            ping_interval: seconds(30),
            ping_timeout: seconds(10),
            max_age: None,
            jitter: None,
            max_frame: None,
            max_message: None,
            messages_per_second: None,
            bytes_per_second: None,
            on_exceed: Exceed::default(),
            max_connections: None,
            max_connections_per_client: None,
            handshake_rate: None,
            origins: None,
            invalid_frames: InvalidFrames::default(),
            drain_window: seconds(30),
            on_unhealthy: Stay::default(),
            on_reload: Stay::default(),
            close_timeout: seconds(5),
            write_timeout: seconds(60),
            on_endpoint_loss: OnEndpointLoss::default(),
            reconnect_buffer: Size(64 << 10),
            reconnect_timeout: seconds(10),
            handshake_timeout: None,
        }
    }
}

const fn seconds(n: u64) -> Period {
    Period(Duration::from_secs(n))
}

/// What happens to a client that sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exceed {
    /// It is read more slowly: its own sends wait.
    #[default]
    Pause,
    /// It gets Close 1008.
    Close,
}

/// What happens when a side breaks the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvalidFrames {
    /// It gets Close 1002; the other side gets 1001 or, when the backend is to blame, 1011.
    #[default]
    Close,
    /// Its frames pass as they are.
    Pass,
}

/// What happens to a client whose backend is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnEndpointLoss {
    /// It gets a Close, the backend's own or 1001.
    #[default]
    Close,
    /// It is kept, and another backend is asked with its handshake.
    Reconnect,
}

/// What happens to living connections when something behind them changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// They live on.
    #[default]
    Keep,
    /// They are asked to come again (Close 1012) over the `drain` window.
    Drain,
}

/// How many WebSockets one client may have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "$shape a number, or a mapping with `limit` and `key`")]
#[schemars(untagged, rename = "PerClient")]
pub enum PerClient {
    /// So many for one address.
    #[serde(rename = "scalar")]
    Count(NonZeroU32),
    /// So many for one key.
    #[serde(rename = "map")]
    Keyed(PerKey),
}

/// How many WebSockets one key may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerKey {
    /// How many.
    pub limit: NonZeroU32,
    /// `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME` or `cel:EXPRESSION`; a client without it is told
    /// apart by address.
    pub key: Placed<String>,
}

impl Serialize for PerClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(limit) => limit.serialize(serializer),
            Self::Keyed(keyed) => keyed.serialize(serializer),
        }
    }
}
