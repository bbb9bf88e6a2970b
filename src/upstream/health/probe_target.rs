//! The endpoint that a health check asks, why it fails, and the settings that its kinds share.

use crate::config::UpstreamProtocol;
use crate::net::http1::response_head::HeadError;
use crate::upstream::address::Address;
use crate::upstream::connector::{Connector, UpstreamStream};
use crate::upstream::dial::DialError;
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why an endpoint is not well.
#[derive(Debug, Error)]
pub enum Failure {
    /// No connection came about.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// The answer is not one of HTTP/2, or was broken off.
    #[error("{0}")]
    H2(#[from] h2::Error),
    /// The backend says of itself that it does not serve.
    #[error("{0}")]
    NotServing(String),
    /// Writing or reading failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It took longer than `timeout`.
    #[error("no verdict within {0:?}")]
    TimedOut(Duration),
    /// The connection was closed before the answer's head was complete.
    #[error("closed before an answer")]
    Closed,
    /// The response is not HTTP, exceeds a limit, or has a body whose end is in doubt.
    #[error("{0}")]
    Malformed(&'static str),
    /// The answer's status is not an expected one.
    #[error("status {0}")]
    Status(u16),
    /// It switched protocols in a way that RFC 6455 section 4.1 tells a client to refuse.
    #[error("bad handshake: {0}")]
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

/// The endpoint that a probe asks.
#[derive(Debug)]
pub struct Target<'a> {
    address: &'a Address,
    host: Option<Arc<str>>,
    reach: &'a Connector,
}

impl<'a> Target<'a> {
    pub(in crate::upstream) fn new(
        address: &'a Address,
        host: Option<Arc<str>>,
        reach: &'a Connector,
    ) -> Self {
        Self { address, host, reach }
    }

    /// Connects as the upstream's settings say; with `h2`, HTTP/2 is offered where the backends speak it.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self, h2: bool) -> Result<UpstreamStream, Failure> {
        let h2 = h2 && self.reach.protocol() == UpstreamProtocol::H2;
        Ok(self.reach.open(self.address, self.host.as_deref(), None, h2).await?)
    }

    /// Whether HTTP/2 is spoken on a connection.
    pub fn speaks_h2(&self, wire: &UpstreamStream) -> bool {
        self.reach.protocol() == UpstreamProtocol::H2c || wire.chose_h2()
    }

    /// `https` where there is TLS.
    pub fn scheme(&self) -> &'static str {
        if self.reach.has_tls() { "https" } else { "http" }
    }

    /// What `Host` says when the operator does not: the address, as a client that was given it would, and
    /// with TLS the name that is asked for.
    pub fn authority(&self) -> String {
        self.reach.host_field(self.address, self.host.as_deref())
    }
}

/// A path that may stand in a request line; the default is `/`.
pub(super) fn check_path(written: Option<&Placed<String>>, problems: &mut Problems) -> String {
    let Some(path) = written else { return "/".to_owned() };
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = Problem::new(format!("bad path `{}`", path.value));
        problems.push(problem.help("write /path, with what is not ASCII percent-encoded").at(&path.place));
    }
    path.value.clone()
}

/// A host that may stand in a `Host` field.
pub(super) fn check_host(written: Option<&Placed<String>>, problems: &mut Problems) -> Option<String> {
    let host = written?;
    if host.parse::<http::uri::Authority>().is_err() || host.contains('@') {
        problems.push(
            Problem::new(format!("bad host `{}`", host.value))
                .help("write name or name:port")
                .at(&host.place),
        );
    }
    Some(host.value.clone())
}
