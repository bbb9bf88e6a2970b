//! The downstream side of a request: the connection, the HTTP/2 session, and their control by the request's
//! phases.

pub(super) mod client_disconnect;
pub(super) mod connection;
pub(super) mod h2_session;
pub(super) mod h2_stream;
pub(super) mod lazy_timer;
pub(super) mod session_conn_info;
pub(super) mod session_control;
