//! Table of all metrics: name, labels, meaning. A test keeps `docs/reference/metrics.md` equal to it.

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Only grows, for the lifetime of its owner.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Always 1; the labels are the information.
    Info,
    /// Observations counted in buckets with these upper bounds, in ascending order.
    Histogram(&'static [f64]),
}

/// A metric name with its labels.
#[derive(Debug, PartialEq)]
pub(crate) struct Family {
    /// The name in Prometheus.
    pub name: &'static str,
    /// Label names, in the order of their values.
    pub labels: &'static [&'static str],
    /// One sentence for dashboards.
    pub help: &'static str,
    /// The type of the family.
    pub shape: Shape,
}

/// Units of names (OpenMetrics 1.0, "Units and Base Units").
const UNITS: [&str; 2] = ["seconds", "bytes"];

impl Family {
    /// The name of the family in OpenMetrics, which lacks the suffix of its samples.
    pub(super) fn open_metrics_name(&self) -> &'static str {
        let suffix = match self.shape {
            Shape::Counter => "_total",
            Shape::Info => "_info",
            Shape::Gauge | Shape::Histogram(_) => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// The unit at the end of the name, if there is one.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.open_metrics_name().rsplit_once('_')?;
        UNITS.into_iter().find(|unit| *unit == last)
    }
}

/// The label value of a request without a route or upstream.
pub(crate) const NONE: &str = "-";

const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const ROUND_TRIP_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Empty: the WebAssembly host defines the bounds.
#[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "of the feature's histograms"))]
const FILTERS_OWN: &[f64] = &[];
const STORE_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
const LIFETIME_SECONDS: &[f64] =
    &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 604_800.0];
const MESSAGES: &[f64] = &[0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];

