//! Moongate, a programmable gateway for WebSocket clusters, HTTP and gRPC.
//!
//! One direction:
//!
//! ```text
//! files --config::load--> Config --snapshot::compile--> Snapshot --control--> request path
//! ```
//!
//! The modules, from the lowest layer up; each imports only modules of lower layers (tests/architecture.rs):
//!
//! - `telemetry`, [`diagnostics`]: metrics and logs; problems as a report.
//! - [`config`], `runtime`: the configuration as types, read from YAML; threads, tasks and time.
//! - [`net`], `tls`: sockets, HTTP/1 on the wire, name resolution; certificates and keys.
//! - [`etcd`], [`limit`], [`websocket`]: a client of etcd; rate limits, local or shared through a store; frames and
//!   handshakes.
//! - `acme`, [`route`], [`source`], [`upstream`], [`plugin`]: automatic certificates, the route table, documents from elsewhere,
//!   upstreams, plugin chains.
//! - [`tunnel`]: a WebSocket after its handshake.
//! - [`snapshot`]: a generation of the configuration, compiled.
//! - [`control`]: the current snapshot, reloads, and the long-lived tasks.
//! - [`proxy`]: the `ProxyHttp` implementation.
//! - [`server`]: the process.
//! - [`cli`], [`demo`]: the command, and the backends of `moongate demo`.

mod acme;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod diagnostics;
pub mod etcd;
pub mod limit;
pub mod net;
pub mod plugin;
pub mod proxy;
pub mod route;
mod runtime;
pub mod server;
pub mod snapshot;
pub mod source;
mod telemetry;
mod tls;
pub mod tunnel;
pub mod upstream;
pub mod websocket;
