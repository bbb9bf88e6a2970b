//! Integration tests: the real binary, real sockets, real signals. One test binary, so that a change of the
//! gateway links the tests once. Unit tests cover single modules.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod access_log_lines;
mod acme;
mod admin;
mod admin_abuse;
mod admin_commands;
mod bad_backends;
mod balance;
mod catalogue;
mod cli;
mod client_close;
mod client_identity;
mod client_sessions;
#[cfg(debug_assertions)]
mod differential;
mod draining_sessions;
mod drains;
mod early_responses;
mod exchange_kinds;
mod expressions;
mod failover;
mod failures;
mod framing;
mod guards;
mod h2_websocket;
mod handshake_timeout;
mod health;
mod http2;
mod http2_abuse;
mod http2_malformed;
mod http2_plugins;
mod hung;
mod keep_alive;
mod kinds;
mod lifecycle;
mod listeners;
mod live;
mod loops;
#[cfg(feature = "luau")]
mod luau;
mod messages;
mod metrics;
mod monitoring;
mod one_fact;
mod path_parameters;
mod paths_as_sent;
mod plugin_answers;
mod plugin_bodies;
mod plugin_command;
mod plugin_faults;
mod process_log;
mod proxy_protocol;
mod refused_requests;
mod reload;
mod removed_upstreams;
mod routing;
mod spoofed_headers;
mod storms;
mod strictness;
mod subpath;
mod support;
mod terminal;
mod timeouts;
mod tls;
mod tls_rotation;
mod trace;
mod traces;
mod transfer_rates;
mod tunnel;
mod unreadable_files;
mod upstreams;
#[cfg(feature = "wasm")]
mod wasm;
mod websocket;
mod without_upstream;
