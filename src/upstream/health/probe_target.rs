//! The target of a probe, the reasons for failure, and the settings that several kinds share.

use crate::config::UpstreamProtocol;
use crate::net::http1::response_head::HeadError;
use crate::upstream::address::Address;
use crate::upstream::connector::Connector;
use crate::upstream::dial::DialError;
use crate::upstream::upstream_stream::UpstreamStream;
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why an endpoint is unhealthy.
#[derive(Debug, Error)]
pub enum Failure {
    /// No connection could be established.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// The response violates HTTP/2 or was incomplete.
    #[error("{0}")]
    H2(#[from] h2::Error),
    /// The backend reports that it does not serve.
    #[error("{0}")]
    NotServing(String),
    /// Writing or reading failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The probe took longer than `timeout`.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// The connection was closed before the response header was complete.
    #[error("connection closed before the response")]
    Closed,
    /// The response is not HTTP, exceeds a limit, or has an ambiguous body length.
    #[error("{0}")]
    Malformed(&'static str),
    /// The response has an unexpected status.
    #[error("status {0}")]
    Status(u16),
    /// The 101 response is invalid (RFC 6455 §4.1).
    #[error("invalid handshake: {0}")]
    Handshake(&'static str),
}

impl From<HeadError> for Failure {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Closed => Self::Closed,
            HeadError::Malformed(reason) => Self::Malformed(reason),
            HeadError::Io(error) => Self::Io(error),
        }
    }
}

/// The endpoint to probe.
#[derive(Debug)]
pub struct Target<'a> {
    address: &'a Address,
    host: Option<Arc<str>>,
    connector: &'a Connector,
}

impl<'a> Target<'a> {
    pub(in crate::upstream) fn new(
        address: &'a Address,
        host: Option<Arc<str>>,
        connector: &'a Connector,
    ) -> Self {
        Self { address, host, connector }
    }

    /// Connects with the upstream's settings; with `h2`, HTTP/2 is offered if the backends support it.
    ///
    /// # Errors
    /// Why no connection was established.
    pub async fn connect(&self, h2: bool) -> Result<UpstreamStream, Failure> {
        let h2 = h2 && self.connector.protocol() == UpstreamProtocol::H2;
        Ok(self.connector.open(self.address, self.host.as_deref(), None, h2).await?)
    }

    /// Returns whether a connection uses HTTP/2.
    pub fn speaks_h2(&self, wire: &UpstreamStream) -> bool {
        self.connector.protocol() == UpstreamProtocol::H2c || wire.chose_h2()
    }

    /// `https` for an upstream with TLS, otherwise `http`.
    pub fn scheme(&self) -> &'static str {
        if self.connector.has_tls() { "https" } else { "http" }
    }

    /// The default `Host`: the endpoint's address, or the server name for an upstream with TLS.
    pub fn authority(&self) -> String {
        self.connector.host_field(self.address, self.host.as_deref())
    }
}

/// Checks a path for use in a request line; the default is `/`.
pub(super) fn check_path(written: Option<&Placed<String>>, problems: &mut Problems) -> String {
    let Some(path) = written else { return "/".to_owned() };
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = Problem::new(format!("invalid path `{}`", path.value));
        problems.push(problem.help("write /path, with non-ASCII characters percent-encoded").at(&path.place));
    }
    path.value.clone()
}

/// Checks a value for use in a `Host` field.
pub(super) fn check_host(written: Option<&Placed<String>>, problems: &mut Problems) -> Option<String> {
    let host = written?;
    if host.parse::<http::uri::Authority>().is_err() || host.contains('@') {
        problems.push(
            Problem::new(format!("invalid host `{}`", host.value))
                .help("write name or name:port")
                .at(&host.place),
        );
    }
    Some(host.value.clone())
}
