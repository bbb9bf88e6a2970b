//! The opening handshake of RFC 6455 §4 on both sides of the gateway.
//!
//! The client's request is checked here, the backend gets one of our own, its answer is checked, and
//! the client's 101 is written. Only [`exchange`] touches a socket. Which headers reach the backend
//! (forwarded-for, plugins) was decided before: the proxy hands over what is to be sent.

mod downstream;
mod failover_extensions;
mod upstream_request;
mod upstream_response;

#[cfg(test)]
mod tests;

pub use downstream::{Handshake, HandshakeError, check, check_stream, end_to_end, write_switching};
pub use failover_extensions::{Agreement, forget_context, offer_portable};
pub use upstream_request::{Request, write_request};
pub use upstream_response::{AnswerError, HandshakeResponse, exchange};

pub use crate::websocket::{Extensions, Offer};

use crate::websocket::{elements, has_token};
