//! The WebSocket path: from the upgrade request that leaves Pingora's HTTP machinery to the last
//! byte of the tunnel.
//!
//! The proxy checks the client's request ([`handshake::check`]), asks the route's policy
//! ([`Policy::admit`]) and its [`Pacer`], connects to an endpoint, makes the handshake there
//! ([`handshake::exchange`]), joins the [`Registry`] and hands both sides to [`run`]. Where plugins look at messages, it brings
//! an [`Inspector`]. Choosing a route or
//! an endpoint, and everything that is still HTTP, stays out.

mod admit;
pub mod clock;
mod count;
pub mod drain;
pub mod frame;
pub mod handshake;
mod launch;
mod leg;
pub mod messages;
mod outcome;
mod pacer;
mod policy;
mod rate;
mod redial;
pub mod relay;

pub use admit::{ClientKey, Denial, Permit};
pub use count::{Counters, KINDS};
pub use drain::{Filter, Membership, Registry, TunnelKey, TunnelView};
pub use launch::launch;
pub use leg::{Io, TlsIo, TunnelIo};
pub use messages::{Asking, Inspector, Recheck};
pub use outcome::{ABNORMAL, Cause, Initiator, Outcome, Reason, Side};
pub use pacer::{HandshakeLimiter, QueueFull};
pub use policy::{HandshakeTimeout, Policy, Reconnect};
pub use rate::Rates;
pub use redial::{Found, Loss, Redial, Search};
pub use relay::{Relay, Tunnel, run};
