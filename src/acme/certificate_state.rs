//! What is known of a certificate: how old it is, how the last try went, when the next one is.

use super::failure::Failure;
use std::time::{Duration, SystemTime};

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// The first moment, in seconds since 1970.
    pub from: u64,
    /// The last one.
    pub until: u64,
}

impl Validity {
    /// When a new one should be asked for: with a third of the time left, and a little earlier by `chance`
    /// (0 to 1), so that what was begun together is not renewed together.
    pub(super) fn renewal(self, chance: f64) -> u64 {
        let life = self.until.saturating_sub(self.from);
        // A lifetime in seconds is far below what an f64 counts exactly.
        let early = (life as f64 / 30.0 * chance) as u64;
        self.until.saturating_sub(life / 3).saturating_sub(early)
    }
}

/// How it stands with a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateState {
    /// That of the certificate that is served.
    pub validity: Option<Validity>,
    /// When one was last issued, in seconds since 1970; the file's own beginning after a restart.
    pub issued: Option<u64>,
    /// The last try, when it failed, and when that was.
    pub failure: Option<(u64, Failure)>,
    /// When the next one is.
    pub next: Option<u64>,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
