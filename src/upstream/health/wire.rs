//! The few bytes of HTTP/1.1 that a probe speaks: connect, a head out, a bounded head in.

use crate::upstream::address::Address;
use moongate_sdk::{Placed, Problem, Problems};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The longest head that is read; a probe needs its first line and a few fields.
const LONGEST_HEAD: usize = 16 << 10;
/// The most fields that are read.
const MOST_FIELDS: usize = 64;

/// Why an endpoint is not well.
#[derive(Debug, Error)]
pub enum Failure {
    /// Connecting, writing or reading failed.
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

/// A connection to an endpoint.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

pub(super) async fn connect(address: &Address) -> std::io::Result<Box<dyn Wire>> {
    Ok(match address {
        Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// What `Host` says when the operator does not: the address, as a client that was given it would.
pub(super) fn default_host(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
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
pub(super) async fn read_head(wire: &mut dyn Wire) -> Result<Head, Failure> {
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
