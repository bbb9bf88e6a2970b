//! The settings of `tracing`.

use indexmap::IndexMap;
use moongate_config::{Period, Place, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// OpenTelemetry traces, exported over OTLP/HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Exports spans to this collector, an `http://` or `https://` URL. `/v1/traces` is added to its path. Required.
    pub otlp: Placed<String>,
    /// Samples this share of the traces that begin at the gateway, 0 to 1. A continued trace has the decision of its
    /// `traceparent`. Default 1.
    #[serde(default = "sampling")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sampling: Placed<f64>,
    /// Names the gateway in traces (`service.name`). Default moongate.
    #[serde(default = "service_name")]
    pub service_name: Placed<String>,
    /// Continues the trace of the `traceparent` of every client (`follow`), of `server.trusted_proxies` (`trusted`),
    /// or begins a trace for every request (`ignore`). Default follow.
    #[serde(default)]
    pub parent: TraceParent,
    /// Adds these header fields to every export, as `authorization: Bearer ${TOKEN}`. Default none.
    #[serde(default)]
    pub headers: IndexMap<String, Placed<String>>,
    /// Fails an export after this long. Longer than 0. Default 10s.
    #[serde(default = "timeout", deserialize_with = "positive")]
    pub timeout: Period,
    /// Keeps at most this many finished spans for the next exports, 512 to 65536. Spans beyond it are dropped and
    /// counted. Default 2048.
    #[serde(default = "queue")]
    #[schemars(range(min = 512, max = 65536))]
    pub queue: Placed<u32>,
}

/// Whose `traceparent` is continued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceParent {
    /// That of every client, which decides about sampling.
    #[default]
    Follow,
    /// That of a trusted proxy; other clients begin a trace.
    Trusted,
    /// None: every request begins a trace.
    Ignore,
}

fn default<T>(value: T) -> Placed<T> {
    Placed { value, place: Place::nowhere() }
}

fn sampling() -> Placed<f64> {
    default(1.0)
}

fn service_name() -> Placed<String> {
    default("moongate".to_owned())
}

fn timeout() -> Period {
    Period::seconds(10)
}

fn queue() -> Placed<u32> {
    default(2048)
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    super::server::positive(deserializer, "without it a collector that never responds would stop all exports")
}
