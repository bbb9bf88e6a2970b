//! `moongate check`: reads and compiles a configuration without applying it.

use super::{BAD_CONFIG, color, print_error, print_out};
use crate::config::{self, EscapedSlashes, MergeSlashes, PathParameters};
use crate::control;
use crate::proxy;
use crate::route::{RequestMatch, Target, merge_slashes};
use crate::snapshot::{Kinds, Listener, Route, Snapshot};
use crate::websocket::handshake;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use moongate_sdk::{BodyLength, Request};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

/// The request of `--explain`.
pub(super) struct ExplainArguments {
    /// Method and URL.
    pub(super) explain: Vec<String>,
    pub(super) headers: Vec<String>,
    pub(super) listener: Option<String>,
    pub(super) client: IpAddr,
}

pub(super) fn main(path: &Path, kinds: Kinds, print: bool, arguments: Option<&ExplainArguments>) -> ExitCode {
    let (snapshot, loaded, warnings) = match control::check(path, kinds, color()) {
        Ok(checked) => checked,
        Err(refusal) => {
            print_error(&refusal.report);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if let Some(warnings) = warnings {
        print_error(&warnings);
    }
    if let Some(arguments) = arguments {
        return match explain_request(&snapshot, arguments) {
            Ok(text) => print_out(&text),
            Err(error) => {
                print_error(&format!("error: {error}\n"));
                ExitCode::from(2)
            }
        };
    }
    if print {
        return print_out(&config::print(&loaded.spec));
    }
    let routes = snapshot.routes();
    let upstreams = snapshot.clusters().count();
    let (routes, upstreams) = (count(routes, "route"), count(upstreams, "upstream"));
    print_out(&format!("{}: valid ({routes}, {upstreams})\n", path.display()))
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The route of a request, with the reasons, as text.
fn explain_request(snapshot: &Snapshot, arguments: &ExplainArguments) -> Result<String, String> {
    let [method, url] = arguments.explain.as_slice() else {
        return Err("`--explain` needs a method and a URL".into());
    };
    let method = Method::from_bytes(method.to_uppercase().as_bytes())
        .map_err(|_| format!("`{method}` is not an HTTP method"))?;
    let (raw, url) = read_url(url)?;
    let mut headers = HeaderMap::new();
    for field in &arguments.headers {
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
    let (listener, note) = match arguments.listener.as_deref() {
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
    let seen = proxy::preview(&method, host, &headers, (arguments.client, secure), &snapshot.globals)
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
        ..Request::internal(&method, "/", arguments.client)
    };
    let head = RequestMatch { request, path_with_parameters: target.read_path(), headers: &seen.headers };
    let form = match snapshot.table.find(&head) {
        Some(route) => form(snapshot, route, &target)?,
        None => String::new(),
    };
    Ok(format!("{}{form}{note}", snapshot.table.explain(&head)))
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
