//! Types of the configuration file. Every name here is part of the documentation and the JSON Schema.

use super::access_log::{AccessLog, access_log, access_log_schema};
use super::connection_protocols::{ProxyVersion, UpstreamProtocol, UpstreamTls};
use super::endpoint::EndpointEntry;
use super::one_or_many::OneOrMany;
use super::server::{Admin, Listener, ProcessLog, Server, positive};
use super::{EscapedSlashes, MergeSlashes, PathParameters, ResolverKind, Tracing, WebSocket};
use indexmap::IndexMap;
use moongate_config::{Period, Place, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A Moongate configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sets limits and behaviour of the process.
    pub server: Server,
    /// Opens the admin address for metrics, health and the API. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Placed<Admin>>,
    /// Configures the process log.
    pub log: ProcessLog,
    /// Opens addresses for clients. Default one at `127.0.0.1:8080`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<Placed<Listener>>>,
    /// Configures the access log. A format alone is enough: `access_log: off`. Default JSON on standard output.
    #[serde(deserialize_with = "access_log")]
    #[schemars(schema_with = "access_log_schema")]
    pub access_log: AccessLog,
    /// Exports OpenTelemetry traces. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Placed<Tracing>>,
    /// Defines stores of limits that a fleet shares, by name. Default none.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub stores: IndexMap<String, Placed<KindEntry>>,
    /// Reads further upstreams and routes from elsewhere, in documents that many owners write. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Placed<KindEntry>>,
    /// Defines clusters of backends by name. Default none.
    pub upstreams: IndexMap<String, Placed<Upstream>>,
    /// Maps requests to upstreams. Default none (every request gets 404).
    pub routes: Vec<Placed<Route>>,
    /// Runs plugins for every route, before the plugins of the route. Default none.
    pub plugins: Vec<Placed<PluginEntry>>,
}

/// A cluster of backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Lists the backends: addresses, or mappings. Required without `discovery`.
    #[serde(default = "defaults::no_endpoints", skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Placed<Vec<Placed<EndpointEntry>>>,
    /// Discovers the backends: a mapping with `kind` and its settings, in place of `endpoints`. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<KindEntry>,
    /// Applies to the WebSockets of an endpoint that a name or the discovery has no longer, or announces to leave: closes
    /// them with 1012 over the `drain_window` of their routes (`drain`), keeps them (`keep`) or closes them with 1012 at
    /// once (`close`). Default drain.
    #[serde(default)]
    pub on_removal: OnRemoval,
    /// Selects the load balancer: a kind, or a mapping with `kind` and its settings. Default round_robin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<KindEntry>,
    /// Connects with `http1`, `h2` (HTTP/2 over TLS where ALPN selects it; needs `tls`) or `h2c` (HTTP/2 without TLS,
    /// by prior knowledge). Default http1.
    #[serde(default = "defaults::protocol")]
    pub protocol: Placed<UpstreamProtocol>,
    /// Connects with TLS. Default none (plain).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Placed<UpstreamTls>>,
    /// Sends a PROXY header of version `v1` or `v2` with the client's address on each connection. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// Probes every endpoint: a kind, or a mapping with `kind` and its settings. Default none (passive health alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<KindEntry>,
    /// Ejects endpoints after failures of requests and handshakes.
    #[serde(default)]
    pub passive_health: PassiveHealth,
    /// Chooses among all endpoints (`any`) or responds 503 (`fail`) when every endpoint is unhealthy. Default any.
    #[serde(default)]
    pub when_all_unhealthy: WhenAllUnhealthy,
    /// Raises the weight of a new or recovered endpoint from a tenth to its full value over this time. `0s`: off.
    /// Default off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Period>,
    /// Fails an attempt after this long without a connection, TLS handshake included. With `h2c` it also bounds the
    /// wait for the first byte. Longer than 0. Default 2s.
    #[serde(default = "defaults::connect_timeout", deserialize_with = "connect_timeout")]
    pub connect_timeout: Period,
    /// Closes an idle connection to a backend after this long. `0s`: connections are not kept (`Connection: close`).
    /// Default 60s.
    #[serde(default = "defaults::keepalive_timeout")]
    pub keepalive_timeout: Period,
    /// Keeps at most this many idle HTTP/1.1 connections to each endpoint for reuse, by requests and calls of plugins. They
    /// are divided among the threads, rounded up. All upstreams together keep a quarter of the process's descriptors at
    /// most. `0`: connections are not kept (`Connection: close`). Default 512.
    #[serde(default = "defaults::max_idle_connections")]
    pub max_idle_connections: u32,
    /// Tries up to this many further endpoints for requests that are safe to repeat, 0 to 63. Default 2.
    #[serde(default = "defaults::retries", deserialize_with = "retries")]
    #[schemars(range(max = 63))]
    pub retries: u8,
    /// Resolves host names again at least this often. A shorter TTL applies, but not less than 1 s, or 5 s after a
    /// failed lookup. At least 1s. Default 30s.
    #[serde(default = "defaults::resolve")]
    pub resolve: Placed<Period>,
    /// Resolves names of endpoints with `hickory` or `system` (`getaddrinfo`, for names that only nsswitch knows).
    /// Default that of `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<ResolverKind>,
    /// Moves WebSockets from overloaded endpoints to the others. Default off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Placed<Rebalance>>,
}

