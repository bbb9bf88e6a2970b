//! Whom a probe asks, and the few bytes of HTTP/1.1 that it reads: a bounded head.

use crate::spec::UpstreamProtocol;
use crate::upstream::address::Address;
use crate::upstream::dial::DialError;
use crate::upstream::reach::{Reach, Wire};
use moongate_sdk::{Placed, Problem, Problems};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncReadExt;

/// The longest head that is read; a probe needs its first line and a few fields.
const LONGEST_HEAD: usize = 16 << 10;
/// The most fields that are read.
const MOST_FIELDS: usize = 64;

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
    /// The answer is not HTTP, or its head is longer than 16 KiB or has more than 64 fields.
    #[error("the answer is not HTTP")]
    Malformed,
    /// The answer's status is not an expected one.
    #[error("status {0}")]
    Status(u16),
    /// It switched protocols in a way that RFC 6455 section 4.1 tells a client to refuse.
    #[error("bad handshake: {0}")]
    Handshake(&'static str),
}

/// The endpoint that a probe asks.
#[derive(Debug)]
pub struct Target<'a> {
    address: &'a Address,
    host: Option<Arc<str>>,
    reach: &'a Reach,
}

impl<'a> Target<'a> {
    pub(in crate::upstream) fn new(address: &'a Address, host: Option<Arc<str>>, reach: &'a Reach) -> Self {
        Self { address, host, reach }
    }

    /// Connects as the upstream's settings say; with `h2`, HTTP/2 is offered where the backends speak it.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self, h2: bool) -> Result<Wire, Failure> {
        let h2 = h2 && self.reach.protocol == UpstreamProtocol::H2;
        Ok(self.reach.open(self.address, self.host.as_deref(), None, h2).await?)
    }

    /// Whether HTTP/2 is spoken on a connection.
    pub fn speaks_h2(&self, wire: &Wire) -> bool {
        self.reach.protocol == UpstreamProtocol::H2c || wire.chose_h2()
    }

    /// `https` where there is TLS.
    pub fn scheme(&self) -> &'static str {
        if self.reach.tls.is_some() { "https" } else { "http" }
    }

    /// What `Host` says when the operator does not: the address, as a client that was given it would, and
    /// with TLS the name that is asked for.
    pub fn authority(&self) -> String {
        self.reach.host_field(self.address, self.host.as_deref())
    }
}

/// An answer's head.
pub(super) struct Head {
    pub(super) status: u16,
    fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The only value of a field; none when it is absent or there are several.
    pub(super) fn only<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        let first = values.next()?;
        if values.next().is_none() { Some(first) } else { None }
    }

    /// Whether a list field names a token, in any case.
    pub(super) fn names(&self, field: &str, token: &str) -> bool {
        self.all(field)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(field, _): &&(String, Vec<u8>)| field.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, value)| value.as_slice())
    }
}

/// Reads an answer's head and no more than fits the bound. What follows it is of no interest.
pub(super) async fn read_head(wire: &mut Wire) -> Result<Head, Failure> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if wire.take((LONGEST_HEAD - bytes.len()) as u64).read_buf(&mut bytes).await? == 0 {
            return Err(if bytes.len() >= LONGEST_HEAD { Failure::Malformed } else { Failure::Closed });
        }
        if let Some(head) = parse(&bytes)? {
            return Ok(head);
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(_)) => Ok(Some(Head {
            status: response.code.ok_or(Failure::Malformed)?,
            fields: response
                .headers
                .iter()
                .map(|field| (field.name.to_owned(), field.value.to_vec()))
                .collect(),
        })),
        Err(_) => Err(Failure::Malformed),
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
