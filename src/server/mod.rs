//! Server process: sockets, workers, signals, the admin API, and the order of startup and shutdown. `proxy`
//! handles requests.

pub mod admin;
mod admin_state;
mod bind;
mod connection_context;
mod connection_setup;
mod graceful_shutdown;
mod h2c_detect;
mod http1;
mod http2;
mod lifecycle;
mod lingering_close;
mod proxy_header;
mod shutdown_watchdog;
mod signal_request;
mod signals;
mod tls_handshake;
mod worker;

pub use lifecycle::{StartError, run};
pub use signals::{EndSignal, SignalReceiver};