macro_rules! families {
    ($($name:ident = $shape:expr, $text:literal $labels:tt, $help:literal;)+) => {
        $(#[doc = $help] #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "some belong to a feature"))] pub(crate) static $name: Family = Family { name: $text, labels: &$labels, help: $help, shape: $shape };)+
        /// Every family, in the order of the documentation.
        pub(crate) static ALL: &[&Family] = &[$(&$name),+];
    };
}

families! {
    HTTP_REQUESTS = Shape::Counter, "moongate_http_requests_total" ["route", "upstream", "status"],
        "Requests completed, those that upgraded their connection included; `-` where no route matched or no upstream was reached.";
    HTTP_REQUEST_DURATION = Shape::Histogram(REQUEST_SECONDS), "moongate_http_request_duration_seconds" ["route"],
        "Time from a request's header to the end of its response, in seconds; WebSockets are not included.";
    HTTP_CLIENT_ABORTS = Shape::Counter, "moongate_http_client_aborts_total" ["route", "reason"],
        "Requests ended by their client: it disconnected (`client_gone`), sent its body too slowly (`body_timeout`), or read its response too slowly (`send_timeout`).";
    HTTP_REQUESTS_FAILED = Shape::Counter, "moongate_http_requests_failed_total" ["reason"],
        "Requests that failed or were rejected by the gateway, by the reason in the response and in the access log.";
    UPSTREAM_HEALTHY = Shape::Gauge, "moongate_upstream_healthy" ["upstream", "endpoint"],
        "1 if the endpoint is healthy, 0 if health checks or failures made it unhealthy.";
    UPSTREAM_CONNECTIONS_ACTIVE = Shape::Gauge, "moongate_upstream_connections_active" ["upstream", "endpoint"],
        "Active requests, WebSockets and other upgraded connections at the endpoint; a removed endpoint is reported until its last connection ends.";
    UPSTREAM_FAILURES = Shape::Counter, "moongate_upstream_failures_total" ["upstream", "endpoint", "reason"],
        "Failed attempts at the endpoint, retried ones included; redials of WebSockets add the reasons handshake_refused and other_agreement.";
    UPSTREAM_ALL_UNHEALTHY = Shape::Counter, "moongate_upstream_all_unhealthy_total" ["upstream"],
        "Selections among all endpoints of the upstream while every one was unhealthy.";
    UPSTREAM_RESOLVE_FAILURES = Shape::Counter, "moongate_upstream_resolve_failures_total" ["upstream"],
        "Failed lookups of the upstream's host names; the last known addresses stay in use.";
    DISCOVERY_ENDPOINTS = Shape::Gauge, "moongate_discovery_endpoints" ["upstream", "state"],
        "Endpoints of an upstream with `discovery`, by state: `ready`, `leaving`, `absent` (not announced any more and still kept) or `rejected` (announced with an error).";
    DISCOVERY_CHANGES = Shape::Counter, "moongate_discovery_changes_total" ["upstream"],
        "Changes of the endpoints that the upstream's discovery announced.";
    SOURCE_LAST_SUCCESS = Shape::Gauge, "moongate_source_last_success_timestamp_seconds" ["source"],
        "When the source was last read successfully, in Unix seconds.";
    SOURCE_ERRORS = Shape::Counter, "moongate_source_errors_total" ["source", "reason"],
        "Failed reads of the source, and its parts with an error (`invalid`); what it gave before stays in use.";
    SOURCE_OBJECTS = Shape::Gauge, "moongate_source_objects" ["source", "kind", "state"],
        "Objects of a source of configuration, by state: `used`, or `rejected` (not in use, or only in an earlier version).";
    NAME_LOOKUPS = Shape::Counter, "moongate_name_lookups_total" ["result"],
        "Lookups of host names for upstreams, plugin calls and certificates, by result: `resolved`, `not_found`, `failed` or `timed_out`. Cached results are not counted.";
    NAME_LOOKUPS_SLOW = Shape::Counter, "moongate_name_lookups_slow_total" [],
        "Lookups of host names that took longer than 1 s.";
    PROXY_PROTOCOL_ERRORS = Shape::Counter, "moongate_proxy_protocol_errors_total" ["listener", "reason"],
        "Connections closed because their PROXY header was missing or invalid.";
    WEBSOCKET_ACTIVE = Shape::Gauge, "moongate_websocket_connections_active" ["route", "upstream", "endpoint"],
        "WebSockets open now.";
    WEBSOCKET_OPENED = Shape::Counter, "moongate_websocket_opened_total" ["route", "upstream", "endpoint"],
        "WebSockets opened; one that moved to another endpoint counts at each of its endpoints.";
    WEBSOCKET_CLOSED = Shape::Counter, "moongate_websocket_closed_total" ["route", "code", "by", "reason"],
        "WebSockets closed, by close code (`none` without a Close frame, `other` beyond 32 private codes), by the side that closed and by reason.";
    WEBSOCKET_RECONNECTED = Shape::Counter, "moongate_websocket_reconnected_total" ["route", "upstream", "result"],
        "Endpoints lost by WebSockets with `on_endpoint_loss: reconnect`, by result: `moved`, `failed` or `impossible`.";
    WEBSOCKET_MESSAGES = Shape::Counter, "moongate_websocket_messages_total" ["route", "direction", "opcode"],
        "Messages and control frames relayed.";
    WEBSOCKET_BYTES = Shape::Counter, "moongate_websocket_bytes_total" ["route", "direction"],
        "Bytes relayed after the handshake, frame headers included.";
    WEBSOCKET_LIFETIME = Shape::Histogram(LIFETIME_SECONDS), "moongate_websocket_lifetime_seconds" ["route"],
        "Lifetime of a WebSocket in seconds, observed when it ends.";
    WEBSOCKET_LIFETIME_MESSAGES = Shape::Histogram(MESSAGES), "moongate_websocket_lifetime_messages" ["route"],
        "Messages of a WebSocket in both directions, observed when it ends.";
    WEBSOCKET_PING_RTT = Shape::Histogram(ROUND_TRIP_SECONDS), "moongate_websocket_ping_rtt_seconds" ["route", "side"],
        "Time from the gateway's ping to the pong of that side, in seconds.";
    UPGRADED_ACTIVE = Shape::Gauge, "moongate_upgraded_connections_active" ["route", "protocol", "upstream", "endpoint"],
        "Connections open now that were upgraded to a protocol of `upgrades`.";
    UPGRADED_OPENED = Shape::Counter, "moongate_upgraded_opened_total" ["route", "protocol", "upstream", "endpoint"],
        "Connections upgraded to a protocol of `upgrades`.";
    UPGRADED_CLOSED = Shape::Counter, "moongate_upgraded_closed_total" ["route", "protocol", "by", "reason"],
        "Upgraded connections closed, by the side that closed and by reason.";
    UPGRADED_BYTES = Shape::Counter, "moongate_upgraded_bytes_total" ["route", "protocol", "direction"],
        "Bytes relayed after the upgrade.";
    UPGRADED_LIFETIME = Shape::Histogram(LIFETIME_SECONDS), "moongate_upgraded_lifetime_seconds" ["route"],
        "Lifetime of an upgraded connection in seconds, observed when it ends.";
    PLUGIN_CALLS = Shape::Counter, "moongate_plugin_calls_total" ["plugin", "kind", "phase"],
        "Calls of a plugin; each body chunk and each message is a call.";
    PLUGIN_ERRORS = Shape::Counter, "moongate_plugin_errors_total" ["plugin", "kind", "phase"],
        "Plugin calls that failed or panicked, with any `on_error`.";
    PLUGIN_SECONDS = Shape::Counter, "moongate_plugin_seconds_total" ["plugin", "kind", "phase"],
        "Time spent in a plugin, in seconds. One call in 16 is timed and counted 16 times; waiting time is exact.";
    EXPRESSION_FAILURES = Shape::Counter, "moongate_expression_failures_total" [],
        "Failed evaluations of expressions; a condition that fails is false.";
    WASM_COUNTER = Shape::Counter, "moongate_wasm_counted_total" ["plugin", "metric"],
        "Counters defined by WebAssembly filters, by the filter's own metric name.";
    WASM_GAUGE = Shape::Gauge, "moongate_wasm_value" ["plugin", "metric"],
        "Gauges defined by WebAssembly filters.";
    WASM_HISTOGRAM = Shape::Histogram(FILTERS_OWN), "moongate_wasm_observed" ["plugin", "metric"],
        "Histograms defined by WebAssembly filters, in the filter's own unit.";
    HTTP2_CONNECTIONS = Shape::Gauge, "moongate_http2_connections" [],
        "Open HTTP/2 connections of clients.";
    HTTP2_CLOSED = Shape::Counter, "moongate_http2_connections_closed_total" ["reason"],
        "Closed HTTP/2 connections of clients, by reason: `client`, `idle` (or the process ended), `slow`, `error`, `flood` or `malformed`.";
    TLS_HANDSHAKES = Shape::Counter, "moongate_tls_handshakes_total" ["listener", "result", "version"],
        "Completed TLS handshakes with clients, by result: `full` or `resumed`.";
    TLS_HANDSHAKE_FAILURES = Shape::Counter, "moongate_tls_handshake_failures_total" ["listener", "reason"],
        "Failed TLS handshakes with clients.";
    TLS_CERTIFICATE_EXPIRY = Shape::Gauge, "moongate_tls_certificate_expiry_timestamp_seconds" ["listener", "certificate"],
        "Expiry of a certificate in use, in Unix seconds.";
    TLS_ROTATIONS = Shape::Counter, "moongate_tls_rotations_total" ["listener", "result"],
        "Changed certificate and key files of a listener, by result: `taken` (applied), or `refused` (the old files stay in use).";
    ACME_ISSUED = Shape::Counter, "moongate_acme_issued_total" ["certificate", "directory"],
        "Certificates issued to this process by a certificate authority.";
    ACME_FAILURES = Shape::Counter, "moongate_acme_failures_total" ["certificate", "directory", "reason"],
        "Certificate requests that failed; the previous certificate stays in use.";
    ACME_LAST_SUCCESS = Shape::Gauge, "moongate_acme_last_success_timestamp_seconds" ["certificate", "directory"],
        "Time of the last issuance of the certificate, in Unix seconds; absent before the first one.";
    ACME_EXPIRY = Shape::Gauge, "moongate_acme_certificate_expiry_timestamp_seconds" ["certificate", "directory"],
        "Expiry of the certificate, in Unix seconds; absent before the first issuance.";
    ADMIN_CONNECTIONS_EVICTED = Shape::Counter, "moongate_admin_connections_evicted_total" [],
        "Connections of the admin address closed to make room for new ones.";
    ACCESS_LOG_DROPPED = Shape::Counter, "moongate_access_log_dropped_total" [],
        "Access log lines dropped because the buffer was full or the file could not be written.";
    TRACING_EXPORTED = Shape::Counter, "moongate_tracing_spans_exported_total" [],
        "Spans of traces that the collector accepted.";
    TRACING_DROPPED = Shape::Counter, "moongate_tracing_spans_dropped_total" ["reason"],
        "Spans of traces that were not exported, by reason: `queue_full`, `unavailable` (no success within 60 s), `refused` (the export, by its status), `rejected` (single spans, by the collector), `shutdown`, or `disabled` (a WebSocket closed after a reload without `tracing`).";
    STORE_UP = Shape::Gauge, "moongate_store_up" ["store"],
        "1 if the store of shared limits is available, 0 while its `on_failure` applies.";
    STORE_REQUESTS = Shape::Counter, "moongate_store_requests_total" ["store", "outcome"],
        "Requests to the store, by outcome: `ok`, `timeout` (no response within `deadline`), `error`, or `unavailable` (not asked; `on_failure` applied).";
    STORE_DURATION = Shape::Histogram(STORE_SECONDS), "moongate_store_duration_seconds" ["store"],
        "Time of a request to the store with the outcome `ok`, in seconds.";
    TASK_RESTARTS = Shape::Counter, "moongate_task_restarts_total" ["task"],
        "Long-lived tasks of the process restarted after a panic.";
    CONFIG_LAST_RELOAD_SUCCESSFUL = Shape::Gauge, "moongate_config_last_reload_successful" [],
        "1 if the last configuration load was applied, 0 if it was rejected; the previous configuration stays in use.";
    CONFIG_GENERATION = Shape::Gauge, "moongate_config_generation" [],
        "Number of the configuration in use: configurations applied since the start.";
    CONFIG_LAST_RELOAD_TIMESTAMP = Shape::Gauge, "moongate_config_last_reload_timestamp_seconds" [],
        "Time of the last applied or rejected configuration, in Unix seconds.";
    BUILD_INFO = Shape::Info, "moongate_build_info" ["version"],
        "Always 1; the label `version` has the version.";
    PROCESS_CPU = Shape::Counter, "process_cpu_seconds_total" [],
        "CPU time of the process, user and system, in seconds.";
    PROCESS_RESIDENT = Shape::Gauge, "process_resident_memory_bytes" [],
        "Resident memory of the process, in bytes.";
    PROCESS_OPEN_FDS = Shape::Gauge, "process_open_fds" [],
        "Open file descriptors.";
    PROCESS_MAX_FDS = Shape::Gauge, "process_max_fds" [],
        "Limit on open file descriptors.";
    PROCESS_THREADS = Shape::Gauge, "process_threads" [],
        "Threads of the process.";
    PROCESS_START = Shape::Gauge, "process_start_time_seconds" [],
        "Start time of the process, in Unix seconds.";
}
