//! The inputs of a compiled expression, identified by number.

use super::fields::{Group, Texts, field, parameter};
use super::functions::{Network, Pattern};
use crate::evaluation_input::Facts;
use cel::common::types::{CelBool, CelInt, CelList, CelString};
use cel::common::value::{CowVal, Val};
use http::{HeaderName, Version};
use moongate_sdk::{Tls, cookie};
use std::borrow::Cow;

/// One input of an expression.
#[derive(Debug)]
pub(super) enum Slot {
    Fact(Fact),
    One(Name),
    Has(Name),
    All(Group),
    Pattern(Pattern),
    Network(Network),
}

/// A property of a request or a response as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Method,
    Scheme,
    Host,
    Path,
    RawPath,
    Query,
    ClientIp,
    PeerIp,
    Route,
    Listener,
    Version,
    Id,
    IsWebsocket,
    Status,
    Tls(TlsFact),
}

/// A property of the client's TLS connection and certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsFact {
    Version,
    Cipher,
    ServerName,
    Subject,
    Issuer,
    Serial,
    Fingerprint,
    Names,
}

/// A member of a group, by a literal name.
#[derive(Debug)]
pub(super) enum Name {
    Header(HeaderName),
    ResponseHeader(HeaderName),
    Cookie(Box<str>),
    Param(Box<str>),
}

/// The evaluator's variable name of a slot; no source can contain it.
pub(super) fn name(number: usize) -> String {
    format!("@{number}")
}

/// The number of a slot's variable name.
pub(super) fn number(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

impl Slot {
    /// Its value for a request.
    pub(super) fn read<'a>(&'a self, facts: &'a Facts<'a>) -> CowVal<'a, 'a> {
        match self {
            Self::Fact(fact) => fact.read(facts),
            Self::One(name) => text(name.find(facts).unwrap_or_default()),
            Self::Has(name) => truth(name.find(facts).is_some()),
            Self::All(group) => CowVal::owned(Texts { group: *group, facts }),
            Self::Pattern(pattern) => CowVal::Borrowed(pattern),
            Self::Network(network) => CowVal::Borrowed(network),
        }
    }
}

impl Name {
    fn find<'a>(&self, facts: &'a Facts<'a>) -> Option<Cow<'a, str>> {
        match self {
            Self::Header(name) => field(facts.headers, name),
            Self::ResponseHeader(name) => field(facts.response?.1, name),
            Self::Cookie(name) => cookie(facts.headers, name).map(String::from_utf8_lossy),
            Self::Param(name) => parameter(facts.request.query, name),
        }
    }
}

impl Fact {
    fn read<'a>(self, facts: &'a Facts<'a>) -> CowVal<'a, 'a> {
        let request = &facts.request;
        text(Cow::Borrowed(match self {
            Self::Method => request.method.as_str(),
            Self::Scheme => request.scheme,
            Self::Host => return text(lower(request.host)),
            Self::Path => request.path,
            Self::RawPath => request.raw_path,
            Self::Query => request.query.unwrap_or_default(),
            Self::Route => request.route,
            Self::Listener => request.listener,
            Self::Version => version(request.version),
            Self::Id => facts.id.and_then(|id| id.to_str().ok()).unwrap_or_default(),
            Self::ClientIp => return text(Cow::Owned(request.client.to_string())),
            Self::PeerIp => return text(Cow::Owned(request.peer.to_string())),
            Self::Tls(fact) => return fact.read(request.tls),
            Self::IsWebsocket => return truth(request.is_websocket),
            Self::Status => {
                let status = facts.response.map_or(0, |(status, _)| status.as_u16());
                return CowVal::owned(CelInt::from(i64::from(status)));
            }
        }))
    }
}

impl TlsFact {
    /// Empty for a plaintext connection, and for a client without a certificate.
    fn read(self, tls: Option<&Tls>) -> CowVal<'_, '_> {
        let client = tls.and_then(|tls| tls.client.as_ref());
        let found = match self {
            Self::Version => tls.map(|tls| tls.version),
            Self::Cipher => tls.map(|tls| tls.cipher),
            Self::ServerName => tls.and_then(|tls| tls.server_name.as_deref()),
            Self::Subject => client.map(|client| &*client.subject),
            Self::Issuer => client.map(|client| &*client.issuer),
            Self::Serial => client.map(|client| &*client.serial),
            Self::Fingerprint => client.map(|client| &*client.fingerprint),
            Self::Names => return list(client.map_or(&[], |client| &client.names)),
        };
        text(Cow::Borrowed(found.unwrap_or_default()))
    }
}

fn list<'a>(texts: &[Box<str>]) -> CowVal<'a, 'a> {
    let texts = texts.iter().map(|text| Box::new(CelString::from(text.to_string())) as Box<dyn Val>);
    CowVal::owned(CelList::from(texts.collect::<Vec<_>>()))
}

/// Hosts are compared in lower case: a condition must not depend on the client's spelling.
fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

fn text(text: Cow<'_, str>) -> CowVal<'_, '_> {
    CowVal::owned(CelString::from(text))
}

fn truth<'a>(truth: bool) -> CowVal<'a, 'a> {
    CowVal::Borrowed(if truth { &CelBool::TRUE } else { &CelBool::FALSE })
}

/// In the access log's spelling.
fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
