//! Tunnels: WebSockets, and raw relays of other protocols, from the request that leaves Pingora's HTTP code to the last byte.
//!
//! The proxy checks the client's request (`handshake::check`) and applies the route's policy
//! ([`Policy::acquire_permit`]) and its [`HandshakeLimiter`](crate::limit::HandshakeLimiter). It connects to an endpoint and does the
//! handshake there (`handshake::exchange`). Then it joins the [`Registry`] and passes both sides to `relay::run`,
//! with an [`Inspector`] for plugins with message phases. Routing, selection of endpoints and HTTP are in the
//! proxy. `raw_relay` relays bytes of any protocol, and knows nothing of HTTP.

pub mod close_frames;
mod counters;
mod departure;
mod departure_confirmation;
mod drain;
mod endpoint_index;
mod filter;
mod lingering_close;
mod member;
pub mod messages;
mod outcome;
mod pace;
mod policy;
mod raw_limits;
mod raw_relay;
mod raw_state;
mod rechecks;
mod redial;
mod relay;
mod relay_io;
mod route_limits;
pub(crate) mod state;
mod tap;
mod tunnel_snapshot;
mod tunnel_task;

pub use crate::net::tunnel_io::{Io, TunnelIo};
pub use counters::{Counters, KINDS, RawCounters};
pub use departure::{Departure, DepartureOrder, DepartureState, PartStates, TunnelGuard};
pub use drain::{Membership, OpenTap, Registry};
pub use filter::{Filter, TunnelKey, TunnelOrigin, TunnelView};
pub use member::{CloseOrder, OperatorClose, TunnelTraffic};
pub use messages::{Inspector, Recheck, RecheckFuture};
pub use outcome::{ABNORMAL, Cause, Initiator, Outcome, Reason, Side};
pub use policy::{HandshakeTimeout, Policy};
pub use raw_limits::RawLimits;
pub use raw_relay::RawTunnel;
pub use raw_state::RawState;
pub use redial::{Found, Loss, Redial, Search};
pub use relay::Tunnel;
pub use route_limits::{ClientKey, Denial, Permit, PermitKey};
pub use state::TunnelState;
#[cfg(any(test, fuzzing))]
pub use tap::reader_invariants;
pub use tap::{LARGEST_EXCERPT, TapEvent, TapFilter, TapLimits, TapSelection, TapSession, TappedMessage};
pub use tunnel_snapshot::TunnelSnapshot;
pub use tunnel_task::{continue_from, continue_raw, launch, launch_raw};
