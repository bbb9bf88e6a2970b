//! Certificates and keys, in the shape in which rustls takes them.
//!
//! Files are read when a configuration is compiled, so that `moongate check` finds what is wrong with
//! them; a connection meets finished values alone. Who connects, and over what, stays out.

mod server;
mod store;

pub use server::{Acceptor, Alpn};
pub use store::{Challenges, Shown, Slot};
