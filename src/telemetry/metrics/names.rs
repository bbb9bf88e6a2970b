//! Every metric the gateway exposes, in one table: name, labels, meaning. `docs/reference/metrics.md` is held equal to it by a test.

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Only grows while its owner lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted in buckets with these upper bounds, in ascending order.
    Histogram(&'static [f64]),
}

/// One metric name with its labels.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// As Prometheus sees it.
    pub name: &'static str,
    /// The names of its labels, in the order their values are given.
    pub labels: &'static [&'static str],
    /// One sentence for people who read dashboards.
    pub help: &'static str,
    /// What kind of number it is.
    pub shape: Shape,
}

/// The label value for "none": a request that no route matched, or that reached no upstream.
pub const NONE: &str = "-";

const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const ROUND_TRIP_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The bounds are the host's, which counts; these are told nobody.
const FILTERS_OWN: &[f64] = &[];
const LIFETIME_SECONDS: &[f64] =
    &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 604_800.0];
const MESSAGES: &[f64] = &[0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];

macro_rules! families {
    ($($name:ident = $shape:expr, $text:literal $labels:tt, $help:literal;)+) => {
        $(#[doc = $help] pub static $name: Family = Family { name: $text, labels: &$labels, help: $help, shape: $shape };)+
        /// Every family, in the order of the documentation.
        pub static ALL: &[&Family] = &[$(&$name),+];
    };
}

families! {
    HTTP_REQUESTS = Shape::Counter, "moongate_http_requests_total" ["route", "upstream", "status"],
        "Requests answered, WebSocket handshakes included; `-` where no route or upstream was reached.";
    HTTP_REQUEST_DURATION = Shape::Histogram(REQUEST_SECONDS), "moongate_http_request_duration_seconds" ["route"],
        "Time from a request's head to the end of its answer; WebSockets are not in it.";
    HTTP_CLIENT_ABORTS = Shape::Counter, "moongate_http_client_aborts_total" ["route", "reason"],
        "Requests that ended for their client: it left (`client_gone`), or sent (`body_timeout`) or read (`send_timeout`) too slowly.";
    HTTP_REQUESTS_FAILED = Shape::Counter, "moongate_http_requests_failed_total" ["reason"],
        "Requests that the gateway answered by itself because it refused them or had no response for them, by the reason in the response and the access log.";
    UPSTREAM_HEALTHY = Shape::Gauge, "moongate_upstream_healthy" ["upstream", "endpoint"],
        "1 when the endpoint may get traffic, 0 when probes or failures put it out.";
    UPSTREAM_CONNECTIONS_ACTIVE = Shape::Gauge, "moongate_upstream_connections_active" ["upstream", "endpoint"],
        "Requests and WebSockets at the endpoint now. An endpoint, or an upstream, that was removed stays until its last one has ended.";
    UPSTREAM_FAILURES = Shape::Counter, "moongate_upstream_failures_total" ["upstream", "endpoint", "reason"],
        "Attempts that failed at the endpoint, retried ones included; the reasons are those of responses, and for redials handshake_refused and other_agreement.";
    UPSTREAM_ALL_UNHEALTHY = Shape::Counter, "moongate_upstream_all_unhealthy_total" ["upstream"],
        "Choices made or refused while every endpoint was unhealthy.";
    UPSTREAM_RESOLVE_FAILURES = Shape::Counter, "moongate_upstream_resolve_failures_total" ["upstream"],
        "Host names of the upstream that could not be resolved; the addresses known before stay in use.";
    NAME_LOOKUPS = Shape::Counter, "moongate_name_lookups_total" ["result"],
        "Lookups of host names, for upstreams, plugins' calls and certificates: `resolved`, `not_found`, `failed` or `timed_out`. Answers from the cache do not count.";
    NAME_LOOKUPS_SLOW = Shape::Counter, "moongate_name_lookups_slow_total" [],
        "Lookups of host names that took longer than 1 s.";
    PROXY_PROTOCOL_ERRORS = Shape::Counter, "moongate_proxy_protocol_errors_total" ["listener", "reason"],
        "Connections ended for their PROXY header, or for the lack of one.";
    WEBSOCKET_ACTIVE = Shape::Gauge, "moongate_websocket_connections_active" ["route", "upstream", "endpoint"],
        "WebSockets open now.";
    WEBSOCKET_OPENED = Shape::Counter, "moongate_websocket_opened_total" ["route", "upstream", "endpoint"],
        "WebSockets opened; one that was moved counts at each of its endpoints.";
    WEBSOCKET_CLOSED = Shape::Counter, "moongate_websocket_closed_total" ["route", "code", "by", "reason"],
        "WebSockets closed, by close code (`none` without a Close frame, `other` past 32 private codes), who closed and why.";
    WEBSOCKET_RECONNECTED = Shape::Counter, "moongate_websocket_reconnected_total" ["route", "upstream", "result"],
        "Endpoints lost by WebSockets that may be moved, by what became of them: `moved`, `failed` or `impossible`.";
    WEBSOCKET_MESSAGES = Shape::Counter, "moongate_websocket_messages_total" ["route", "direction", "opcode"],
        "Messages and control frames relayed.";
    WEBSOCKET_BYTES = Shape::Counter, "moongate_websocket_bytes_total" ["route", "direction"],
        "Bytes relayed after the handshake, frame headers included.";
    WEBSOCKET_LIFETIME = Shape::Histogram(LIFETIME_SECONDS), "moongate_websocket_lifetime_seconds" ["route"],
        "How long WebSockets lived, observed when they end.";
    WEBSOCKET_LIFETIME_MESSAGES = Shape::Histogram(MESSAGES), "moongate_websocket_lifetime_messages" ["route"],
        "Messages of a WebSocket in both directions, observed when it ends.";
    WEBSOCKET_PING_RTT = Shape::Histogram(ROUND_TRIP_SECONDS), "moongate_websocket_ping_rtt_seconds" ["route", "side"],
        "Time from the gateway's ping to the pong of that side.";
    PLUGIN_CALLS = Shape::Counter, "moongate_plugin_calls_total" ["plugin", "kind", "phase"],
        "Calls of a plugin; pieces of bodies and messages each count.";
    PLUGIN_ERRORS = Shape::Counter, "moongate_plugin_errors_total" ["plugin", "kind", "phase"],
        "Calls that failed or panicked, whatever `on_error` made of them.";
    PLUGIN_SECONDS = Shape::Counter, "moongate_plugin_seconds_total" ["plugin", "kind", "phase"],
        "Time in a plugin: one call in 16 is timed and counts for all of them; waits are exact.";
    EXPRESSION_FAILURES = Shape::Counter, "moongate_expression_failures_total" [],
        "Conditions and values that could not be evaluated for a request; a condition does not hold then.";
    WASM_COUNTER = Shape::Counter, "moongate_wasm_counter_total" ["plugin", "metric"],
        "Counters that WebAssembly filters define, by the name that the filter gives them.";
    WASM_GAUGE = Shape::Gauge, "moongate_wasm_gauge" ["plugin", "metric"],
        "Gauges that WebAssembly filters define.";
    WASM_HISTOGRAM = Shape::Histogram(FILTERS_OWN), "moongate_wasm_histogram" ["plugin", "metric"],
        "Histograms that WebAssembly filters define, in the filter's own unit.";
    HTTP2_CONNECTIONS = Shape::Gauge, "moongate_http2_connections" [],
        "Connections of clients that speak HTTP/2, now.";
    HTTP2_CLOSED = Shape::Counter, "moongate_http2_connections_closed_total" ["reason"],
        "Connections of clients that spoke HTTP/2, by why they ended: `client`, `idle` (or the process ended), `slow`, `error`, `flood`, `malformed`.";
    TLS_HANDSHAKES = Shape::Counter, "moongate_tls_handshakes_total" ["listener", "result", "version"],
        "TLS handshakes with clients, whole ones (`full`) and those that went on with an earlier session (`resumed`).";
    TLS_HANDSHAKE_FAILURES = Shape::Counter, "moongate_tls_handshake_failures_total" ["listener", "reason"],
        "TLS handshakes with clients that came to nothing.";
    TLS_CERTIFICATE_EXPIRY = Shape::Gauge, "moongate_tls_certificate_expiry_timestamp_seconds" ["listener", "certificate"],
        "The last second of a certificate that serves, in Unix seconds.";
    TLS_ROTATIONS = Shape::Counter, "moongate_tls_rotations_total" ["listener", "result"],
        "Changes of a listener's certificate and key files without a reload: `taken`, or `refused` while what was there serves on.";
    ACME_ISSUED = Shape::Counter, "moongate_acme_issued_total" ["certificate", "directory"],
        "Certificates that an authority issued to this process.";
    ACME_FAILURES = Shape::Counter, "moongate_acme_failures_total" ["certificate", "directory", "reason"],
        "Tries to get a certificate that failed; the one before serves on.";
    ACME_LAST_SUCCESS = Shape::Gauge, "moongate_acme_last_success_timestamp_seconds" ["certificate", "directory"],
        "When the certificate was last issued, in Unix seconds; absent until there is one.";
    ACME_EXPIRY = Shape::Gauge, "moongate_acme_certificate_expiry_timestamp_seconds" ["certificate", "directory"],
        "When the certificate expires, in Unix seconds; absent until there is one.";
    ADMIN_CONNECTIONS_EVICTED = Shape::Counter, "moongate_admin_connections_evicted_total" [],
        "Connections of the admin address that were closed to make room for new ones.";
    ACCESS_LOG_DROPPED = Shape::Counter, "moongate_access_log_dropped_total" [],
        "Access-log lines lost because the buffer was full or the file could not be written.";
    TASK_RESTARTS = Shape::Counter, "moongate_task_restarts_total" ["task"],
        "Long-lived tasks of the process that panicked and were started again.";
    CONFIG_LAST_RELOAD_SUCCESSFUL = Shape::Gauge, "moongate_config_last_reload_successful" [],
        "1 when the newest configuration serves, 0 when it was refused and the one before serves on.";
    CONFIG_GENERATION = Shape::Gauge, "moongate_config_generation" [],
        "How many configurations have been taken since the start; the one that serves has this number.";
    CONFIG_LAST_RELOAD_TIMESTAMP = Shape::Gauge, "moongate_config_last_reload_timestamp_seconds" [],
        "When a configuration was last taken or refused, in Unix seconds.";
    BUILD_INFO = Shape::Gauge, "moongate_build_info" ["version"],
        "Always 1.";
    PROCESS_CPU = Shape::Counter, "process_cpu_seconds_total" [],
        "CPU time of the process, user and system.";
    PROCESS_RESIDENT = Shape::Gauge, "process_resident_memory_bytes" [],
        "Resident memory.";
    PROCESS_OPEN_FDS = Shape::Gauge, "process_open_fds" [],
        "Open file descriptors.";
    PROCESS_MAX_FDS = Shape::Gauge, "process_max_fds" [],
        "The limit of open file descriptors.";
    PROCESS_THREADS = Shape::Gauge, "process_threads" [],
        "Threads of the process.";
    PROCESS_START = Shape::Gauge, "process_start_time_seconds" [],
        "When the process started, in Unix seconds.";
}
