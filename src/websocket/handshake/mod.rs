//! Opening handshake (RFC 6455 §4) on both sides of the gateway.
//!
//! The client's request is validated, the backend receives the gateway's own request, its response is
//! validated, and the client's 101 is written. Only [`exchange`] uses a socket. The proxy decides which
//! fields are sent.

mod downstream;
mod failover_extensions;
mod upstream_request;
mod upstream_response;

#[cfg(test)]
mod tests;

pub use downstream::{Handshake, HandshakeError, check, check_stream, end_to_end, has_key, write_switching};
pub use failover_extensions::{Agreement, forget_context, offer_portable};
pub use upstream_request::{Request, write_request};
pub use upstream_response::{Exchange, HandshakeResponse, NextResponse, ResponseError, exchange};

pub use crate::websocket::{ContextReset, Extensions, Offer};

use crate::websocket::{elements, has_token};
