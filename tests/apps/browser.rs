//! A minimal browser for application tests: cookies with paths, redirects that are reported instead of
//! followed, and the assets of a page.

use crate::support::{LIMIT, Response, Socket, Wire};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The time limit of a response: a first page is often rendered or compiled on request.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// A client with cookies.
pub(crate) struct Browser {
    gateway: SocketAddr,
    cookies: Vec<Cookie>,
}

struct Cookie {
    name: String,
    value: String,
    path: String,
}

impl Browser {
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        Self { gateway, cookies: Vec::new() }
    }

    /// `http://HOST:PORT`, the value of `Origin`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.gateway)
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send("GET", target, &[], b"")
    }

    /// A GET whose response must be 200.
    pub(crate) fn good(&mut self, target: &str) -> Response {
        let response = self.get(target);
        assert_eq!(response.status, 200, "{target}: {}{}", response.head, response.text());
        response
    }

    pub(crate) fn post_json(
        &mut self,
        target: &str,
        fields: &[(&str, &str)],
        body: &serde_json::Value,
    ) -> Response {
        let mut fields = fields.to_vec();
        fields.push(("Content-Type", "application/json"));
        self.send("POST", target, &fields, body.to_string().as_bytes())
    }

    /// A request on a connection of its own.
    pub(crate) fn send(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut wire = self.wire(method, target, fields, body);
        let response = wire.try_response(method).unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        self.keep_cookies(&response);
        response
    }

    /// Sends a request without reading the response.
    pub(crate) fn wire(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Wire {
        let path = target.split('?').next().unwrap_or_default();
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nConnection: close\r\n",
            self.gateway
        );
        let cookies = self.cookies_for(path);
        if !cookies.is_empty() {
            head.push_str(&format!("Cookie: {cookies}\r\n"));
        }
        if method != "GET" {
            head.push_str(&format!("Origin: {}\r\nContent-Length: {}\r\n", self.origin(), body.len()));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut wire = Wire::connect(self.gateway);
        wire.patience(PATIENCE);
        wire.send(head);
        wire.send(body);
        wire
    }

    /// Opens a WebSocket as a page would, with its origin and its cookies.
    pub(crate) fn socket(&self, target: &str, fields: &[(&str, &str)]) -> Socket {
        let path = target.split('?').next().unwrap_or_default();
        let (origin, cookies) = (self.origin(), self.cookies_for(path));
        let mut fields = fields.to_vec();
        fields.push(("Origin", &origin));
        if !cookies.is_empty() {
            fields.push(("Cookie", &cookies));
        }
        Socket::open_with(self.gateway, target, &fields)
            .unwrap_or_else(|status| panic!("{target}: the handshake was refused with {status}"))
    }

    /// The value of a cookie whose path covers `path`.
    pub(crate) fn cookie(&self, path: &str, name: &str) -> String {
        let cookie = self.cookies.iter().find(|cookie| cookie.name == name && covers(&cookie.path, path));
        cookie.unwrap_or_else(|| panic!("no cookie {name} for {path}")).value.clone()
    }

    /// The name and the path of every cookie.
    pub(crate) fn cookie_paths(&self) -> Vec<(&str, &str)> {
        self.cookies.iter().map(|cookie| (cookie.name.as_str(), cookie.path.as_str())).collect()
    }

    fn cookies_for(&self, path: &str) -> String {
        let sent = self.cookies.iter().filter(|cookie| covers(&cookie.path, path));
        sent.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ")
    }

    fn keep_cookies(&mut self, response: &Response) {
        for line in crate::support::raw::fields(&response.head, "set-cookie") {
            let Some((cookie, removed)) = set_cookie(line) else { continue };
            self.cookies.retain(|kept| (&kept.name, &kept.path) != (&cookie.name, &cookie.path));
            if !removed {
                self.cookies.push(cookie);
            }
        }
    }

    /// Opens a page and everything that its `script`, `link` and `img` elements name on this origin. All
    /// responses must be 200 and all paths below `below`; `except` lists errors of the application itself.
    pub(crate) fn open(
        &mut self,
        target: &str,
        below: &str,
        except: &[&str],
    ) -> (Response, BTreeSet<String>) {
        let page = self.good(target);
        let assets = assets(&page.text(), target, &self.origin());
        assert!(!assets.is_empty(), "{target} names no assets");
        for asset in assets.iter().filter(|asset| !except.contains(&asset.as_str())) {
            assert!(asset.starts_with(below), "{target} names {asset}, which is not below {below}");
            let response = self.good(asset);
            assert!(!response.body.is_empty(), "{asset} is empty");
        }
        (page, assets)
    }

    /// The response to `target` must be a redirect to `wanted`, a path of this origin.
    pub(crate) fn redirected(&mut self, target: &str, wanted: &str) {
        let response = self.get(target);
        let location = response.field("location").unwrap_or_default();
        assert!((300..400).contains(&response.status), "{target}: {}", response.head);
        let path = location.strip_prefix(&self.origin()).unwrap_or(location);
        assert_eq!(path, wanted, "{target}: {}", response.head);
    }

    /// The events of a stream up to the one that satisfies `last`.
    pub(crate) fn events(&self, target: &str, mut last: impl FnMut(&str) -> bool) -> Vec<String> {
        let mut wire = self.wire("GET", target, &[("Accept", "text/event-stream")], b"");
        let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
        let mut text = String::new();
        let mut events = Vec::new();
        loop {
            let piece = wire.chunk().unwrap_or_else(|e| panic!("{target}: {e} after {events:?}"));
            assert!(!piece.is_empty(), "{target}: the stream ended after {events:?}{text}");
            text.push_str(&String::from_utf8_lossy(&piece).replace("\r\n", "\n"));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                text = rest;
                events.push(event);
                if last(&events[events.len() - 1]) {
                    return events;
                }
            }
        }
    }
}