impl Upstream {
    /// An upstream with these endpoints and every default, for a route's inline list.
    pub fn of(endpoints: Placed<Vec<Placed<EndpointEntry>>>) -> Self {
        Self {
            endpoints,
            discovery: None,
            on_removal: OnRemoval::default(),
            balance: None,
            protocol: defaults::protocol(),
            tls: None,
            proxy_protocol: None,
            health_check: None,
            passive_health: PassiveHealth::default(),
            when_all_unhealthy: WhenAllUnhealthy::default(),
            slow_start: None,
            connect_timeout: defaults::connect_timeout(),
            keepalive_timeout: defaults::keepalive_timeout(),
            max_idle_connections: defaults::max_idle_connections(),
            retries: defaults::retries(),
            resolve: defaults::resolve(),
            resolver: None,
            rebalance: None,
        }
    }
}

/// The rebalancing of WebSockets from overloaded endpoints to the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rebalance {
    /// Applies to an endpoint with more than this multiple of its share of the WebSockets, and at least 5 above it.
    /// Default 1.3.
    pub threshold: Placed<f64>,
    /// Closes the WebSockets above the share with 1012, spread over this time. At least 1s. Default 10m.
    pub window: Placed<Period>,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { threshold: unplaced(1.3), window: unplaced(seconds(600)) }
    }
}

/// A kind's name alone (`least_connections`), or a mapping with `kind:` and the kind's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct KindEntry {
    /// The kind's name.
    pub kind: Placed<String>,
    /// Its settings, without `kind`.
    pub settings: moongate_config::Settings,
}

/// The ejection of endpoints after failures of real traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveHealth {
    /// Ejects an endpoint after this many consecutive failures: failed connects, connections closed without a
    /// response, invalid responses and failed handshakes. `0`: off. Default 3.
    pub failures: u16,
    /// Keeps the endpoint ejected for this long unless a probe of the same kind succeeds earlier. `0s`: it returns at
    /// once. Default 10s.
    pub eject_for: Period,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { failures: 3, eject_for: seconds(10) }
    }
}

/// The selection of an endpoint when every endpoint is unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllUnhealthy {
    /// Chooses among all endpoints as if they were healthy; logged and counted.
    #[default]
    Any,
    /// Responds 503.
    Fail,
}

/// What happens to the WebSockets of an endpoint that its name or its discovery has no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRemoval {
    /// Closes them with 1012 over the `drain_window` of their routes.
    #[default]
    Drain,
    /// Keeps them.
    Keep,
    /// Closes them with 1012 at once.
    Close,
}

/// Matches requests and forwards them to an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Names the route for logs and metrics, and identifies it across reloads. Default `routes[N]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Placed<String>>,
    /// Matches a host exactly, with `*.example.com` or `www.example.*` one or more labels before or after it, or with
    /// `~regex` anywhere in it, in lower case and without a port. A list matches any of its items.
    /// Default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<OneOrMany<Placed<String>>>,
    /// Matches a prefix of whole segments, one path (`=/exact`) or a regular expression (`~regex`). A list matches
    /// any of its items. Default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<OneOrMany<Placed<String>>>,
    /// Handles parameters of path segments (`/a;x=1/b`) when matching: `ignore`, `reject` (400) or `keep`. Default
    /// ignore.
    #[serde(default)]
    pub path_parameters: PathParameters,
    /// Overrides `server.escaped_slashes` for this route. Default that of `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escaped_slashes: Option<EscapedSlashes>,
    /// Overrides `server.merge_slashes` for this route. Default that of `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_slashes: Option<MergeSlashes>,
    /// Matches these methods. TRACE must be listed; otherwise it gets 405. Default any but TRACE.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Placed<String>>,
    /// Matches header fields by exact value, `~regex` or `*` for any value. All must match. Default none.
    #[serde(default)]
    pub headers: IndexMap<String, Placed<String>>,
    /// Matches query parameters, in the same forms. Default none.
    #[serde(default)]
    pub query: IndexMap<String, Placed<String>>,
    /// Matches requests of these listeners, by name. Default all.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Placed<String>>,
    /// Matches requests for which this expression is true. Evaluated last. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Placed<String>>,
    /// Forwards to an upstream by name, to an inline list of endpoints, or to a mapping of names to weights. Required
    /// unless a plugin always responds: `respond`, `redirect` with `to`, or `maintenance` without `when_file` and
    /// `except`.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Placed<UpstreamRef>")]
    pub upstream: Option<Placed<UpstreamRef>>,
    /// Fails a request after this long without a response header, from the last byte of the request sent. `0s`: off.
    /// gRPC calls have their own deadline. Default 60s.
    #[serde(default = "defaults::timeout")]
    pub timeout: Period,
    /// Ends a response after this long without a byte of its body; a gRPC call, without a byte in either direction.
    /// `0s`: off. Default `60s`; `1h` for `text/event-stream` and gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<Period>,
    /// Cancels the request (`cancel`) or delivers the response (`finish`) when an HTTP/1.1 client closes its sending
    /// direction early. Default cancel.
    #[serde(default)]
    pub on_client_close: OnClientClose,
    /// Writes access log lines for this route. Default true.
    #[serde(default = "defaults::yes")]
    pub access_log: bool,
    /// Sets the WebSocket policy.
    #[serde(default)]
    pub websocket: WebSocket,
    /// Forwards `Upgrade` for these protocols, such as `tcp` or `SPDY/3.1`, and relays bytes after the 101 of the backend.
    /// `websocket` needs no entry. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<Placed<String>>,
    /// Runs these plugins after the top-level ones. Default none.
    #[serde(default)]
    pub plugins: Vec<Placed<PluginEntry>>,
}

