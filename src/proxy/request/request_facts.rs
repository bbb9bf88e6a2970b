//! A request when its head has been received: each fact about it is decided here, once, and read by routing,
//! expressions, keys, plugins and the log. What two places work out for themselves they can work out differently, and
//! a rule that one of them applies is then bypassed by the other.

use super::forwarded::{self, Client};
use super::{grpc, x_forwarded};
use crate::net::conn_info::ConnInfo;
use crate::net::loop_detection::Way;
use crate::route::{Target, merge_slashes};
use crate::snapshot::GlobalSettings;
use crate::websocket::handshake::{self, Handshake, HandshakeError};
use crate::websocket::has_token;
use bytes::Bytes;
use http::{Method, Uri, Version, header};
use moongate_sdk::{BodyLength, ClientPrefix, Request, Tls};
use pingora::http::RequestHeader;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What is known of a request from its head and its connection.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Received {
    /// The other end of the connection.
    pub(in crate::proxy) peer: IpAddr,
    /// The client: the peer, or what a trusted proxy says it is.
    pub(in crate::proxy) client: Client,
    /// What of its address identifies the client in limits and keys.
    client_prefix: ClientPrefix,
    /// Whether the peer is a trusted proxy.
    pub(in crate::proxy) is_trusted: bool,
    /// The TLS of its connection.
    pub(in crate::proxy) tls: Option<Arc<Tls>>,
    /// The index of the listener that accepted the connection.
    pub(in crate::proxy) listener: u16,
    /// The version of the client's protocol.
    pub(in crate::proxy) version: Version,
    /// `http` or `https`: what the client uses, or what a trusted proxy says that it does.
    pub(in crate::proxy) scheme: &'static str,
    /// Whether that is beyond doubt: TLS ends here, or a trusted proxy told it. Otherwise a balancer that is not named
    /// as trusted may have ended TLS.
    scheme_is_certain: bool,
    /// The answer to "does this request ask for a WebSocket": the handshake, what is wrong with it, or
    /// [`Refusal::NotWebSocket`].
    pub(in crate::proxy) handshake: Result<Handshake, HandshakeError>,
    /// A CONNECT for a WebSocket over HTTP/2 (RFC 8441), in the form of a GET: frames follow its head, and no body.
    pub(in crate::proxy) is_extended_connect: bool,
    /// Whether it is a gRPC call.
    pub(in crate::proxy) is_grpc: bool,
    /// What its head says of its body.
    pub(in crate::proxy) body: BodyLength,
    /// Whether the client waits for a 100 before it sends the body (RFC 9110 §10.1.1).
    pub(in crate::proxy) expects_continue: bool,
    /// The request target as it was sent, where the request line has another.
    pub(in crate::proxy) sent_target: Option<Bytes>,
    /// What was sent has no method.
    pub(in crate::proxy) has_no_method: bool,
    /// Path and query as they are forwarded, in ASCII, where the request line has another text.
    target: Option<String>,
    /// That text goes to the backend, and not what was sent.
    is_target_rewritten: bool,
    /// The path as it was sent, where the forwarded one is written otherwise.
    raw_path: Option<String>,
    /// The path in its widest reading, where it differs from the forwarded one.
    read_path: Option<String>,
    /// The same without the parameters of its segments, where it has any and its route does not keep them.
    bare_path: Option<String>,
    /// Whether the path has `%2F`, `%5C` or `\`.
    pub(in crate::proxy) has_escaped_slash: bool,
    /// Host as the client wrote it, with its port; empty without one.
    authority: String,
    /// The length of the host in it, without port and final dot.
    host_length: usize,
    /// The way that it took, as far as its fields say.
    pub(in crate::proxy) way: Way,
    /// What a trusted proxy says in X-Forwarded-Host.
    forwarded_host: Option<Box<str>>,
}

/// What of a head depends on the protocol that carried it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Form {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// A stream of HTTP/2; `ended` with its head.
    Http2 {
        /// Nothing follows the head.
        ended: bool,
    },
    /// An extended CONNECT for a WebSocket.
    ExtendedConnect,
}

