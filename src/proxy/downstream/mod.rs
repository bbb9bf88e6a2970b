//! The client's side of a request: its connection, the HTTP/2 session, and what the phases of a request tell it.

pub(super) mod client_disconnect;
pub(super) mod connection;
pub(super) mod h2_session;
pub(super) mod h2_stream;
pub(super) mod lazy_timer;
pub(super) mod session_conn_info;
pub(super) mod session_control;
