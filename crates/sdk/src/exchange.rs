//! A request and its response as a plugin sees them.

use crate::request_edits::split;
use crate::{
    BodyLength, ClientAddress, Edits, Headers, RequestState, SegmentParameters, Services, Tls, read_path,
    without_parameters,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// A request as received. Every fact is decided once, when the head is received. Expressions, keys, plugins and the
/// log read it here, and none of them evaluates the fields again.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https` on the client's side; X-Forwarded-Proto of a trusted proxy takes precedence.
    pub scheme: &'a str,
    /// Whether the scheme is certain: TLS ends here, or a trusted proxy sent it. On any other connection a load
    /// balancer in front may have terminated TLS.
    pub scheme_is_certain: bool,
    /// The requested host without its port; empty if the client sent none.
    pub host: &'a str,
    /// The host in the client's spelling, with its port; X-Forwarded-Host of a trusted proxy takes precedence.
    pub forwarded_host: &'a str,
    /// The path in its normalized reading ([`crate::read_path`]) and without the query, for routes and access
    /// rules. It excludes the parameters of its segments (`/a;x/b`), unless the route keeps them.
    pub path: &'a str,
    /// The path that is forwarded if no plugin changes it, without the query: as sent, with characters encoded that
    /// a URI must not contain (RFC 3986), such as non-ASCII ones.
    pub forwarded_path: &'a str,
    /// The path as sent, without the query; bytes that are not UTF-8 are encoded.
    pub raw_path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The version of the client's protocol.
    pub version: Version,
    /// Whether it is a WebSocket handshake, by all of RFC 6455 §4.1 (method, version, `Connection` and `Upgrade`)
    /// or RFC 8441. If false, the request never becomes a WebSocket. If true, it never reaches a backend as
    /// anything else.
    pub is_websocket: bool,
    /// Whether it is a gRPC call: an HTTP/2 POST with `te: trailers` and the media type `application/grpc`.
    pub is_grpc: bool,
    /// The body length that the head announces.
    pub body: BodyLength,
    /// The client: the peer, or the client that a trusted proxy names.
    pub client: ClientAddress<'a>,
    /// The client's identity for limits and keys: its IPv4 address, or the prefix of its IPv6 address with
    /// `server.client_ipv6_prefix` bits. Logs and access rules use `client`.
    pub client_network: ClientAddress<'a>,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The TLS of the client's connection to the gateway; `None` for plaintext.
    pub tls: Option<&'a Tls>,
    /// The name of its listener.
    pub listener: &'a str,
    /// The route's name.
    pub route: &'a str,
}

impl<'a> Request<'a> {
    /// A request of the gateway itself: HTTP/1.1 without TLS, listener, route or body. `target` is path and query.
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

/// A request and the gateway's state of it.
pub struct Exchange<'a> {
    /// The request as received; [`Exchange::method`] and similar methods include the plugins' changes.
    pub request: Request<'a>,
    /// The request's fields. Changes after the phase `request_headers` have no effect.
    pub headers: Headers<'a>,
    /// The gateway's state of this request across phases.
    pub running: &'a mut RequestState,
    /// The gateway's services for plugins.
    pub services: &'a Arc<dyn Services>,
}

impl Exchange<'_> {
    /// The method for the backend.
    pub fn method(&self) -> &Method {
        self.running.edits().and_then(|edits| edits.method.as_ref()).unwrap_or(self.request.method)
    }

    /// The path for the backend, without the query.
    pub fn path(&self) -> &str {
        self.edited_target().map_or(self.request.forwarded_path, |target| split(target).0)
    }

    /// The normalized path, for decisions: [`Exchange::path`] without the parameters of its segments, unless the
    /// route keeps them.
    pub fn matched_path(&self) -> &str {
        self.running.edits().and_then(Edits::matched_path).unwrap_or(self.request.path)
    }

    /// The query for the backend, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.edited_target().map_or(self.request.query, |target| split(target).1)
    }

    /// Changes the method for the backend, in the phase `request_headers` only. `CONNECT` is ignored, and a
    /// WebSocket handshake stays a `GET`.
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
    /// `target` does not begin with `/`, or has a character that a request line must not contain (RFC 9112 §3.2.1).
    pub fn set_target(&mut self, target: &str) -> Result<(), BadTarget> {
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !target.starts_with('/') || !target.bytes().all(fits) {
            return Err(BadTarget);
        }
        let keeps = self.running.keeps_path_parameters();
        let path = split(target).0;
        // A path without a reading, such as `/a/..`, stays as the plugin wrote it.
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

    /// The request's ID: one that a plugin adopted from the client, or 32 random hexadecimal digits, generated on
    /// first use.
    pub fn request_id(&mut self) -> &HeaderValue {
        self.running.request_id()
    }

    /// The client's values of a field that a plugin owns ([`crate::Plugin::owned_headers`]) and that is no longer
    /// among the request's fields.
    pub fn client_values<'e>(&'e self, name: &'e HeaderName) -> impl Iterator<Item = &'e HeaderValue> {
        let withdrawn = |field: &&crate::ClientField| field.is_withdrawn && field.name == *name;
        self.running.client_fields().iter().filter(withdrawn).map(|field| &field.value)
    }

    /// The values of a credential (`Authorization`, `Cookie` and similar) for authentication. These are the
    /// request's values, otherwise the client's values that were withdrawn for a plugin which owns the field.
    pub fn credentials<'e>(&'e self, name: &'e HeaderName) -> impl Iterator<Item = &'e HeaderValue> {
        let stands = self.headers.contains_key(name);
        let withdrawn = self.client_values(name).filter(move |_| !stands);
        self.headers.get_all(name).iter().chain(withdrawn)
    }

    /// The calling plugin's state of this request, kept across phases. The first call creates it; only then is
    /// memory allocated.
    pub fn state<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        self.running.state()
    }

    /// As [`Exchange::state`], for a state that another process can continue: with an upgrade of the gateway an open
    /// WebSocket moves to a new process, unless a plugin that it still calls has a state that cannot. A state that the
    /// new binary cannot read begins anew.
    pub fn movable_state<T>(&mut self) -> &mut T
    where
        T: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.running.movable_state()
    }

    /// Adds a note to the request's access log line, under the plugin's name. A second note with the same key
    /// replaces the first.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        self.running.note(key, value.into());
    }

    /// Excludes the calling plugin from the remaining bodies of this exchange, as if its phases did not include
    /// them. A response whose body no plugin needs keeps its `Content-Length`. To be called before or with the head
    /// of that body.
    pub fn leave_bodies(&mut self) {
        self.running.leave_bodies();
    }

    /// Whether the calling plugin left the bodies earlier. The current head then belongs to a replacement response,
    /// whose body the plugin does not see.
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

/// The head of a response as a plugin sees it.
pub struct Response<'a> {
    /// Its status; that of a 101 cannot be changed.
    pub status: StatusCode,
    /// Its fields.
    pub headers: Headers<'a>,
    /// The endpoint that sent it, if any.
    pub endpoint: Option<&'a str>,
}