impl Default for Received {
    fn default() -> Self {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            peer: unknown,
            client: Client::Ip(unknown),
            client_prefix: ClientPrefix::default(),
            is_trusted: false,
            tls: None,
            listener: 0,
            version: Version::HTTP_11,
            scheme: "http",
            scheme_is_certain: false,
            handshake: Err(HandshakeError::NotWebSocket),
            is_extended_connect: false,
            is_grpc: false,
            body: BodyLength::Empty,
            expects_continue: false,
            sent_target: None,
            has_no_method: false,
            target: None,
            is_target_rewritten: false,
            raw_path: None,
            read_path: None,
            bare_path: None,
            has_escaped_slash: false,
            authority: String::new(),
            host_length: 0,
            way: Way::default(),
            forwarded_host: None,
        }
    }
}

impl Received {
    /// Decides what a head says, in the form that requests of HTTP/1 have. Nothing of it has been removed yet: what a
    /// trusted proxy says of the client counts.
    pub(in crate::proxy) fn new(
        head: &RequestHeader,
        form: Form,
        arrival: Option<&ConnInfo>,
        terms: &GlobalSettings,
    ) -> Self {
        let headers = &head.headers;
        let mut received = Self {
            version: head.version,
            is_extended_connect: form == Form::ExtendedConnect,
            is_grpc: grpc::is_call(head),
            way: Way::of(headers),
            handshake: match form {
                Form::ExtendedConnect => handshake::check_stream(headers),
                _ => handshake::check(&head.method, head.version, headers),
            },
            body: match form {
                Form::Http1 => BodyLength::of_http1(headers),
                Form::ExtendedConnect | Form::Http2 { ended: true } => BodyLength::Empty,
                // A stream that goes on has a body, be it an empty frame.
                Form::Http2 { ended: false } => match BodyLength::of_http1(headers) {
                    BodyLength::Empty => BodyLength::Exactly(0),
                    told => told,
                },
            },
            ..Self::default()
        };
        // Of HTTP/1.0 it means nothing, and without a body there is nothing to wait for.
        received.expects_continue = received.version == Version::HTTP_11
            && received.body != BodyLength::Empty
            && has_token(headers, &header::EXPECT, "100-continue");
        if let Some(arrival) = arrival {
            received.peer = arrival.peer.ip().to_canonical();
            received.listener = arrival.listener;
            received.tls = arrival.tls.clone();
        }
        received.client = Client::Ip(received.peer);
        received.scheme = if received.tls.is_some() { "https" } else { "http" };
        received.scheme_is_certain = received.tls.is_some();
        received.is_trusted = terms.trusts(received.peer);
        if received.is_trusted {
            let (client, hops) = forwarded::client(headers, received.peer, |hop| terms.trusts(hop));
            received.client = client;
            let told = x_forwarded::scheme(headers, hops);
            received.scheme_is_certain |= told.is_some();
            received.scheme = told.unwrap_or(received.scheme);
            received.forwarded_host = x_forwarded::host(headers).map(|host| host.into_owned().into());
        }
        received.client_prefix = terms.client_prefix;
        received
    }

    /// The client uses TLS, unless a trusted proxy says otherwise: for a request that never arrived.
    pub(in crate::proxy) fn assume_tls(&mut self, tls: bool) {
        if tls && !self.scheme_is_certain {
            (self.scheme, self.scheme_is_certain) = ("https", true);
        }
    }

    /// Whether the scheme is beyond doubt.
    pub(in crate::proxy) fn is_scheme_certain(&self) -> bool {
        self.scheme_is_certain
    }

    /// Takes over where the request wants to go.
    pub(in crate::proxy) fn set_target(&mut self, target: &Target<'_>) {
        if let Some(authority) = target.authority() {
            authority.as_str().clone_into(&mut self.authority);
            self.host_length = authority.host().len();
        }
        let differing = |text: &str| (text != target.path()).then(|| text.to_owned());
        self.target = target.is_rewritten().then(|| target.forwarded().to_owned());
        self.raw_path = differing(target.raw_path());
        self.read_path = differing(target.read_path());
        self.bare_path = target.has_parameters().then(|| target.bare_path().to_owned());
        self.has_escaped_slash = target.has_escaped_slash();
    }

