//! TLS: certificates, keys and trust, as rustls configurations.
//!
//! Files are read when a configuration is compiled, so that `moongate check` finds their problems, and again
//! when they change; connections use finished values. `control` decides when files are read again.

mod alert;
mod cert_resolver;
mod certificate;
mod certificate_names;
mod client_hello;
mod client_trust;
mod dynamic_certs;
mod handshake_error;
mod listener_config;
mod pem;
pub(crate) mod platform_roots;
mod public_client;
mod session_tickets;
mod transcript;
mod unix_time;
mod upstream_config;

pub(crate) use alert::alert;
pub(crate) use client_hello::{HelloProgress, HelloRecords, IgnoredName};
pub(crate) use dynamic_certs::{ChallengeGuard, Challenges, Slot};
pub(crate) use handshake_error::HandshakeFailure;
pub(crate) use listener_config::{Acceptor, AcceptorContext, Alpn, HelloForm, RefreshOutcome, TlsSelection};
pub(crate) use public_client::public_client_config;
pub(crate) use session_tickets::TicketKeyState;
pub(crate) use upstream_config::{Client, Identity};

#[cfg(test)]
mod tests;
