//! Types of the process's settings: limits on clients, listeners, admin address and process log.

use super::connection_protocols::{ListenerTls, Protocol, ProxyProtocol};
use super::min_rate::MinRate;
use super::{EscapedSlashes, HandshakeRate, MergeSlashes, ResolverKind, Via};
use moongate_config::{Period, Placed, Problem, Size, off_if_zero, raise};
use moongate_sdk::ClientPrefix;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use std::num::{NonZeroU16, NonZeroU32};

/// Settings of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Sets the number of worker threads. A thread that a reload removes ends after its last connection. Default one
    /// per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroU16>,
    /// Keeps accepting connections for this long after SIGTERM, while `/readyz` already responds 503. `0s`: off.
    /// Default 0s.
    pub drain_delay: Period,
    /// Lets requests and WebSockets continue for this long after SIGTERM and `drain_delay`. `0s`: they end at once.
    /// Default 30s.
    pub grace_period: Period,
    /// Closes a connection (408) whose request header, with a PROXY header before it, is incomplete after this long.
    /// `0s`: no limit. Default 10s.
    pub header_timeout: Period,
    /// Closes an idle client connection after this long. `0s`: no keep-alive. HTTP/1.1 responses then have
    /// `Connection: close`, and an HTTP/2 connection ends with its last request. Default 75s.
    pub keepalive_timeout: Period,
    /// Fails a request (408) after this long without a byte of its body. `0s`: no limit. HTTP/2 and gRPC have
    /// exceptions. Default 60s.
    pub body_timeout: Period,
    /// Closes a connection after this long in which the client reads nothing of its response. `0s`: no limit. Default
    /// 60s.
    pub send_timeout: Period,
    /// Fails a request (408) whose body arrives more slowly, in bytes per second. `0`: off. Default `240B` after
    /// `20s`.
    pub body_min_rate: MinRate,
    /// Closes a connection whose client reads its response more slowly, in bytes per second. `0`: off. Default `240B`
    /// after `20s`.
    pub send_min_rate: MinRate,
    /// Rejects (431) a request header larger than this, 1KiB to 800KiB. Default 64KiB.
    #[serde(deserialize_with = "room_for_a_head")]
    pub max_header_size: Size,
    /// Selects the resolver for host names of plugin calls, JWKS, ACME directories, and upstreams without a
    /// `resolver` of their own: `hickory` or `system`. `hickory` queries name servers and honours TTLs; `system`
    /// calls `getaddrinfo`. A reload can change it. Default hickory.
    pub resolver: ResolverKind,
    /// Queries these name servers, each `ip` or `ip:port` (53), for names as written, without a search list. A reload
    /// can change them. Default those of `/etc/resolv.conf`, with its search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<Placed<String>>,
    /// Trusts X-Forwarded-* from these addresses or CIDR blocks, and Forwarded (RFC 7239) where X-Forwarded-* is
    /// absent. The client is the nearest hop that is not a trusted proxy. Default none.
    pub trusted_proxies: Vec<Placed<String>>,
    /// Identifies an IPv6 client by this many leading bits of its address, 1 to 128. It applies to
    /// `max_connections_per_client`, `rate_limit`, the key `client_ip` and the admin address. Logs, `ip_access` and
    /// X-Forwarded-For use the whole address. Default 64.
    pub client_ipv6_prefix: ClientPrefix,
    /// Handles X-Forwarded-For, -Proto and -Host: `add`, `remove` or `keep`. Default add.
    pub x_forwarded: XForwarded,
    /// Adds `Via` (RFC 9110 §7.6.3) to `requests`, `responses`, `both` or none (`off`). nginx does not compress
    /// responses to requests with `Via` unless `gzip_proxied` allows it. Default off.
    pub via: Via,
    /// Handles several slashes in a row: `match` matches them as one and forwards them as sent, `rewrite` forwards
    /// one. Default match.
    pub merge_slashes: MergeSlashes,
    /// Handles `%2f`, `%5c` and `\` in a path: `match` matches them as `/` and forwards them as sent, `reject`
    /// responds 400. Default match.
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

/// The treatment of X-Forwarded-For, -Proto and -Host on the way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum XForwarded {
    /// Appends to the fields of a trusted proxy; replaces those of other clients.
    #[default]
    Add,
    /// Removes the fields.
    Remove,
    /// Forwards the fields as received.
    Keep,
}

