//! Facts about a received request, determined once from its header and connection. Routing, expressions,
//! keys, plugins and the log read them here: two interpretations of one request could be used to bypass a
//! rule.

use super::forwarded::{self, Client};
use super::received_parts::ReceivedParts;
use super::{grpc, x_forwarded};
use crate::net::conn_info::ConnInfo;
use crate::net::loop_detection::HopCount;
use crate::route::{Target, merge_slashes};
use crate::snapshot::GlobalSettings;
use crate::websocket::handshake::{self, Handshake, HandshakeError};
use crate::websocket::has_token;
use http::{HeaderName, Method, Uri, Version, header};
use moongate_sdk::{BodyLength, ClientPrefix, Request, Tls};
use pingora::http::RequestHeader;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The facts about a request.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Received {
    /// The peer's address.
    pub(in crate::proxy) peer: IpAddr,
    /// The client: the peer, or the one that a trusted proxy names.
    pub(in crate::proxy) client: Client,
    /// The prefix lengths that identify the client in limits and keys.
    pub(super) client_prefix: ClientPrefix,
    /// Whether the peer is a trusted proxy.
    pub(in crate::proxy) is_trusted: bool,
    /// The TLS of its connection.
    pub(in crate::proxy) tls: Option<Arc<Tls>>,
    /// The name of the listener that accepted the connection.
    pub(super) listener: Option<Arc<str>>,
    /// The HTTP version of the client.
    pub(in crate::proxy) version: Version,
    /// `http` or `https`: the client's scheme, or the one that a trusted proxy names.
    pub(in crate::proxy) scheme: &'static str,
    /// Whether the scheme is certain: TLS ends here, or a trusted proxy named it. Otherwise a load balancer
    /// that is not trusted may have terminated TLS.
    pub(super) scheme_is_certain: bool,
    /// The WebSocket handshake, its error, or [`HandshakeError::NotWebSocket`].
    pub(in crate::proxy) handshake: Result<Handshake, HandshakeError>,
    /// An extended CONNECT for a WebSocket (RFC 8441), converted to a GET: frames follow its header, and no
    /// body.
    pub(in crate::proxy) is_extended_connect: bool,
    /// Whether it is a gRPC call.
    pub(in crate::proxy) is_grpc: bool,
    /// The fields that its `Connection` nominates.
    pub(in crate::proxy) nominated: Vec<HeaderName>,
    /// The length of its body by the header.
    pub(in crate::proxy) body: BodyLength,
    /// Whether the client waits for 100 (Continue) before it sends the body (RFC 9110 §10.1.1).
    pub(in crate::proxy) expects_continue: bool,
    /// What the parser found besides the header.
    pub(in crate::proxy) parts: ReceivedParts,
    /// Path and query to forward, in ASCII, if they differ from the request line.
    pub(super) target: Option<String>,
    /// `target` is sent to the backend instead of the received target.
    pub(super) is_target_rewritten: bool,
    /// The received path, if the forwarded one differs.
    pub(super) raw_path: Option<String>,
    /// The path in its most permissive interpretation, if it differs from the forwarded one.
    pub(super) read_path: Option<String>,
    /// The same path without path parameters, if it has any and its route does not keep them.
    pub(super) bare_path: Option<String>,
    /// Whether the path has `%2F`, `%5C` or `\`.
    pub(in crate::proxy) has_escaped_slash: bool,
    /// The received Host with its port; empty without one.
    pub(super) authority: String,
    /// The length of the host in it, without port and final dot.
    pub(super) host_length: usize,
    /// The hops of the request, by its fields.
    pub(in crate::proxy) way: HopCount,
    /// X-Forwarded-Host from a trusted proxy.
    pub(super) forwarded_host: Option<Box<str>>,
}

/// The protocol-dependent part of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Form {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// An HTTP/2 stream.
    Http2 {
        /// END_STREAM was set on the header.
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
            listener: None,
            version: Version::HTTP_11,
            scheme: "http",
            scheme_is_certain: false,
            handshake: Err(HandshakeError::NotWebSocket),
            is_extended_connect: false,
            is_grpc: false,
            nominated: Vec::new(),
            body: BodyLength::Empty,
            expects_continue: false,
            parts: ReceivedParts::default(),
            target: None,
            is_target_rewritten: false,
            raw_path: None,
            read_path: None,
            bare_path: None,
            has_escaped_slash: false,
            authority: String::new(),
            host_length: 0,
            way: HopCount::default(),
            forwarded_host: None,
        }
    }
}

