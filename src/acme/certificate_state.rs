//! State of a certificate: validity, last failure, and next attempt.

use super::failure::Failure;
use std::time::{Duration, SystemTime};

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// The first second, in Unix seconds.
    pub from: u64,
    /// The last second, in Unix seconds.
    pub until: u64,
}

impl Validity {
    /// The time of renewal: with a third of the lifetime left, and a little earlier by `chance` (0 to 1), so
    /// that certificates issued together are not renewed together.
    pub(super) fn renewal(self, chance: f64) -> u64 {
        let life = self.until.saturating_sub(self.from);
        // An f64 is exact for a lifetime in seconds.
        let early = (life as f64 / 30.0 * chance) as u64;
        self.until.saturating_sub(life / 3).saturating_sub(early)
    }
}

/// The state of a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateState {
    /// The validity of the certificate in use.
    pub validity: Option<Validity>,
    /// The time of the last issuance in Unix seconds; after a restart, the start of the validity.
    pub issued: Option<u64>,
    /// The last attempt's time and failure, if it failed.
    pub failure: Option<(u64, Failure)>,
    /// The time of the next attempt.
    pub next: Option<u64>,
}

/// The current time in Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
