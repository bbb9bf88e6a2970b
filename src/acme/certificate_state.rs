//! What is known of a certificate: how old it is, how the last try went, when the next one is.

use serde::Serialize;
use std::time::{Duration, SystemTime};

/// Why a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The authority was not reached, or did not answer as one.
    Unreachable,
    /// It could not see the proof, or saw another.
    Challenge,
    /// It wants fewer requests.
    RateLimited,
    /// It does not take the account.
    Account,
    /// It refused for another reason.
    Rejected,
    /// It did not come to an end in time.
    Timeout,
    /// The folder cannot be written to.
    Storage,
}

impl Reason {
    /// All, in the order in which they are counted.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Challenge,
        Self::RateLimited,
        Self::Account,
        Self::Rejected,
        Self::Timeout,
        Self::Storage,
    ];

    /// As metrics and the status name it.
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

/// A try that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Which sort of failure.
    pub reason: Reason,
    /// What the authority, or who stands in its place, said.
    pub detail: String,
}

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