impl Received {
    /// Determines the facts of a header in the form of HTTP/1. The header must still have its forwarding
    /// fields, which count if a trusted proxy sent them.
    pub(in crate::proxy) fn new(
        head: &RequestHeader,
        form: Form,
        conn_info: Option<&ConnInfo>,
        globals: &GlobalSettings,
    ) -> Self {
        let headers = &head.headers;
        let mut received = Self {
            version: head.version,
            is_extended_connect: form == Form::ExtendedConnect,
            is_grpc: grpc::is_call(head),
            way: HopCount::of(headers),
            handshake: match form {
                Form::ExtendedConnect => handshake::check_stream(headers),
                _ => handshake::check(&head.method, head.version, headers),
            },
            body: match form {
                Form::Http1 => BodyLength::of_http1(headers),
                Form::ExtendedConnect | Form::Http2 { ended: true } => BodyLength::Empty,
                // A stream without END_STREAM has a body, even if it is an empty frame.
                Form::Http2 { ended: false } => match BodyLength::of_http1(headers) {
                    BodyLength::Empty => BodyLength::Exactly(0),
                    length => length,
                },
            },
            ..Self::default()
        };
        // It has no meaning in HTTP/1.0 or without a body.
        received.expects_continue = matches!(received.version, Version::HTTP_11 | Version::HTTP_2)
            && received.body != BodyLength::Empty
            && has_token(headers, &header::EXPECT, "100-continue");
        if let Some(conn_info) = conn_info {
            received.peer = conn_info.peer.ip().to_canonical();
            received.listener = Some(Arc::clone(&conn_info.listener));
            received.tls = conn_info.tls.clone();
        }
        received.client = Client::Ip(received.peer);
        received.scheme = if received.tls.is_some() { "https" } else { "http" };
        received.scheme_is_certain = received.tls.is_some();
        received.is_trusted = globals.trusts(received.peer);
        if received.is_trusted {
            let (client, hops) = forwarded::client(headers, received.peer, |hop| globals.trusts(hop));
            received.client = client;
            let scheme = x_forwarded::scheme(headers, hops);
            received.scheme_is_certain |= scheme.is_some();
            received.scheme = scheme.unwrap_or(received.scheme);
            received.forwarded_host = x_forwarded::host(headers).map(|host| host.into_owned().into());
        }
        received.client_prefix = globals.client_prefix;
        received
    }

    /// Sets the scheme from TLS, unless a trusted proxy named one: for a preview.
    pub(in crate::proxy) fn assume_tls(&mut self, tls: bool) {
        if tls && !self.scheme_is_certain {
            (self.scheme, self.scheme_is_certain) = ("https", true);
        }
    }

    /// Returns whether the scheme is certain.
    pub(in crate::proxy) fn is_scheme_certain(&self) -> bool {
        self.scheme_is_certain
    }

    /// Sets the interpreted target.
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

    /// Returns whether a path segment has parameters.
    pub(in crate::proxy) fn has_path_parameters(&self) -> bool {
        self.bare_path.is_some()
    }

    /// The route matches the path including parameters.
    pub(in crate::proxy) fn keep_path_parameters(&mut self) {
        self.bare_path = None;
    }

    /// The route merges repeated slashes.
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

    /// Path and query to forward, in ASCII.
    pub(in crate::proxy) fn path_and_query<'a>(&'a self, uri: &'a Uri) -> (&'a str, Option<&'a str>) {
        split_target(self.target.as_deref(), uri)
    }

    /// Path and query for the backend, if they replace the received target.
    pub(in crate::proxy) fn rewritten_target(&self) -> Option<&str> {
        self.target.as_deref().filter(|_| self.is_target_rewritten)
    }

    /// The path in its most permissive interpretation, with path parameters.
    pub(in crate::proxy) fn path_with_parameters<'a>(&'a self, uri: &'a Uri) -> &'a str {
        self.read_path.as_deref().unwrap_or_else(|| self.path_and_query(uri).0)
    }

    /// Returns whether it is a WebSocket handshake. An invalid handshake is one too: it is rejected, and
    /// never ordinary HTTP.
    pub(in crate::proxy) fn is_websocket(&self) -> bool {
        self.handshake != Err(HandshakeError::NotWebSocket)
    }

    /// Returns whether it was received over HTTP/2.
    pub(in crate::proxy) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// The received Host with its port; empty without one.
    pub(in crate::proxy) fn authority(&self) -> &str {
        &self.authority
    }

    /// The name of the listener that accepted the connection.
    pub(in crate::proxy) fn listener(&self) -> &str {
        self.listener.as_deref().unwrap_or_default()
    }

    /// The request as expressions, keys and plugins see it.
    pub(in crate::proxy) fn request<'a>(&'a self, line: RequestLine<'a>, route: &'a str) -> Request<'a> {
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
            listener: self.listener(),
            route,
        }
    }
}

/// A request line, separate from the fields so that those can be changed meanwhile.
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