/// The treatment of an HTTP/1.1 client that closes its sending direction (a FIN, or close_notify over TLS) before
/// its response is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnClientClose {
    /// Cancels the request at the backend.
    #[default]
    Cancel,
    /// Delivers the response; only a reset of the connection cancels the request.
    Finish,
}

/// The name of an upstream, an inline list of endpoints, or a mapping of upstreams to weights.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape an upstream's name, a list of endpoints, or a mapping of names to weights")]
#[schemars(untagged, rename = "UpstreamRef")]
pub enum UpstreamRef {
    /// The name of an upstream.
    #[serde(rename = "scalar")]
    Name(String),
    /// Endpoints, as an upstream of this route alone with every default.
    #[serde(rename = "list")]
    Inline(Vec<Placed<EndpointEntry>>),
    /// Names of upstreams with their weights.
    #[serde(rename = "map")]
    Weighted(IndexMap<String, Placed<u32>>),
}

/// The treatment of a request when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request ends with 500, since the plugin's check was not made.
    #[default]
    Closed,
    /// The request continues without the plugin.
    Open,
}

/// A plugin entry: its kind's name alone, or a mapping with `kind:`, `name:`, `on_error:`, `when:`, `owned_headers:` and
/// the kind's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    /// The kind's name.
    pub kind: Placed<String>,
    /// For logs and metrics; absent: the kind's name.
    pub name: Option<Placed<String>>,
    /// The treatment of a request when the plugin fails.
    pub on_error: OnError,
    /// An expression; the plugin runs for requests for which it is true.
    pub when: Option<Placed<String>>,
    /// Request fields that only this plugin may fill, besides those that its kind owns.
    pub owned_headers: Vec<Placed<String>>,
    /// Its settings, without the keys above.
    pub settings: moongate_config::Settings,
}

const fn seconds(n: u64) -> Period {
    Period(std::time::Duration::from_secs(n))
}

/// A default, which is in no file.
fn unplaced<T>(value: T) -> Placed<T> {
    Placed { value, place: Place::nowhere() }
}

/// The time for an attempt, which cannot be without a limit.
fn connect_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    positive(deserializer, "without it an attempt would never fail over; for a long wait write `1m`")
}

/// The maximum of `retries`: a request keeps the set of tried endpoints.
const MOST_RETRIES: u8 = 63;

fn retries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let retries = u8::deserialize(deserializer)?;
    if retries > MOST_RETRIES {
        return Err(serde::de::Error::custom(format!("the value must be 0 to {MOST_RETRIES}")));
    }
    Ok(retries)
}

/// A key that may be absent but not without a value: `upstream:` alone is an unfinished line.
fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Placed<UpstreamRef>>, D::Error> {
    Placed::deserialize(deserializer).map(Some)
}

/// A list that may be absent but not empty: an empty list would match every request.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Placed<String>>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("an empty list matches nothing; remove the key to match all"));
    }
    Ok(list)
}

/// Defaults that serde asks for by path.
mod defaults {
    use super::{EndpointEntry, Period, Placed, UpstreamProtocol, seconds, unplaced};

    pub(super) fn no_endpoints() -> Placed<Vec<Placed<EndpointEntry>>> {
        unplaced(Vec::new())
    }

    pub(super) fn connect_timeout() -> Period {
        seconds(2)
    }
    pub(super) fn keepalive_timeout() -> Period {
        seconds(60)
    }
    pub(super) fn max_idle_connections() -> u32 {
        512
    }
    pub(super) fn retries() -> u8 {
        2
    }
    pub(super) fn protocol() -> Placed<UpstreamProtocol> {
        unplaced(UpstreamProtocol::default())
    }
    pub(super) fn resolve() -> Placed<Period> {
        unplaced(seconds(30))
    }
    pub(super) fn timeout() -> Period {
        seconds(60)
    }
    pub(super) fn yes() -> bool {
        true
    }
}
