//! A request and its response as a plugin sees them.

use crate::request_edits::split;
use crate::{
    BodyLength, ClientAddress, Edits, Headers, Running, SegmentParameters, Services, Tls, read_path,
    without_parameters,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// What a request asked for, as it came. Every fact is decided once, when the head was received; expressions, keys,
/// plugins of every kind and the log read it here, and none of them looks at the fields for it again.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`, as the client speaks it: what a trusted proxy says in X-Forwarded-Proto counts.
    pub scheme: &'a str,
    /// Whether the scheme is beyond doubt: TLS ends here, or a trusted proxy told it. On any other connection a
    /// balancer in front may have ended TLS.
    pub scheme_is_certain: bool,
    /// The host asked for, without its port; empty when the client named none.
    pub host: &'a str,
    /// The host as the client wrote it, with its port: what a trusted proxy says in X-Forwarded-Host counts.
    pub forwarded_host: &'a str,
    /// The path as it is matched, in its widest reading ([`crate::read_path`]) and without the query: access rules look
    /// at this. The parameters of its segments (`/a;x/b`) are not in it, unless its route keeps them.
    pub path: &'a str,
    /// The path as it goes to the backend when no plugin changes it, without the query: as it was sent, with the
    /// characters encoded that may not stand in a URI (RFC 3986), those beyond ASCII among them.
    pub forwarded_path: &'a str,
    /// The path as it was sent, without the query; bytes that are not UTF-8 are encoded.
    pub raw_path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The version of the client's protocol.
    pub version: Version,
    /// Whether it asks for a WebSocket, by all of RFC 6455 §4.1 (method, version, `Connection` and `Upgrade`) or
    /// RFC 8441. A request for which this is false never becomes one, and one for which it is true never reaches a
    /// backend as anything else.
    pub is_websocket: bool,
    /// Whether it is a gRPC call: a POST in HTTP/2 with `te: trailers` and the media type `application/grpc`.
    pub is_grpc: bool,
    /// What the head says of the body.
    pub body: BodyLength,
    /// The client: the peer, or what a trusted proxy says it is.
    pub client: ClientAddress<'a>,
    /// What identifies the client for limits and keys: its IPv4 address, or the prefix of its IPv6 address that
    /// `server.client_ipv6_prefix` says. Logs and access rules take `client`.
    pub client_network: ClientAddress<'a>,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The TLS of the client's connection to the gateway; `None` when it is plain.
    pub tls: Option<&'a Tls>,
    /// The name of the listener it came in by.
    pub listener: &'a str,
    /// The route's name.
    pub route: &'a str,
}

impl<'a> Request<'a> {
    /// A request that the gateway makes itself: HTTP/1.1 without TLS, a listener, a route or a body. `target` is path
    /// and query.
    #[must_use]
    pub fn internal(method: &'a Method, target: &'a str, client: IpAddr) -> Self {
        let (path, query) = split(target);
        Self {
            method,
            scheme: "http",
            scheme_is_certain: false,
            host: "",
            forwarded_host: "",
            path,
            forwarded_path: path,
            raw_path: path,
            query,
            version: Version::HTTP_11,
            is_websocket: false,
            is_grpc: false,
            body: BodyLength::Empty,
            client: client.into(),
            client_network: client.into(),
            peer: client,
            tls: None,
            listener: "",
            route: "",
        }
    }
}

/// A request and what the gateway knows about it.
pub struct Exchange<'a> {
    /// What was asked for; what plugins changed of it since is in [`Exchange::method`] and its like.
    pub request: Request<'a>,
    /// The request's fields, to read and to change. Changes behind the phase `request_headers` go nowhere.
    pub headers: Headers<'a>,
    /// What the gateway keeps about this request from phase to phase.
    pub running: &'a mut Running,
    /// What the gateway does for its plugins.
    pub services: &'a Arc<dyn Services>,
}

