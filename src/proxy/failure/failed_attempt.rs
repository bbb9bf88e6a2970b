//! Why an attempt at an endpoint failed, with the cause for the log: of a failed TLS handshake, or of a response that is
//! not HTTP. The reason token names the kind of failure; to fix it, an operator needs the exact cause.

use super::Failure;
use crate::tls::alert;
use crate::upstream::DialError;
use crate::websocket::handshake::ResponseError;
use pingora::Error;
use std::io;

/// The cause as text. That of rustls contains names of the backend's certificate: see
/// [`quoted`](crate::telemetry::quoted).
pub(in crate::proxy) type Cause = Option<Box<str>>;

/// Why an attempt at an endpoint failed.
pub(in crate::proxy) struct FailedAttempt {
    pub(in crate::proxy) failure: Failure,
    pub(in crate::proxy) cause: Cause,
}

impl From<Failure> for FailedAttempt {
    fn from(failure: Failure) -> Self {
        Self { failure, cause: None }
    }
}

impl From<DialError> for FailedAttempt {
    fn from(error: DialError) -> Self {
        let cause = match &error {
            DialError::Handshake(error) => Some(error.to_string().into()),
            DialError::Certificate(error) => Some(error.to_string().into()),
            _ => None,
        };
        Self { failure: error.into(), cause }
    }
}

impl From<ResponseError> for FailedAttempt {
    fn from(error: ResponseError) -> Self {
        let cause = match &error {
            ResponseError::Io(error) => alert(error).map(|alert| alert.to_string().into()),
            _ => None,
        };
        Self { failure: error.into(), cause }
    }
}

/// The cause in Pingora's error, which contains the text of rustls, or why a response is not HTTP.
pub(in crate::proxy) fn of(error: &Error, failure: Failure) -> Cause {
    let text = || error.context.as_ref().map_or("", |context| context.as_str());
    if failure == Failure::BadResponse {
        return Some(text()).filter(|text| !text.is_empty()).map(Box::from);
    }
    if !failure.is_tls() {
        return None;
    }
    if let Some(alert) = alert_behind(error) {
        return Some(alert.to_string().into());
    }
    let text = text();
    let text = text.split_once("cause: ").map_or(text, |(_, cause)| cause);
    let text = text.rsplit_once(", SNI: ").map_or(text, |(cause, _)| cause);
    Some(text.trim().into())
}

/// The alert anywhere in the chain of causes.
pub(in crate::proxy) fn alert_behind(error: &Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.root_cause());
    while let Some(found) = cause {
        if let Some(alert) = found.downcast_ref::<io::Error>().and_then(alert) {
            return Some(alert);
        }
        cause = found.source();
    }
    None
}
