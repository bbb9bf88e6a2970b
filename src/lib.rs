//! Moongate, a programmable gateway for WebSocket clusters and the HTTP beside them.
//!
//! One way through:
//!
//! ```text
//! bytes --spec::load--> Spec --snapshot::compile--> Snapshot --live--> request path
//! ```
//!
//! The rooms, from the bottom up; each imports only from those above it in this list:
//!
//! - [`blocking`]: threads for calls that may block for ever.
//! - [`plugins`]: which kinds of plugins this build has.
//! - [`telemetry`], [`diag`]: metrics and the access log; problems as a report.
//! - [`spec`]: what an operator may write. YAML lives only there.
//! - [`tls`], [`proxy_protocol`]: certificates and keys in rustls's shape; the PROXY protocol as bytes.
//! - [`supervision`]: long-lived tasks, started again after a panic.
//! - [`resolver`]: host names to addresses, with one cache for the process.
//! - [`net`], [`websocket`]: heads of HTTP/1 responses; the WebSocket handshake without I/O.
//! - [`acme`]: certificates that the gateway gets by itself.
//! - [`route`], [`upstream`], [`chain`]: which route a request takes, which endpoint, which plugins.
//! - [`tunnel`]: a WebSocket after its handshake.
//! - [`snapshot`]: a generation of the configuration, compiled.
//! - [`live`]: the current generation, and the way to the next.
//! - [`proxy`]: one request's way, as Pingora's `ProxyHttp`.
//! - [`server`]: the process.
//! - [`cli`], [`demo`]: the command, and the backends of `moongate demo`.

pub mod acme;
pub mod blocking;
pub mod chain;
pub mod cli;
pub mod demo;
pub mod diag;
pub mod live;
pub mod net;
pub mod plugins;
pub mod proxy;
pub mod proxy_protocol;
pub mod resolver;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod spec;
pub mod supervision;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod websocket;
