//! Server process: sockets, workers, signals, the admin API, and the order of startup and shutdown. `proxy`
//! handles requests.

mod accept;
pub mod admin;
mod bind;
mod connection_context;
mod graceful_shutdown;
mod h2c_detect;
mod http1;
mod http2;
mod lifecycle;
mod lingering_close;
mod process_status;
mod proxy_header;
mod shutdown_deadline;
mod signal_request;
mod signals;
mod tls_handshake;
mod worker;

pub use lifecycle::{Failed, run};
pub use signals::SignalReceiver;
