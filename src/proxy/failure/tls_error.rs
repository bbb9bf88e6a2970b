//! What is behind a TLS handshake with a backend that failed, for the log. The reason's token says which kind
//! of failure it is; who is to repair it must know what exactly was wrong with which name.

use super::Failure;
use crate::upstream::DialError;
use crate::websocket::handshake::AnswerError;
use pingora::Error;
use std::io;

/// What TLS said, in the words of rustls. They have the names of the backend's certificate in them: see
/// [`quoted`](crate::telemetry::quote).
pub(in crate::proxy) type Cause = Option<Box<str>>;

/// Why an endpoint did not answer.
pub(in crate::proxy) struct TlsAttemptError {
    pub(in crate::proxy) failure: Failure,
    pub(in crate::proxy) cause: Cause,
}

impl From<Failure> for TlsAttemptError {
    fn from(failure: Failure) -> Self {
        Self { failure, cause: None }
    }
}

impl From<DialError> for TlsAttemptError {
    fn from(error: DialError) -> Self {
        let cause = match &error {
            DialError::Handshake(error) => Some(error.to_string().into()),
            DialError::Certificate(error) => Some(error.to_string().into()),
            _ => None,
        };
        Self { failure: error.into(), cause }
    }
}

impl From<AnswerError> for TlsAttemptError {
    fn from(error: AnswerError) -> Self {
        let cause = match &error {
            AnswerError::Io(error) => alert(error).map(|alert| alert.to_string().into()),
            _ => None,
        };
        Self { failure: error.into(), cause }
    }
}

/// The same of what Pingora says, which has rustls' words in the middle of its own.
pub(in crate::proxy) fn of(error: &Error, failure: Failure) -> Cause {
    if !failure.is_tls() {
        return None;
    }
    if let Some(alert) = alert_behind(error) {
        return Some(alert.to_string().into());
    }
    let told = error.context.as_ref().map_or("", |context| context.as_str());
    let told = told.split_once("cause: ").map_or(told, |(_, cause)| cause);
    let told = told.rsplit_once(", SNI: ").map_or(told, |(cause, _)| cause);
    Some(told.trim().into())
}

/// The alert with which a backend ended its TLS: with TLS 1.3 it does so for a client's certificate only
/// when the client has finished its handshake and reads the first answer.
pub(in crate::proxy) fn alert(error: &io::Error) -> Option<&rustls::Error> {
    let told = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(told, rustls::Error::AlertReceived(_)).then_some(told)
}

/// The same, wherever in the chain of causes it is.
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
