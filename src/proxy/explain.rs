//! Explanation of a request's route, without a request: for `moongate check --explain` and the admin API.

use super::request::explain_request::preview;
use crate::config::{EscapedSlashes, MergeSlashes, PathParameters};
use crate::route::{Explanation, RequestMatch, Target, merge_slashes};
use crate::snapshot::{Listener, Route, Snapshot};
use crate::websocket::handshake;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use moongate_sdk::{BodyLength, Request};
use std::fmt;
use std::net::IpAddr;

/// The request to explain.
#[derive(Clone, Debug)]
pub struct ExplainRequest<'a> {
    /// The method, in any case.
    pub method: &'a str,
    /// The URL; `ws` and `wss` mean a WebSocket handshake.
    pub url: &'a str,
    /// Header fields as `name: value`.
    pub headers: Vec<&'a str>,
    /// The listener that receives it; `None` for the first fitting one.
    pub listener: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
}

/// The route of a request, and the reasons.
#[derive(Clone, Debug)]
pub struct RouteExplanation {
    /// The winner and the losing routes.
    pub explanation: Explanation,
    /// How the path is matched and forwarded, where that is not as it was sent.
    form: String,
    /// Which listener was assumed.
    note: String,
}

impl fmt::Display for RouteExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.explanation, self.form, self.note)
    }
}

/// Explains which route a request matches.
///
/// # Errors
/// What is wrong with the request, in words for a person.
pub fn explain(snapshot: &Snapshot, asked: &ExplainRequest<'_>) -> Result<RouteExplanation, String> {
    let method = Method::from_bytes(asked.method.to_uppercase().as_bytes())
        .map_err(|_| format!("`{}` is not an HTTP method", asked.method))?;
    let (raw, url) = read_url(asked.url)?;
    let mut headers = HeaderMap::new();
    for field in &asked.headers {
        let (name, value) = field.split_once(':').ok_or_else(|| format!("`{field}` is not `name: value`"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| format!("`{name}` is not a header field name"))?;
        let value = HeaderValue::from_str(value.trim())
            .map_err(|_| format!("`{value}` is not a header field value"))?;
        headers.append(name, value);
    }
    // The scheme `wss` means a WebSocket handshake over TLS.
    let is = |known: &str| url.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case(known));
    let secure = is("https") || is("wss");
    let (listener, note) = match asked.listener {
        None => {
            let listener = default_listener(snapshot, secure);
            (listener, format!("at listener {listener}; `--listener` selects another\n"))
        }
        Some(name) if snapshot.listeners.iter().any(|known| &*known.name == name) => (name, String::new()),
        Some(name) => return Err(format!("unknown listener `{name}`")),
    };
    let host = url.authority().map(http::uri::Authority::as_str);
    let target = Target::parse(raw.as_bytes(), &method, host)
        .map_err(|error| format!("the gateway rejects this request: {error}"))?;
    let is_websocket = is("ws")
        || is("wss")
        || handshake::check(&method, Version::HTTP_11, &headers)
            != Err(handshake::HandshakeError::NotWebSocket);
    let seen = preview(&method, host, &headers, (asked.client, secure), &snapshot.globals)
        .map_err(|error| format!("invalid request: {error}"))?;
    let request = Request {
        scheme: seen.scheme,
        host: target.host().unwrap_or_default(),
        forwarded_host: host.unwrap_or_default(),
        path: target.bare_path(),
        forwarded_path: target.path(),
        raw_path: target.raw_path(),
        scheme_is_certain: seen.scheme_is_certain,
        query: target.query(),
        is_websocket,
        body: BodyLength::of_http1(&headers),
        listener,
        client: seen.client.address(),
        ..Request::internal(&method, "/", asked.client)
    };
    let head = RequestMatch { request, path_with_parameters: target.read_path(), headers: &seen.headers };
    let form = match snapshot.table.find(&head) {
        Some(route) => form(snapshot, route, &target)?,
        None => String::new(),
    };
    Ok(RouteExplanation { explanation: snapshot.table.explain(&head), form, note })
}

/// The matched and forwarded forms of the path, unless both equal the path that was sent.
fn form(snapshot: &Snapshot, route: &Route, target: &Target<'_>) -> Result<String, String> {
    let refused = |what: &str, setting: &str| {
        Err(format!(
            "the gateway rejects this request: the path has {what}, and the route `{}` has `{setting}`",
            route.name
        ))
    };
    if route.path_parameters == PathParameters::Reject && target.has_parameters() {
        return refused("parameters", "path_parameters: reject");
    }
    let escaped_slashes = route.escaped_slashes.unwrap_or(snapshot.globals.escaped_slashes);
    if escaped_slashes == EscapedSlashes::Reject && target.has_escaped_slash() {
        return refused("an escaped slash", "escaped_slashes: reject");
    }
    let matched = match route.path_parameters {
        PathParameters::Keep => target.read_path(),
        PathParameters::Ignore | PathParameters::Reject => target.bare_path(),
    };
    let merges = route.merge_slashes.unwrap_or(snapshot.globals.merge_slashes) == MergeSlashes::Rewrite;
    let forwarded = if merges { merge_slashes(target.path()) } else { target.path().to_owned() };
    let is_usual = forwarded == target.raw_path() && !target.has_parameters();
    Ok(match (matched == forwarded, is_usual) {
        (true, true) => String::new(),
        (true, false) => format!("matched and forwarded as {matched}\n"),
        (false, _) => format!("matched as {matched}, forwarded as {forwarded}\n"),
    })
}

/// Path and query of a URL as a client may send them, and the URL. Characters that HTTP/1 clients send and `Uri` rejects
/// (`<`, a backtick) are only in the first.
fn read_url(url: &str) -> Result<(String, Uri), String> {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
    let (origin, target) = url.split_at(path);
    let bare: Uri = format!("{origin}/").parse().map_err(|error| format!("`{url}` is not a URL: {error}"))?;
    let raw = match target {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        target => target.to_owned(),
    };
    Ok((raw, bare))
}

/// The listener used without `--listener`: the first one that accepts such a request.
fn default_listener(snapshot: &Snapshot, secure: bool) -> &str {
    let has_tls =
        |listener: &Listener| listener.protocols.as_ref().is_some_and(|protocols| protocols.tls.is_some());
    let listeners = &snapshot.listeners;
    let fitting = listeners.iter().find(|listener| has_tls(listener) == secure);
    fitting.or(listeners.first()).map_or("", |listener| &*listener.name)
}
