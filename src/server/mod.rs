//! Server process: sockets, workers, signals, the admin API, and the order of startup and shutdown. `proxy`
//! handles requests.

pub mod admin;
mod admin_state;
mod bind;
mod connection_context;
mod connection_setup;
mod graceful_shutdown;
mod h2c_detect;
mod handover;
mod http1;
mod http2;
mod inherited_sockets;
mod lifecycle;
mod lingering_close;
mod open_admin;
mod open_listener;
mod passed_socket;
mod predecessor;
mod process_sockets;
mod proxy_header;
mod request_sender;
mod running_state;
mod service_manager;
mod shutdown_watchdog;
mod signal_request;
mod signals;
mod socket_file;
mod stored_link;
mod tls_handshake;
mod tls_ignored_name;
mod upgrade;
mod worker;
mod worker_pool;

pub use lifecycle::{StartError, refuse_handover, run};
pub use signals::{EndSignal, SignalReceiver};
