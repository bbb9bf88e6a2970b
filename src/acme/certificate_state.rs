//! State of a certificate: validity, last failure, and next attempt.

use serde::Serialize;
use std::time::{Duration, SystemTime};

/// The reason of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The CA was not reached, or the response was not ACME.
    Unreachable,
    /// The challenge failed.
    Challenge,
    /// The CA limits the rate.
    RateLimited,
    /// The CA refused the account.
    Account,
    /// The CA refused for another reason.
    Rejected,
    /// The attempt took too long.
    Timeout,
    /// The folder is not writable.
    Storage,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Challenge,
        Self::RateLimited,
        Self::Account,
        Self::Rejected,
        Self::Timeout,
        Self::Storage,
    ];

    /// The reason's name in metrics and the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Challenge => "challenge",
            Self::RateLimited => "rate_limited",
            Self::Account => "account",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Storage => "storage",
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The text of the error.
    pub detail: String,
}

/// The validity period of a certificate.
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
