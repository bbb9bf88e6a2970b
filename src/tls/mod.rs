//! Certificates and keys, in the shape in which rustls takes them.
//!
//! Files are read when a configuration is compiled, so that `moongate check` finds what is wrong with
//! them, and again when they change; a connection meets finished values alone. Who connects, and over
//! what, stays out, and so does the clock that says when to look at the files again.

mod cert_resolver;
mod certificate;
mod certificate_names;
mod client_trust;
mod dynamic_certs;
mod handshake_error;
mod listener_config;
mod pem;
mod session_tickets;
mod unix_time;
mod upstream_config;

pub use certificate::About;
pub use dynamic_certs::{Challenges, Shown, Slot};
pub use handshake_error::HandshakeFailure;
pub use listener_config::{Acceptor, AcceptorContext, Alpn, RefreshOutcome, TlsSelection};
pub use upstream_config::{Client, Identity};

#[cfg(test)]
mod tests;
