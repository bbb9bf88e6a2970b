//! ACME certificates (RFC 8555): issuance, renewal and storage.
//!
//! A [`Job`] is one certificate with its settings, its slot for listeners, and its state. It is compiled with
//! the configuration and kept over reloads while its settings are unchanged. Compiling and [`Job::prepare`],
//! which loads the stored certificate, send and write nothing. [`Job::run`] requests and renews it until
//! dropped; `control` runs it, and `server` makes the handshakes.

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

pub(crate) use job::{Job, PreparedJob};
pub(crate) use job_set::{JobSetBuilder, Jobs};
