//! Failed certificate requests, and the classification of ACME errors (RFC 8555 §6.7).

use super::http_client::AttemptError;
use instant_acme::Error;
use serde::Serialize;
use std::io;

/// Why a certificate request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The CA (certificate authority) was not reached, or its response was not one of a CA.
    Unreachable,
    /// The CA could not verify the challenge.
    Challenge,
    /// A rate limit of the CA was exceeded.
    RateLimited,
    /// The CA rejected the account.
    Account,
    /// The CA rejected the order for another reason.
    Rejected,
    /// The request exceeded its time limit.
    Timeout,
    /// The folder cannot be written to.
    Storage,
}

impl Reason {
    /// All, in the order in which they are counted.
    pub(crate) const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Challenge,
        Self::RateLimited,
        Self::Account,
        Self::Rejected,
        Self::Timeout,
        Self::Storage,
    ];

    /// The token in metrics and in the status.
    pub(crate) fn name(self) -> &'static str {
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

/// A failed certificate request.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The class of the failure.
    pub reason: Reason,
    /// The problem that the CA reported, or the error of the connection to it.
    pub detail: String,
}

impl Failure {
    /// The folder could not be read or written.
    pub(super) fn storage(error: &io::Error) -> Self {
        Self { reason: Reason::Storage, detail: error.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { reason: reason(&error), detail: error.to_string() }
    }
}

/// Classifies an ACME error (RFC 8555 §6.7).
fn reason(error: &Error) -> Reason {
    let problem = match error {
        Error::Api(problem) => problem,
        Error::Timeout(_) => return Reason::Timeout,
        // A response that is not ACME is an error page of a load balancer.
        Error::Json(_) => return Reason::Unreachable,
        Error::Other(other) if other.is::<AttemptError>() => return Reason::Unreachable,
        _ => return Reason::Rejected,
    };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    match kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind) {
        "rateLimited" => Reason::RateLimited,
        "connection" | "dns" | "incorrectResponse" | "tls" | "unauthorized" | "caa" => Reason::Challenge,
        "accountDoesNotExist"
        | "externalAccountRequired"
        | "userActionRequired"
        | "invalidContact"
        | "unsupportedContact" => Reason::Account,
        // The CA is at fault in both cases; instant-acme has already retried `badNonce`.
        "serverInternal" | "badNonce" => Reason::Unreachable,
        _ => Reason::Rejected,
    }
}
