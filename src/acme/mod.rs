//! Certificates that the gateway gets by itself (ACME, RFC 8555).
//!
//! A [`Job`] is one certificate: its settings, the place in which the listeners find it, and what is known
//! of it. It is compiled with the configuration and kept over reloads while its settings stay the same.
//! Compiling and [`Job::prepare`], which loads what is kept, contact nobody and write nothing;
//! [`Job::run`] gets certificates and renews them until it is dropped. Who runs it is live's business, who
//! makes the handshakes the server's.

mod account;
mod backoff;
mod client;
mod disk;
mod issue;
mod job;
mod jobs;
mod keyed;
mod renewal;
mod run;
mod settings;
mod state;

pub use job::{Job, Prepared};
pub use jobs::{JobSetBuilder, Jobs};
pub use settings::Settings;
pub use state::Reason;