impl Exchange<'_> {
    /// The method, as it goes to the backend.
    pub fn method(&self) -> &Method {
        self.running.edits().and_then(|edits| edits.method.as_ref()).unwrap_or(self.request.method)
    }

    /// The path, as it goes to the backend, without the query.
    pub fn path(&self) -> &str {
        self.edited_target().map_or(self.request.forwarded_path, |target| split(target).0)
    }

    /// The path to decide by: that of [`Exchange::path`] in its widest reading, without the parameters of its segments
    /// unless the route keeps them.
    pub fn matched_path(&self) -> &str {
        self.running.edits().and_then(Edits::matched_path).unwrap_or(self.request.path)
    }

    /// The query, as it goes to the backend, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.edited_target().map_or(self.request.query, |target| split(target).1)
    }

    /// Changes the method to the backend. Only in the phase `request_headers`; `CONNECT`, which is no
    /// request for a resource, is not taken, and a WebSocket's handshake stays a `GET`.
    pub fn set_method(&mut self, method: Method) {
        if method != Method::CONNECT {
            self.running.edit().method = Some(method);
        }
    }

    /// Whether the route matches paths with the parameters of their segments.
    pub fn segment_parameters(&self) -> SegmentParameters {
        if self.running.keeps_path_parameters() { SegmentParameters::Keep } else { SegmentParameters::Ignore }
    }

    /// Changes path and query to the backend; the route stays. Only in the phase `request_headers`.
    ///
    /// # Errors
    /// When `target` does not begin with `/`, or has a character that no request line may have
    /// (RFC 9112 §3.2.1).
    pub fn set_target(&mut self, target: &str) -> Result<(), BadTarget> {
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !target.starts_with('/') || !target.bytes().all(fits) {
            return Err(BadTarget);
        }
        let keeps = self.running.keeps_path_parameters();
        let path = split(target).0;
        // A path without a reading, `/a/..` for instance, is the plugin's own word and stays as it is.
        let read = read_path(path.as_bytes()).map_or(Cow::Borrowed(path), |reading| reading.path);
        let bare = if keeps { None } else { without_parameters(&read) };
        let matched = bare.or(match read {
            Cow::Owned(read) => Some(read),
            Cow::Borrowed(_) => None,
        });
        let edits = self.running.edit();
        edits.target = Some(target.to_owned());
        edits.matched = matched;
        Ok(())
    }

    /// The request's id: the one a plugin took over from the client, or 32 random hexadecimal digits
    /// that are made when first asked for.
    pub fn request_id(&mut self) -> &HeaderValue {
        self.running.request_id()
    }

    /// What the client sent in a field that a plugin owns ([`crate::Plugin::owned_headers`]), and that is no longer among
    /// the request's fields.
    pub fn client_values<'e>(&'e self, name: &'e HeaderName) -> impl Iterator<Item = &'e HeaderValue> {
        let withdrawn = |field: &&crate::ClientField| field.is_withdrawn && field.name == *name;
        self.running.client_fields().iter().filter(withdrawn).map(|field| &field.value)
    }

    /// The values of a credential (`Authorization`, `Cookie` and their like) to judge the client by: those among the
    /// request's fields, otherwise those that the client sent and that were withdrawn for a plugin which owns the field.
    pub fn credentials<'e>(&'e self, name: &'e HeaderName) -> impl Iterator<Item = &'e HeaderValue> {
        let stands = self.headers.contains_key(name);
        let withdrawn = self.client_values(name).filter(move |_| !stands);
        self.headers.get_all(name).iter().chain(withdrawn)
    }

    /// What the calling plugin keeps about this request, from phase to phase. The first call of a
    /// request makes it; only then is anything allocated.
    pub fn state<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        self.running.state()
    }

    /// Puts something into this request's line of the access log, under the plugin's name. A second
    /// note with the same key replaces the first.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        self.running.note(key, value.into());
    }

    /// Leaves the calling plugin out of the bodies of this exchange that are still to come, as if its
    /// phases did not name them: an answer of which no plugin wants the body keeps its `Content-Length`.
    /// To be said before, or with, the head of that body.
    pub fn leave_bodies(&mut self) {
        self.running.leave_bodies();
    }

    /// Whether the calling plugin left the bodies before: the head it sees now is of an answer that took the
    /// place of another, and nobody will show it the body.
    pub fn has_left_bodies(&self) -> bool {
        self.running.has_left_bodies()
    }

    fn edited_target(&self) -> Option<&str> {
        self.running.edits()?.target.as_deref()
    }
}

/// A target that no request line may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

impl std::fmt::Display for BadTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a target begins with `/` and has only visible ASCII characters but `#`")
    }
}

impl std::error::Error for BadTarget {}

/// The answer's head as a plugin sees it.
pub struct Response<'a> {
    /// Its status, to read and to change; that of a 101 stays.
    pub status: StatusCode,
    /// Its fields, to read and to change.
    pub headers: Headers<'a>,
    /// The endpoint that gave it, when one did.
    pub endpoint: Option<&'a str>,
}
