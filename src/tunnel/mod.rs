//! The WebSocket path: from the upgrade request that leaves Pingora's HTTP machinery to the last
//! byte of the tunnel.
//!
//! The proxy checks the client's request ([`handshake::check`]), asks the route's policy
//! ([`Policy::admit`]) and its [`Pacer`], connects to an endpoint, makes the handshake there
//! ([`handshake::exchange`]), joins the [`Registry`] and hands both sides to [`run`]. Where plugins look at messages, it brings
//! an [`Inspector`]. Choosing a route or
//! an endpoint, and everything that is still HTTP, stays out.

mod admission;
mod client_rate;
mod counters;
pub mod drain;
mod handshake_limiter;
pub mod messages;
mod outcome;
mod policy;
mod redial;
pub mod relay;
mod tunnel_task;

pub use crate::net::tunnel_io::{Io, TlsIo, TunnelIo};
pub use admission::{ClientKey, Denial, Permit};
pub use client_rate::Rates;
pub use counters::{Counters, KINDS};
pub use drain::{Filter, Membership, Registry, TunnelKey, TunnelView};
pub use handshake_limiter::{HandshakeLimiter, QueueFull};
pub use messages::{Asking, Inspector, Recheck};
pub use outcome::{ABNORMAL, Cause, Initiator, Outcome, Reason, Side};
pub use policy::{HandshakeTimeout, Policy, Reconnect};
pub use redial::{Found, Loss, Redial, Search};
pub use relay::{Relay, Tunnel, run};
pub use tunnel_task::launch;
