//! Types of the configuration file. Every name here is part of the documentation and the JSON Schema.

use super::endpoint::EndpointEntry;
use super::server::{AccessLog, Admin, Listener, Server, positive};
use super::tls::{ProxyVersion, UpstreamProtocol, UpstreamTls};
use super::{EscapedSlashes, MergeSlashes, PathParameters, WebSocket, short_or_long};
use indexmap::IndexMap;
use moongate_config::{Period, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The process.
    pub server: Server,
    /// The administrator's address; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Placed<Admin>>,
    /// Where clients connect; absent: one at 127.0.0.1:8080.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<Placed<Listener>>>,
    /// The access log: a mapping, or its format alone (`access_log: off`).
    #[serde(deserialize_with = "short_or_long::access_log")]
    #[schemars(schema_with = "short_or_long::access_log_schema")]
    pub access_log: AccessLog,
    /// The clusters of backends, by name.
    pub upstreams: IndexMap<String, Placed<Upstream>>,
    /// The routes; the most specific wins, ties by order.
    pub routes: Vec<Placed<Route>>,
    /// Plugins for every route, before the route's own.
    pub plugins: Vec<Placed<PluginEntry>>,
}

/// A cluster of backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// ip:port, name:port or unix:/path, each alone or with a weight.
    pub endpoints: Vec<Placed<EndpointEntry>>,
    /// How an endpoint is chosen: a kind's name, or a mapping with `kind:`. Default: round_robin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<KindEntry>,
    /// What the backends speak.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS to the backends; absent: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Placed<UpstreamTls>>,
    /// The version of the PROXY protocol that begins each connection to a backend; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// How endpoints are probed; absent: only passive health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<KindEntry>,
    /// What refused connects and failed handshakes do.
    #[serde(default)]
    pub passive_health: PassiveHealth,
    /// When every endpoint is unhealthy.
    #[serde(default)]
    pub when_all_unhealthy: WhenAllUnhealthy,
    /// Over which time the weight of an endpoint that has just come, or come back, grows from a tenth to the
    /// whole; at the process's start nobody is new. `0s` or absent: it has its whole weight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Period>,
    /// How long a connect may take, longer than 0. Default 2s.
    #[serde(default = "defaults::connect_timeout", deserialize_with = "positive")]
    pub connect_timeout: Period,
    /// How long an idle connection is kept for reuse, longer than 0. Default 60s.
    #[serde(default = "defaults::keepalive_timeout", deserialize_with = "positive")]
    pub keepalive_timeout: Period,
    /// Further endpoints tried after the first, for what is safe to repeat: 0 to 63. Default 2.
    #[serde(default = "defaults::retries", deserialize_with = "retries")]
    #[schemars(range(max = 63))]
    pub retries: u8,
    /// The longest time after which a host name is looked up again. It is looked up earlier when its TTL is shorter, but
    /// not before 1s has passed, and 5s after a lookup that failed. Longer than 0. Default 30s.
    #[serde(default = "defaults::resolve", deserialize_with = "positive")]
    pub resolve: Period,
    /// What looks host names up: `hickory` asks name servers without blocking a thread and honours TTLs; `system` calls
    /// getaddrinfo, for names that only nsswitch knows. Absent: that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<ResolverKind>,
    /// Whether WebSockets of an endpoint that holds more than its share are asked to come again; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Placed<Rebalance>>,
}

impl Upstream {
    /// These endpoints with every default, as a route's inline list means them.
    pub fn of(endpoints: Vec<Placed<EndpointEntry>>) -> Self {
        Self {
            endpoints,
            balance: None,
            protocol: UpstreamProtocol::default(),
            tls: None,
            proxy_protocol: None,
            health_check: None,
            passive_health: PassiveHealth::default(),
            when_all_unhealthy: WhenAllUnhealthy::default(),
            slow_start: None,
            connect_timeout: defaults::connect_timeout(),
            keepalive_timeout: defaults::keepalive_timeout(),
            retries: defaults::retries(),
            resolve: defaults::resolve(),
            resolver: None,
            rebalance: None,
        }
    }
}

/// What looks host names up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolverKind {
    /// The gateway asks name servers itself.
    #[default]
    Hickory,
    /// `getaddrinfo`.
    System,
}

/// When and how WebSockets move from endpoints that hold too many to those that hold too few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rebalance {
    /// An endpoint that holds more than so many times its share is relieved of what is above it. Default 1.3.
    pub threshold: f64,
    /// The time over which those who should move are asked to come again (Close 1012), at least 1s. Default 10m.
    pub window: Period,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { threshold: 1.3, window: seconds(600) }
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

/// What refused connects and failed handshakes do to an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveHealth {
    /// Failures in a row that put it out; 0 switches this off. Default 3.
    pub failures: u16,
    /// How long it stays out when no active probe brings it back earlier. `0s`: it is back at once. Default 10s.
    pub eject_for: Period,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { failures: 3, eject_for: seconds(10) }
    }
}

/// When every endpoint is unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllUnhealthy {
    /// Choose among all as if they were healthy: counted and logged.
    #[default]
    Any,
    /// Answer 503.
    Fail,
}

