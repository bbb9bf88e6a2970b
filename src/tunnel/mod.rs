//! The WebSocket path: from the upgrade request that leaves Pingora's HTTP machinery to the last
//! byte of the tunnel.
//!
//! The proxy checks the client's request, asks the route's [`Policy`] and its [`HandshakeLimiter`], connects to an
//! endpoint, makes the handshake there, joins the [`Registry`] and hands both sides to [`launch`]. Where plugins read
//! messages, it brings an [`Inspector`]. The choice of a route or an endpoint, and everything that is still HTTP, is the
//! proxy's.

mod admission;
mod client_rate;
mod counters;
mod drain;
mod handshake_limiter;
pub mod messages;
mod outcome;
mod policy;
mod redial;
mod relay;
mod tunnel_task;

pub use crate::net::tunnel_io::{Io, TunnelIo};
pub use admission::{ClientKey, Denial, Permit};
pub use counters::{Counters, KINDS};
pub use drain::{Filter, Membership, Registry, TunnelKey, TunnelView};
pub use handshake_limiter::{HandshakeLimiter, QueueFull};
pub use messages::{Asking, Inspector, Recheck};
pub use outcome::{ABNORMAL, Cause, Initiator, Outcome, Reason, Side};
pub use policy::{HandshakeTimeout, Policy};
pub use redial::{Found, Loss, Redial, Search};
pub use relay::Tunnel;
pub use tunnel_task::launch;