/// The cookie of a `Set-Cookie` field, and whether its attributes remove it (RFC 6265 §5.2).
fn set_cookie(line: &str) -> Option<(Cookie, bool)> {
    let mut parts = line.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let (mut path, mut removed) = ("/", false);
    for (attribute, value) in parts.filter_map(|part| part.split_once('=')) {
        match attribute.to_ascii_lowercase().as_str() {
            "path" => path = value,
            "max-age" => removed |= value.parse().is_ok_and(|seconds: i64| seconds <= 0),
            "expires" => removed |= value.contains("1970"),
            _ => {}
        }
    }
    Some((Cookie { name: name.to_owned(), value: value.to_owned(), path: path.to_owned() }, removed))
}

/// Returns whether a cookie with that path is sent with a request for `path` (RFC 6265 §5.1.4).
fn covers(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| cookie.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// The targets on this origin that the elements of a page load.
fn assets(html: &str, page: &str, origin: &str) -> BTreeSet<String> {
    let base = elements(html, "base").find_map(|element| attribute(element, "href"));
    let base = resolve(base.unwrap_or(""), page, origin).unwrap_or_else(|| page.to_owned());
    ["script", "link", "img"]
        .into_iter()
        .flat_map(|name| elements(html, name))
        .filter_map(|element| attribute(element, "src").or(attribute(element, "href")))
        .filter_map(|reference| resolve(&reference.replace("&amp;", "&"), &base, origin))
        .collect()
}

/// The tags with that name, without their brackets.
fn elements<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    html.split('<')
        .filter(move |tag| tag.strip_prefix(name).is_some_and(|rest| rest.starts_with(char::is_whitespace)))
        .filter_map(|tag| tag.split('>').next())
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let start = element
        .split_once(&format!("{name}="))
        .filter(|(before, _)| before.ends_with(char::is_whitespace))?
        .1;
    let quote = start.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
    start[1..].split(quote).next()
}

/// Resolves a reference against the target of a page (RFC 3986 §5.2); `None` for another origin and for
/// `data:`.
fn resolve(reference: &str, page: &str, origin: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if let Some(rest) = reference.strip_prefix(origin) {
        return Some(if rest.is_empty() { "/".to_owned() } else { rest.to_owned() });
    }
    if reference.starts_with("//") || reference.split('/').next().is_some_and(|start| start.contains(':')) {
        return None;
    }
    if reference.starts_with('/') {
        return Some(reference.to_owned());
    }
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (reference, String::new()),
    };
    let folder = page.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut segments: Vec<&str> = folder.split('/').collect();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." if segments.len() > 1 => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    if path == "." || path.ends_with("/.") {
        segments.push("");
    }
    Some(segments.join("/") + &query)
}

#[test]
fn only_attributes_remove_a_cookie() {
    for (line, wanted) in [
        ("user=\"2|1:0|c1970a\"; expires=Wed, 30 Dec 2026 22:57:13 GMT; Path=/lab/", Some(("/lab/", false))),
        ("user=Max-Age=0; Path=/", Some(("/", false))),
        ("user=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT", Some(("/", true))),
        ("user=x; Max-Age=0", Some(("/", true))),
        ("user=x; Max-Age=10", Some(("/", false))),
        ("nothing", None),
    ] {
        let found = set_cookie(line);
        let found = found.as_ref().map(|(cookie, removed)| (cookie.path.as_str(), *removed));
        assert_eq!(found, wanted, "{line}");
    }
}

#[test]
fn references_are_resolved_as_a_browser_does() {
    for (reference, page, wanted) in [
        ("js/main.js", "/rabbit/", Some("/rabbit/js/main.js")),
        ("js/main.js", "/rabbit", Some("/js/main.js")),
        ("./static/a.css?v=1", "/x/y?z=/q/", Some("/x/static/a.css?v=1")),
        ("../a", "/x/y/z", Some("/x/a")),
        ("/abs", "/x/", Some("/abs")),
        ("./", "/x/page", Some("/x/")),
        ("http://h:1/own", "/x/", Some("/own")),
        ("http://other/", "/x/", None),
        ("data:image/png;base64,xx", "/x/", None),
        ("", "/x/page", Some("/x/")),
    ] {
        assert_eq!(resolve(reference, page, "http://h:1").as_deref(), wanted, "{reference} {page}");
    }
    let page = "<base href='./sub/'><link rel=icon href=\"i.png\"><script src='a.js'></script><a href='no'>";
    let found: Vec<_> = assets(page, "/x/", "http://h").into_iter().collect();
    assert_eq!(found, ["/x/sub/a.js", "/x/sub/i.png"]);
    assert!(covers("/x/", "/x/y") && covers("/x", "/x/y") && !covers("/x", "/xy") && !covers("/x/", "/x"));
    assert!(PATIENCE > LIMIT);
}