    /// Whether a segment of the path has parameters.
    pub(in crate::proxy) fn has_path_parameters(&self) -> bool {
        self.bare_path.is_some()
    }

    /// Its route matches the path with them.
    pub(in crate::proxy) fn keep_path_parameters(&mut self) {
        self.bare_path = None;
    }

    /// Its route forwards several slashes in a row as one.
    pub(in crate::proxy) fn merge_slashes(&mut self, uri: &Uri) {
        let (path, query) = self.path_and_query(uri);
        if !path.contains("//") {
            return;
        }
        let mut merged = merge_slashes(path);
        let raw = self.raw_path.clone().unwrap_or_else(|| path.to_owned());
        let read = self.read_path.clone().unwrap_or_else(|| path.to_owned());
        if let Some(query) = query {
            merged.push('?');
            merged.push_str(query);
        }
        (self.raw_path, self.read_path) = (Some(raw), Some(read));
        (self.target, self.is_target_rewritten) = (Some(merged), true);
    }

    /// Path and query as they are forwarded, in ASCII.
    pub(in crate::proxy) fn path_and_query<'a>(&'a self, uri: &'a Uri) -> (&'a str, Option<&'a str>) {
        split_target(self.target.as_deref(), uri)
    }

    /// Path and query to the backend, where what was sent does not go there.
    pub(in crate::proxy) fn rewritten_target(&self) -> Option<&str> {
        self.target.as_deref().filter(|_| self.is_target_rewritten)
    }

    /// The path in its widest reading, with the parameters of its segments.
    pub(in crate::proxy) fn path_with_parameters<'a>(&'a self, uri: &'a Uri) -> &'a str {
        self.read_path.as_deref().unwrap_or_else(|| self.path_and_query(uri).0)
    }

    /// Whether it asks for a WebSocket. One that asks wrongly does too: it is refused, and never ordinary HTTP.
    pub(in crate::proxy) fn is_websocket(&self) -> bool {
        self.handshake != Err(HandshakeError::NotWebSocket)
    }

    /// Whether it came over HTTP/2.
    pub(in crate::proxy) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// Host as the client wrote it, with its port; empty without one.
    pub(in crate::proxy) fn authority(&self) -> &str {
        &self.authority
    }

    /// The request as expressions, keys and plugins see it.
    pub(in crate::proxy) fn request<'a>(
        &'a self,
        line: RequestLine<'a>,
        listener: &'a str,
        route: &'a str,
    ) -> Request<'a> {
        let (path, query) = self.path_and_query(line.uri);
        Request {
            method: line.method,
            scheme: self.scheme,
            scheme_is_certain: self.scheme_is_certain,
            host: &self.authority[..self.host_length],
            forwarded_host: self.forwarded_host.as_deref().unwrap_or(&self.authority),
            path: self.bare_path.as_deref().or(self.read_path.as_deref()).unwrap_or(path),
            forwarded_path: path,
            raw_path: self.raw_path.as_deref().unwrap_or(path),
            query,
            version: self.version,
            is_websocket: self.is_websocket(),
            is_grpc: self.is_grpc,
            body: self.body,
            client: self.client.address(),
            client_network: self.client_prefix.identity(self.client.address()),
            peer: self.peer,
            tls: self.tls.as_deref(),
            listener,
            route,
        }
    }
}

/// A request line. It is apart from the fields, for those may be changed meanwhile.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct RequestLine<'a> {
    pub(in crate::proxy) method: &'a Method,
    pub(in crate::proxy) uri: &'a Uri,
}

impl<'a> RequestLine<'a> {
    pub(in crate::proxy) fn of(head: &'a RequestHeader) -> Self {
        Self { method: &head.method, uri: &head.uri }
    }
}

/// Path and query: the given ones, otherwise those of the request line.
pub(in crate::proxy) fn split_target<'a>(given: Option<&'a str>, uri: &'a Uri) -> (&'a str, Option<&'a str>) {
    match given.map(|target| target.split_once('?').ok_or(target)) {
        Some(Ok((path, query))) => (path, Some(query)),
        Some(Err(path)) => (path, None),
        None => (uri.path(), uri.query()),
    }
}
