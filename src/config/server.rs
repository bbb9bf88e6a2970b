//! Types of the process's settings: limits on clients, listeners, admin address and access log.

use super::min_rate::MinRate;
use super::tls::{ListenerTls, Protocol, ProxyProtocol};
use super::{EscapedSlashes, MergeSlashes, ResolverKind, Via};
use moongate_config::{Period, Place, Placed, Rate, Size};
use moongate_sdk::ClientPrefix;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use std::num::{NonZeroU16, NonZeroU32};

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Worker threads; absent: one a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroU16>,
    /// How long connections are still taken after SIGTERM, while readiness already fails. Default 0s: none.
    pub drain_delay: Period,
    /// How long requests and WebSockets may go on after that. `0s`: they end at once. Default 30s.
    pub grace_period: Period,
    /// How long a client may take to send a request's head, longer than 0. Default 10s.
    #[serde(deserialize_with = "positive")]
    pub header_timeout: Period,
    /// How long an idle keep-alive connection of a client is kept, longer than 0. Default 75s.
    #[serde(deserialize_with = "positive")]
    pub keepalive_timeout: Period,
    /// The longest silence of a client inside a request's body, otherwise 408; longer than 0. Default 60s.
    #[serde(deserialize_with = "positive")]
    pub body_timeout: Period,
    /// The longest time in which a client takes nothing of a response, longer than 0. Default 60s.
    #[serde(deserialize_with = "positive")]
    pub send_timeout: Period,
    /// The lowest rate of a request's body, in bytes a second: a size, or a mapping with the time before it counts
    /// (`grace`). A slower client gets 408. `0` switches it off. Default 240B after 20s.
    pub body_min_rate: MinRate,
    /// The lowest rate at which a client takes a response, in bytes a second: a size, or a mapping with the time before
    /// it counts (`grace`). The connection of a slower client is closed. `0` switches it off. Default 240B after 20s.
    pub send_min_rate: MinRate,
    /// The largest request head, 1KiB to 800KiB, otherwise 431. Default 64KiB.
    #[serde(deserialize_with = "room_for_a_head")]
    pub max_header_size: Size,
    /// Idle connections to all upstreams that are kept for reuse, at least 1. They are divided among the threads, and
    /// each keeps at least one. Default 512.
    pub max_idle_connections: NonZeroU32,
    /// What looks host names up, of plugins' calls, JWKS, certificate authorities, and upstreams that name no other:
    /// `hickory` asks name servers without blocking a thread and honours TTLs; `system` calls getaddrinfo, for names
    /// that only nsswitch knows. Default hickory.
    pub resolver: ResolverKind,
    /// Ask these name servers, `ip` or `ip:port`, for host names as they are written. Absent: those of /etc/resolv.conf,
    /// with its search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<Placed<String>>,
    /// Proxies whose X-Forwarded-* fields are believed, as addresses or CIDR blocks.
    pub trusted_proxies: Vec<Placed<String>>,
    /// Count IPv6 clients by this many leading bits of their address, 1 to 128, in every limit and key. Default 64.
    pub client_ipv6_prefix: ClientPrefix,
    /// What happens to X-Forwarded-For, -Proto and -Host.
    pub x_forwarded: XForwarded,
    /// Add `Via` to these messages. Default off.
    pub via: Via,
    /// Forward several slashes in a row of a path as they were sent (`match`) or as one (`rewrite`). Default match.
    pub merge_slashes: MergeSlashes,
    /// Match `%2F`, `%5C` and `\` in a path as `/` (`match`), or answer with 400 (`reject`). Default match.
    pub escaped_slashes: EscapedSlashes,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: None,
            drain_delay: seconds(0),
            grace_period: seconds(30),
            header_timeout: seconds(10),
            keepalive_timeout: seconds(75),
            body_timeout: seconds(60),
            send_timeout: seconds(60),
            body_min_rate: MinRate::default(),
            send_min_rate: MinRate::default(),
            max_header_size: Size(64 << 10),
            // 512 is not 0.
            max_idle_connections: NonZeroU32::MIN.saturating_add(511),
            resolver: ResolverKind::default(),
            name_servers: Vec::new(),
            trusted_proxies: Vec::new(),
            client_ipv6_prefix: ClientPrefix::default(),
            x_forwarded: XForwarded::Add,
            via: Via::default(),
            merge_slashes: MergeSlashes::default(),
            escaped_slashes: EscapedSlashes::default(),
        }
    }
}

/// What happens to X-Forwarded-For, -Proto and -Host on the way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum XForwarded {
    /// Appended to those of a trusted proxy; those of anybody else are replaced.
    #[default]
    Add,
    /// Removed.
    Remove,
    /// Passed as they came.
    Keep,
}

/// The administrator's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// ip:port; a public address needs a token.
    pub address: Placed<String>,
    /// Wanted as `Authorization: Bearer …` for all but /healthz and /readyz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// For routes (`listeners:`), logs and metrics; absent: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Placed<String>>,
    /// `ip:port`, `[ip]:port` or `unix:/path`.
    pub address: Placed<String>,
    /// The permissions of a Unix socket as octal digits, `0660` for instance. Default: those that the umask leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_number")]
    pub mode: Option<Placed<String>>,
    /// The owner of a Unix socket, a name in /etc/passwd or a number. Default: the user of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_number")]
    pub owner: Option<Placed<String>>,
    /// The group of a Unix socket, a name in /etc/group or a number. Default: the group of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_number")]
    pub group: Option<Placed<String>>,
    /// Whether an IPv6 address takes IPv6 connections alone. With `false`, `[::]` takes IPv4 connections too. Default
    /// true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_only: Option<Placed<bool>>,
    /// What is spoken here; absent: http1, and h2 as well where there is `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Placed<Vec<Placed<Protocol>>>>,
    /// TLS; absent: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Placed<ListenerTls>>,
    /// The PROXY protocol; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Placed<ProxyProtocol>>,
    /// Connections at a time; the ones beyond wait in the kernel's queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<NonZeroU32>,
    /// WebSocket handshakes over this listener in a time, whatever their route, as `500/s`: a tenth of them
    /// may come at once, those beyond wait for their turn up to a second, and the rest gets 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_rate: Option<Rate>,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// The shape of a line.
    pub format: LogFormat,
    /// `stdout`, `stderr` or a file, opened again at every reload and on SIGUSR1.
    pub path: Placed<String>,
    /// Bytes that may wait for the writer; lines beyond are dropped and counted.
    pub buffer: Size,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { format: LogFormat::Json, path: standard_output(), buffer: Size(1 << 20) }
    }
}

fn word_or_number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer"] })
}

fn standard_output() -> Placed<String> {
    Placed { value: "stdout".to_owned(), place: Place::nowhere() }
}

/// The shape of an access-log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Apache's combined format.
    Combined,
    /// No access log.
    Off,
}

/// A size that a request's head can have at all.
fn room_for_a_head<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    // Pingora accepts 1 MiB, and the header may grow before it is passed to Pingora.
    if !(1 << 10..=800 << 10).contains(&size.0) {
        return Err(serde::de::Error::custom("must be 1KiB to 800KiB"));
    }
    Ok(size)
}

/// A length of time that must be longer than 0.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let period = Period::deserialize(deserializer)?;
    if period.0.is_zero() {
        return Err(serde::de::Error::custom("must be longer than 0"));
    }
    Ok(period)
}

const fn seconds(n: u64) -> Period {
    Period(std::time::Duration::from_secs(n))
}
