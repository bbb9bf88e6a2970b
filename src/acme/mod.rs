//! Certificates that the gateway gets by itself (ACME, RFC 8555).
//!
//! A [`Job`] is one certificate: its settings, the place in which the listeners find it, and what is known
//! of it. It is compiled with the configuration and kept over reloads while its settings stay the same.
//! Compiling and [`Job::prepare`], which loads what is kept, contact nobody and write nothing;
//! [`Job::run`] gets certificates and renews them until it is dropped. Who runs it is live's business, who
//! makes the handshakes the server's.

mod account;
mod backoff;
mod certificate_state;
mod certified_key;
mod failure;
mod http_client;
mod issuance;
mod job;
mod job_set;
mod renewal_info;
mod renewal_loop;
mod settings;
mod storage;

pub use failure::Reason;
pub use job::{Job, Prepared};
pub use job_set::{JobSetBuilder, Jobs};
pub use settings::Settings;
