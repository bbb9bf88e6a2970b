//! The downstream side of a request: the client's connection, its session over HTTP/1 or HTTP/2, and their
//! control by the request's phases.

pub(super) mod client_disconnect;
pub(super) mod connection;
pub(super) mod http1_session;
pub(super) mod http2_session;
mod http2_stream;
mod http2_tunnel_io;
mod lazy_timer;
mod min_rate;
mod retry_buffer;
pub(super) mod session;
pub(super) mod session_control;
pub(super) mod shared_session;
pub(super) mod socket_watch;
pub(super) mod upload_gate;