/// The admin address: metrics, health, status and the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Listens on this `ip:port`. An address that is not loopback requires `token`. Required.
    pub address: Placed<String>,
    /// Requires `Authorization: Bearer …` with this value on every path except `/`, `/healthz`, `/readyz` and
    /// `/api/v1/session`, which show nothing of the gateway. A browser signs in with it. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Placed<String>>,
    /// Allows operators to tap WebSockets, which shows messages of clients. Requires `token`. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<Placed<bool>>,
}

/// An address that accepts client connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Names the listener for routes, logs and metrics. Default the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Placed<String>>,
    /// Listens on `ip:port`, `[ip]:port` or `unix:/path`. Required.
    pub address: Placed<String>,
    /// Sets the permissions of a Unix socket in octal, as `0660`, before it listens. Default per the umask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_number")]
    pub mode: Option<Placed<String>>,
    /// Sets the owner of a Unix socket: a name in `/etc/passwd`, or a number. Another user than the process's own
    /// requires root or CAP_CHOWN. Default the user of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_number")]
    pub owner: Option<Placed<String>>,
    /// Sets the group of a Unix socket: a name in `/etc/group`, or a number. Default the group of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_number")]
    pub group: Option<Placed<String>>,
    /// Accepts only IPv6 connections on an IPv6 address. With `false`, `[::]` accepts IPv4 too. `check` warns of
    /// `[::]` without this key and without an IPv4 listener. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_only: Option<Placed<bool>>,
    /// Accepts these protocols: `http1`, `h2` (needs `tls`), `h2c` (without TLS, by prior knowledge). Default `[h2,
    /// http1]` with `tls`, else `[http1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Placed<Vec<Placed<Protocol>>>>,
    /// Terminates TLS. Default none (plain).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Placed<ListenerTls>>,
    /// Requires a PROXY header from given peers. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Placed<ProxyProtocol>>,
    /// Limits concurrent connections. Further connections wait in the kernel's queue. `0`: off. Default off.
    #[serde(default, deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>")]
    pub max_connections: Option<NonZeroU32>,
    /// Limits WebSocket handshakes over this listener on all routes, as `500/s`. A tenth, at least one, may arrive at
    /// once. Later ones wait up to 1 s. The rest get 503. A mapping shares the limit through a store. `0`: off.
    /// Default off.
    #[serde(default, deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HandshakeRate>")]
    pub handshake_rate: Option<HandshakeRate>,
}

/// Level and format of the process log, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessLog {
    /// Logs lines of this level and above: `error`, `warn`, `info`, `debug` or `trace`. `off`: none. The environment
    /// variable `RUST_LOG` has precedence. Default info.
    pub level: LogLevel,
    /// Writes lines as `text` or as `json`: an object per line with `time`, `level`, `target`, `message` and the fields
    /// of the line. Default text.
    pub format: ProcessLogFormat,
}

/// A level of the process log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// No process log.
    Off,
    /// Failures that need the operator's attention.
    Error,
    /// Failures that the gateway handles.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Details: causes of failed handshakes, aborted admin requests.
    Debug,
    /// Everything.
    Trace,
}

/// The format of a line of the process log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessLogFormat {
    /// Time, level and target in brackets, the message, and fields as `key=value`.
    #[default]
    Text,
    /// One JSON object per line: `time`, `level`, `target`, `message`, and fields as further keys.
    Json,
}

fn word_or_number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer"] })
}

/// A valid size limit of a request header.
fn room_for_a_head<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    // Pingora accepts 1 MiB, and the header may grow before it is passed to Pingora.
    if !(1 << 10..=800 << 10).contains(&size.0) {
        return Err(serde::de::Error::custom("the value must be 1KiB to 800KiB"));
    }
    Ok(size)
}

/// A length of time that must be longer than 0; `help` says what to write in place of 0.
pub(super) fn positive<'de, T, D>(deserializer: D, help: &str) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Copy + Into<Option<Period>>,
    D: Deserializer<'de>,
{
    let written = T::deserialize(deserializer)?;
    match written.into() {
        Some(Period(period)) if period.is_zero() => {
            Err(raise(Problem::new("the value must be longer than 0").help(help)))
        }
        _ => Ok(written),
    }
}

const fn seconds(n: u64) -> Period {
    Period(std::time::Duration::from_secs(n))
}
