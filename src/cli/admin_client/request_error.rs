//! Failure of a request at the admin address, and its report for the operator.

use super::AdminAddress;
use crate::cli::command_error::CommandError;
use serde_json::Value;
use std::fmt;
use std::io;
use std::time::Duration;

/// The longest unknown response body in a report, in bytes.
const SHOWN: usize = 200;

/// Why a request has no usable response.
#[derive(Debug)]
pub(in crate::cli) struct RequestError {
    pub(super) address: AdminAddress,
    pub(super) cause: RequestFailure,
}

#[derive(Debug)]
pub(super) enum RequestFailure {
    /// No connection, or it was lost before the response.
    Unreachable(io::Error),
    /// No complete response within this time.
    Timeout(Duration),
    /// The response is not HTTP, or not that of the API.
    Malformed(String),
    /// A path or query that no request can have.
    Unsendable(String),
    /// A response with another status than 200.
    Status(ErrorResponse),
}

/// A response with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct ErrorResponse {
    /// The status code.
    pub(in crate::cli) status: u16,
    /// The member `error` of the body: a fixed token.
    pub(in crate::cli) error: String,
    /// The member `detail` of the body.
    pub(in crate::cli) detail: Option<String>,
    /// The whole body.
    pub(in crate::cli) body: String,
}

impl ErrorResponse {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body).trim().to_owned();
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        Self { status, error: text("error").unwrap_or_default(), detail: text("detail"), body }
    }
}

impl RequestError {
    /// The error response with that token, if it is the cause.
    pub(in crate::cli) fn response(&self, error: &str) -> Option<&ErrorResponse> {
        match &self.cause {
            RequestFailure::Status(response) if response.error == error => Some(response),
            _ => None,
        }
    }

    /// The error response with that status, if it is the cause.
    pub(in crate::cli) fn status(&self, status: u16) -> Option<&ErrorResponse> {
        match &self.cause {
            RequestFailure::Status(response) if response.status == status => Some(response),
            _ => None,
        }
    }

    /// Whether no response arrived in time.
    pub(in crate::cli) fn is_timeout(&self) -> bool {
        matches!(self.cause, RequestFailure::Timeout(_))
    }

    /// Whether the gateway may respond later: it restarts, or is not reachable at the moment.
    pub(in crate::cli) fn is_temporary(&self) -> bool {
        match &self.cause {
            RequestFailure::Unreachable(_) | RequestFailure::Timeout(_) => true,
            RequestFailure::Status(response) => response.status >= 500,
            RequestFailure::Malformed(_) | RequestFailure::Unsendable(_) => false,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.cause {
            RequestFailure::Unreachable(error) => write!(f, "cannot reach the gateway at {address}: {error}"),
            RequestFailure::Timeout(limit) => {
                write!(f, "no response from the gateway at {address} within {limit:?}")
            }
            RequestFailure::Malformed(cause) => {
                write!(f, "the response of {address} is not that of a Moongate admin address: {cause}")
            }
            RequestFailure::Unsendable(cause) => write!(f, "the request cannot be sent: {cause}"),
            RequestFailure::Status(response) => describe(f, address, response),
        }
    }
}

fn describe(f: &mut fmt::Formatter<'_>, address: &AdminAddress, response: &ErrorResponse) -> fmt::Result {
    let ErrorResponse { status, error, detail, body } = response;
    match (error.as_str(), detail) {
        ("unauthorized", _) => write!(f, "the gateway at {address} requires another admin token (401)"),
        ("", None) => {
            let shown = &body[..body.floor_char_boundary(SHOWN)];
            let rest = if shown.len() < body.len() { "…" } else { "" };
            write!(f, "the gateway at {address} responded with {status}: {}{rest}", shown.escape_debug())
        }
        (error, None) => write!(f, "the gateway at {address} responded with {status} {error}"),
        (_, Some(detail)) => write!(f, "{}", detail.trim_end()),
    }
}

impl From<RequestError> for CommandError {
    fn from(error: RequestError) -> Self {
        let report = match &error.cause {
            // A filter or a code that the gateway rejects is part of the command line.
            RequestFailure::Status(ErrorResponse { status: 422, .. }) | RequestFailure::Unsendable(_) => {
                Self::usage(&error)
            }
            _ => Self::failed(&error),
        };
        match help(&error.cause) {
            Some(help) => report.help(help),
            None => report,
        }
    }
}

fn help(cause: &RequestFailure) -> Option<&'static str> {
    Some(match cause {
        RequestFailure::Unreachable(_) => {
            "check that the gateway runs; if the file has another `admin.address` than the gateway, name the old one by \
             `--admin`, or send SIGHUP"
        }
        RequestFailure::Malformed(_) => {
            "check the address: it may be that of a listener or of another program"
        }
        RequestFailure::Timeout(_) | RequestFailure::Unsendable(_) => return None,
        RequestFailure::Status(response) => match (response.status, response.error.as_str()) {
            (401, _) => {
                "set the token by `--token-file`, `MOONGATE_ADMIN_TOKEN` or `admin.token` of the file named by `-c`; if the \
                 file has another token than the gateway, give the old one, or send SIGHUP"
            }
            (_, "foreign_host") => {
                "without `admin.token` the gateway accepts only an IP address or localhost; change `--admin`"
            }
            (_, "tap_off") => "set `admin: { tap: true }` with a `token` in the configuration, and reload",
            (404, "not_found") => {
                "the gateway is of another version and does not have this call; see `moongate status`"
            }
            (404, "") => "check the address: it may be that of a listener or of another program",
            (_, "too_many_taps") => "16 taps are open; end one of them",
            (_, "too_many_connections") => "all connections of the admin address are in use; try again",
            _ => return None,
        },
    })
}
