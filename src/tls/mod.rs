//! Certificates and keys, in the shape in which rustls takes them.
//!
//! Files are read when a configuration is compiled, so that `moongate check` finds what is wrong with
//! them, and again when they change; a connection meets finished values alone. Who connects, and over
//! what, stays out, and so does the clock that says when to look at the files again.

mod certificate;
mod client;
mod cut;
mod pem;
mod server;
mod shelf;
mod store;
mod subject;
mod tickets;
mod trust;

pub use certificate::About;
pub use client::{Client, Identity};
pub use cut::HandshakeFailure;
pub use server::{Acceptor, AcceptorContext, Alpn, RefreshOutcome, TlsSelection};
pub use store::{Challenges, Shown, Slot};

#[cfg(test)]
mod tests;