/// A rule that sends requests to an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// For logs and metrics; absent: `routes[N]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Placed<String>>,
    /// Exact, or `*.example.com`; a list is any of them; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<OneOrMany<Placed<String>>>,
    /// A prefix of whole segments, `=/exact`, or `~regex`; a list is any of them; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<OneOrMany<Placed<String>>>,
    /// What the parameters of path segments (`;x=1`) are for matching. Default: ignore.
    #[serde(default)]
    pub path_parameters: PathParameters,
    /// As `server.escaped_slashes`, for this route. Default: what the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escaped_slashes: Option<EscapedSlashes>,
    /// As `server.merge_slashes`, for this route. Default: what the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_slashes: Option<MergeSlashes>,
    /// Methods; absent: any but TRACE.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Placed<String>>,
    /// Request fields that must be there with exactly this value, or `~regex`, or `*` for any.
    #[serde(default)]
    pub headers: IndexMap<String, Placed<String>>,
    /// Query parameters, likewise.
    #[serde(default)]
    pub query: IndexMap<String, Placed<String>>,
    /// Names of listeners; absent: all.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Placed<String>>,
    /// An expression that must hold as well, as in `request.client_ip != "192.0.2.1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Placed<String>>,
    /// A name, an inline list of endpoints, or a weighted mapping.
    pub upstream: Placed<UpstreamRef>,
    /// How long a backend may take to the head of its response, from the last byte of the request that it was sent.
    /// `0s` switches it off. Default 60s.
    #[serde(default = "defaults::timeout")]
    pub timeout: Period,
    /// The longest silence inside a response's body; of a gRPC call, in both directions. `0s` switches it off. Default
    /// 60s, and 1h for `text/event-stream` and gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<Period>,
    /// What happens when an HTTP/1.1 client closes its direction while its response is awaited or under way.
    #[serde(default)]
    pub on_client_close: OnClientClose,
    /// Whether the access log has lines of this route.
    #[serde(default = "defaults::yes")]
    pub access_log: bool,
    /// The policy of this route's WebSockets.
    #[serde(default)]
    pub websocket: WebSocket,
    /// The route's plugins, in order.
    #[serde(default)]
    pub plugins: Vec<Placed<PluginEntry>>,
}

/// What happens when an HTTP/1.1 client closes its direction (a FIN, or close_notify over TLS) while its response is
/// awaited or under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnClientClose {
    /// The client has left: the backend's request is cancelled.
    #[default]
    Cancel,
    /// The response is still delivered; only a reset of the connection cancels the request.
    Finish,
}

/// Where a route sends its requests.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape an upstream's name, a list of endpoints, or a mapping of names and shares")]
#[schemars(untagged, rename = "UpstreamRef")]
pub enum UpstreamRef {
    /// The name of an upstream.
    #[serde(rename = "scalar")]
    Name(String),
    /// Endpoints, as an upstream of this route alone with every default.
    #[serde(rename = "list")]
    Inline(Vec<Placed<EndpointEntry>>),
    /// Names of upstreams with their shares.
    #[serde(rename = "map")]
    Weighted(IndexMap<String, Placed<u32>>),
}

/// One or a list.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape text or a list of texts")]
#[schemars(untagged, rename = "OneOrMany_{T}")]
pub enum OneOrMany<T> {
    /// One.
    #[serde(rename = "scalar")]
    One(T),
    /// Any of these.
    #[serde(rename = "list")]
    Many(Vec<T>),
}

/// A plugin entry: its kind's name alone, or a mapping with `kind:`, `name:`, `on_error:`, `when:`, `owned_headers:` and
/// the kind's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    /// The kind's name.
    pub kind: Placed<String>,
    /// For logs and metrics; absent: the kind's name.
    pub name: Option<Placed<String>>,
    /// What becomes of a request when it fails.
    pub on_error: short_or_long::OnError,
    /// An expression; the plugin takes part in requests for which it holds.
    pub when: Option<Placed<String>>,
    /// Request fields that this plugin fills and that no client may, besides those that its kind names itself.
    pub owned_headers: Vec<Placed<String>>,
    /// Its settings, without the keys above.
    pub settings: moongate_config::Settings,
}

const fn seconds(n: u64) -> Period {
    Period(std::time::Duration::from_secs(n))
}

/// The most endpoints that are tried after the first: a request remembers which it was at.
const MOST_RETRIES: u8 = 63;

fn retries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let retries = u8::deserialize(deserializer)?;
    if retries > MOST_RETRIES {
        return Err(serde::de::Error::custom(format!("must be 0 to {MOST_RETRIES}")));
    }
    Ok(retries)
}

/// A list that is left out when it asks nothing: an emptied one would let everything through.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Placed<String>>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("an empty list matches nothing; remove the key to match all"));
    }
    Ok(list)
}

/// Defaults that serde asks for by path.
mod defaults {
    use super::{Period, seconds};

    pub(super) fn connect_timeout() -> Period {
        seconds(2)
    }
    pub(super) fn keepalive_timeout() -> Period {
        seconds(60)
    }
    pub(super) fn retries() -> u8 {
        2
    }
    pub(super) fn resolve() -> Period {
        seconds(30)
    }
    pub(super) fn timeout() -> Period {
        seconds(60)
    }
    pub(super) fn yes() -> bool {
        true
    }
}
