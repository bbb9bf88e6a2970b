//! Rate limits and connection limits: one scope, and two forms, local to the process or shared through a store.
//!
//! The scope of a bucket is (owner, entry, client key), as [`moongate_sdk::Limiter`] defines it. The arithmetic of all of
//! them is [`moongate_sdk::TokenBucket`]; the types differ in what happens without a token:
//!
//! | type | limit | without a token | shared |
//! |---|---|---|---|
//! | [`moongate_sdk::Limiter`] | requests and messages of `rate_limit` | refused | yes: exact for requests, leases for messages |
//! | [`HandshakeLimiter`] | `handshake_rate` of a route or listener | waits up to 1 s, then refused | yes: exact |
//! | `Throttle` | `messages_per_second` and `bytes_per_second` of a WebSocket | paused or closed; received data is always charged | messages: yes, by leases, with a client as key. Otherwise the key is the WebSocket |
//!
//! The flood limits of HTTP/2 protect one connection and are in `server::http2`.

#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "the kinds of stores use it"))]
mod connection;
mod connection_rate;
mod handshake_limiter;
mod message_lease;
#[cfg(feature = "redis")]
mod redis;
mod secret_sync;
mod shared_connections;
mod shared_tokens;
mod store;
mod store_task;
mod stores;
#[cfg(test)]
mod tests;

pub use connection_rate::Rates;
pub(crate) use connection_rate::{ClientTokens, Throttle};
pub use handshake_limiter::{HandshakeLimiter, QueueFull};
pub use secret_sync::{NotRotated, Rotation};
pub(crate) use shared_connections::{SharedConnections, SharedPermit};
pub(crate) use shared_tokens::SharedTokens;
pub use store::{OnFailure, Store, StoreParts, StoreSettings, StoreStatus};
pub use stores::{EntryStores, STORES, Stores};
