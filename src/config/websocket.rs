//! Types of a route's `websocket` policy; `tunnel` implements it.

use super::server::positive;
use super::{HandshakeRate, MessageRate};
use moongate_config::{Period, Place, Placed, Problem, Size, off_if_zero, raise};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::num::NonZeroU32;
use std::time::Duration;

/// The policy of a route's WebSockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocket {
    /// Closes both sides (1001) after this long without a data frame in either direction. `0s`: off. Default 1h.
    pub idle_timeout: Period,
    /// Pings a side after this long without a byte from it. The gateway consumes the pong. `0s`: off. Default 30s.
    pub ping_interval: Period,
    /// Treats a pinged side as dead after this long without a byte; the other side gets 1001. Longer than 0 unless
    /// `ping_interval` is `0s`. Default 10s.
    pub ping_timeout: Placed<Period>,
    /// Closes a WebSocket (1012) at this age so that the client reconnects. `0s`: off. Default off.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
    /// Subtracts a random time of up to this much from `max_age`, per connection. `0s`: off. Default a tenth of
    /// `max_age`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Placed<Period>>,
    /// Closes (1009) on a frame with a longer payload, in wire bytes. `0`: off. Default off.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    pub max_frame: Option<Size>,
    /// Closes (1009) on a longer message, in wire bytes over all its frames. `0`: off. Default off; `1MiB` in a
    /// direction that plugins inspect.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    pub max_message: Option<Size>,
    /// Limits messages of a client per second, pings included. One second's worth may arrive at once. A mapping limits
    /// those of all its WebSockets at all gateways together, through a store. `0`: off. Default off.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MessageRate>")]
    pub messages_per_second: Option<MessageRate>,
    /// Limits wire bytes of a client per second. One second's worth may arrive at once. `0`: off. Default off.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Size>,
    /// Reads a client above these two limits more slowly (`pause`) or closes it with 1008 (`close`). Default pause.
    pub on_exceed: Exceed,
    /// Rejects (503) handshakes above this many WebSockets on the route. `0`: off. Default off.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>")]
    pub max_connections: Option<NonZeroU32>,
    /// Rejects (429) handshakes above this many WebSockets of one client: a number, or a mapping. `0`: off. Default
    /// off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_client: Option<PerClient>,
    /// Limits handshakes on the route, as `500/s`, `30/m` or `10/h`. A tenth, at least one, may arrive at once. Later
    /// ones wait up to 1 s in order of arrival. The rest get 503 with a randomised `Retry-After`. A mapping shares the
    /// limit through a store. `0`: off. Default off.
    #[serde(deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HandshakeRate>")]
    pub handshake_rate: Option<HandshakeRate>,
    /// Rejects (403) handshakes with another Origin: `https://example.com`, `https://*.example.com` or `null`.
    /// Requests without Origin are accepted. Default any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<Placed<String>>>,
    /// Closes a side that violates the protocol with 1002 (`close`), or forwards its frames unchanged (`pass`). A
    /// client first receives the backend's replies to its earlier, valid messages. Default close.
    pub invalid_frames: InvalidFrames,
    /// Spreads the closes (1012) of a drained endpoint, changed route or stopping process over this time, with
    /// jitter. `0s`: all at once. Default 30s.
    pub drain_window: Period,
    /// Keeps (`keep`) or drains (`drain`) the WebSockets of an unhealthy endpoint while another endpoint is healthy.
    /// Draining stops when the endpoint recovers. Default keep.
    pub on_unhealthy: ExistingTunnels,
    /// Keeps (`keep`) or drains (`drain`) WebSockets whose endpoint or route was removed or changed. Default keep.
    pub on_reload: ExistingTunnels,
    /// Waits this long for the peer's Close before the transport is closed. `0s`: does not wait. Default 5s.
    pub close_timeout: Period,
    /// Closes the transport of a side that accepts no bytes for this long. `0s`: off. Default 1m.
    pub write_timeout: Period,
    /// Closes the client (`close`) or reconnects to another backend (`reconnect`) when a backend vanishes without a
    /// Close, or closes with 1001 or 1012. Default close.
    pub on_endpoint_loss: OnEndpointLoss,
    /// Buffers this many bytes from the client during a reconnect, and of the message being forwarded. A longer
    /// interrupted message closes the client with 1012. At least 1. Default 64KiB.
    #[serde(deserialize_with = "reconnect_buffer")]
    pub reconnect_buffer: Size,
    /// Searches for another backend for this long, then closes the client with 1012. Longer than 0. Default 10s.
    #[serde(deserialize_with = "reconnect_timeout")]
    pub reconnect_timeout: Period,
    /// Fails one attempt at a backend after this long, from the connect to the response header. The next endpoint is
    /// tried, and `passive_health` counts a failure. Longer than 0. Default `5s` or `timeout`, whichever is shorter.
    #[serde(deserialize_with = "handshake_timeout", skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Period>,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            idle_timeout: seconds(3600),
            ping_interval: seconds(30),
            ping_timeout: Placed { value: seconds(10), place: Place::nowhere() },
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
            on_unhealthy: ExistingTunnels::default(),
            on_reload: ExistingTunnels::default(),
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

/// How to turn reconnects off.
const NO_RECONNECT: &str = "`on_endpoint_loss: close` turns reconnects off";

fn reconnect_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    positive(deserializer, NO_RECONNECT)
}

fn handshake_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Period>, D::Error> {
    positive(deserializer, "remove the key for the default; for a long wait write `1m`")
}

/// A buffer that holds a message: without one every interrupted message would end its client.
fn reconnect_buffer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    if size.0 == 0 {
        return Err(raise(Problem::new("the value must be at least 1 byte").help(NO_RECONNECT)));
    }
    Ok(size)
}

/// The treatment of a client above its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exceed {
    /// Reads the client more slowly.
    #[default]
    Pause,
    /// Closes the WebSocket with 1008.
    Close,
}

/// The treatment of a side that violates the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvalidFrames {
    /// Closes that side with 1002; the other side gets 1001.
    #[default]
    Close,
    /// Forwards the frames unchanged.
    Pass,
}

/// The treatment of a client whose backend is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnEndpointLoss {
    /// Closes the client with the backend's code, or 1001.
    #[default]
    Close,
    /// Keeps the client and repeats the client's handshake at another backend.
    Reconnect,
}

/// The treatment of open WebSockets whose endpoint or route changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExistingTunnels {
    /// The WebSockets continue.
    #[default]
    Keep,
    /// The WebSockets are closed with 1012 over `drain_window`.
    Drain,
}

/// A number of WebSockets per client IP, or a mapping with `limit`, `key` and `store`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "$shape a number, or a mapping with `limit`, `key` and `store`")]
#[schemars(untagged, rename = "PerClient")]
pub enum PerClient {
    /// The limit per client IP.
    #[serde(rename = "scalar")]
    Count(u32),
    /// The limit per key.
    #[serde(rename = "map")]
    Keyed(PerKey),
}

/// A limit on WebSockets per key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerKey {
    /// Allows this many WebSockets per key. Required.
    pub limit: u32,
    /// Identifies the client by `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME` or `cel:EXPRESSION`. Requests
    /// without the value are counted by client IP. Default client_ip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Placed<String>>,
    /// Counts over all gateways that use this store, by its name in `stores`. Default none (each process counts alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Placed<String>>,
}

impl Serialize for PerClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(limit) => limit.serialize(serializer),
            Self::Keyed(keyed) => keyed.serialize(serializer),
        }
    }
}
