//! The downstream side of a request: the connection, the HTTP/2 session, and their control by the request's
//! phases.

pub(super) mod client_disconnect;
pub(super) mod client_stream;
pub(super) mod h2_session;
pub(super) mod h2_stream;
pub(super) mod lazy_timer;
pub(super) mod min_rate;
pub(super) mod session_control;
pub(super) mod session_lookup;
pub(super) mod session_timeouts;
pub(super) mod socket_watch;
pub(super) mod upload_gate;
