//! The reverse mapping of a path prefix in a backend's response: redirects and cookie paths as the client needs them.
//!
//! A backend behind `strip_prefix: /app` says `Location: /login` and `Set-Cookie: …; Path=/`. The client needs `/app/login`
//! and `Path=/app`. A path that begins with the prefix already is left alone: a backend that reads X-Forwarded-Prefix
//! writes such paths itself.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use moongate_sdk::{Exchange, Response};
use std::borrow::Cow;

/// Fields that hold one URI reference.
const REFERENCES: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// Which fields of a response are mapped.
#[derive(Clone, Copy, Default)]
pub(super) struct Reverse {
    /// Location, Content-Location and Refresh.
    pub(super) location: bool,
    /// The Path attribute of Set-Cookie.
    pub(super) cookie_path: bool,
}

/// A prefix of the client's paths and the prefix of the backend's paths that stands for it. Each begins with `/` and
/// does not end with one, or is empty.
#[derive(Clone, Copy)]
pub(super) struct Mapping<'a> {
    pub(super) client: &'a str,
    pub(super) backend: &'a str,
    /// X-Forwarded-Prefix as the backend got it: the prefixes of proxies in front, and `client`.
    pub(super) forwarded: Option<&'a str>,
}

impl Reverse {
    /// Whether no field is mapped.
    pub(super) fn is_empty(self) -> bool {
        !self.location && !self.cookie_path
    }

    /// Maps the fields of a backend's response. A response that the gateway made itself is left alone.
    pub(super) fn apply(self, mapping: Mapping<'_>, exchange: &Exchange<'_>, answer: &mut Response<'_>) {
        let Some(endpoint) = answer.endpoint else { return };
        if self.location {
            let hosts = Hosts {
                client: exchange.request.forwarded_host,
                scheme: exchange.request.scheme,
                backend: [
                    exchange.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
                    Some(endpoint),
                ],
            };
            for name in &REFERENCES {
                let Some(value) = text(&answer.headers, name) else { continue };
                let mapped =
                    mapping.reference(value, &hosts).and_then(|value| HeaderValue::try_from(&*value).ok());
                if let Some(value) = mapped {
                    answer.headers.set(name, value);
                }
            }
            let refresh = text(&answer.headers, &REFRESH).and_then(|value| mapping.refresh(value, &hosts));
            if let Some(value) = refresh.and_then(|value| HeaderValue::try_from(value).ok()) {
                answer.headers.set(&REFRESH, value);
            }
        }
        if self.cookie_path {
            let cookies = answer.headers.get_all(header::SET_COOKIE).iter();
            let mapped: Vec<_> = cookies.map(|cookie| mapping.cookie(cookie.as_bytes())).collect();
            if mapped.iter().any(|cookie| matches!(cookie, Cow::Owned(_))) {
                let values: Vec<_> =
                    mapped.iter().filter_map(|cookie| HeaderValue::from_bytes(cookie).ok()).collect();
                answer.headers.remove(&header::SET_COOKIE);
                for value in values {
                    answer.headers.append(&header::SET_COOKIE, value);
                }
            }
        }
    }
}

/// The authorities in whose URLs the mapping holds.
struct Hosts<'a> {
    /// What the client asked for, and by which scheme.
    client: &'a str,
    scheme: &'a str,
    /// What the backend may take itself for: the Host that it received, and its address.
    backend: [Option<&'a str>; 2],
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The rest of `path` after `prefix`, which is whole segments.
fn rest<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
}

impl Mapping<'_> {
    /// A reference (RFC 3986 §4.1) as the client needs it; `None` when it stays as it is.
    fn reference<'v>(self, value: &'v str, hosts: &Hosts<'_>) -> Option<Cow<'v, str>> {
        // Everything else that has no authority is relative to the request's own URL, and right as it stands.
        let Some((scheme, after)) = split_authority(value) else {
            return if value.starts_with('/') { self.path(value) } else { None };
        };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        let port = match scheme {
            "//" => default_port(hosts.scheme),
            scheme => default_port(scheme.trim_end_matches("://")),
        };
        let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
        let is = |host: &str| !host.is_empty() && bare(host) == bare(authority);
        let path = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
        if is(hosts.client) {
            // A backend that does not know that the client uses TLS would send it to a port that speaks nothing else.
            if hosts.scheme == "https" && scheme.eq_ignore_ascii_case("http://") {
                return Some(self.path(&path).map_or_else(|| path.to_string(), Cow::into_owned).into());
            }
            return Some(Cow::Owned(format!("{scheme}{authority}{}", self.path(&path)?)));
        }
        // The client cannot reach the backend by its own name: the host that it asked for is meant.
        hosts
            .backend
            .into_iter()
            .flatten()
            .any(is)
            .then(|| self.path(&path).map_or_else(|| path.to_string(), Cow::into_owned).into())
    }

    /// Whether a path is the client's already: a backend that reads X-Forwarded-Prefix writes such paths.
    fn is_clients(self, path: &str) -> bool {
        !self.client.is_empty() && rest(path, self.client).is_some()
            || self.forwarded.is_some_and(|prefix| rest(path, prefix).is_some())
    }

    /// An absolute path, with a query or fragment perhaps.
    fn path<'p>(self, path: &'p str) -> Option<Cow<'p, str>> {
        if self.is_clients(path) {
            return None;
        }
        let rest = rest(path, self.backend)?;
        let slash = if rest.starts_with('/') { "" } else { "/" };
        Some(Cow::Owned(format!("{}{slash}{rest}", self.client)))
    }

    /// `5; url=/login`, as browsers read it.
    fn refresh(self, value: &str, hosts: &Hosts<'_>) -> Option<String> {
        let after_delay = value.find([';', ','])? + 1;
        let name = after_delay + value[after_delay..].find(|c: char| !c.is_ascii_whitespace())?;
        if !value.get(name..name + 3)?.eq_ignore_ascii_case("url") {
            return None;
        }
        let tail = value[name + 3..].trim_ascii_start().strip_prefix('=')?.trim_ascii_start();
        let quote = tail.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let start = value.len() - tail.len() + usize::from(quote.is_some());
        let url = &value[start..];
        let url = quote.and_then(|quote| url.split(quote).next()).unwrap_or(url);
        let mapped = self.reference(url, hosts)?;
        Some(format!("{}{mapped}{}", &value[..start], &value[start + url.len()..]))
    }

    /// A `Set-Cookie` with its Path (RFC 6265 §5.2.4) as the client needs it.
    fn cookie<'c>(self, cookie: &'c [u8]) -> Cow<'c, [u8]> {
        // Browsers refuse a cookie of such a name with another path than `/`.
        const HOST_ONLY: &[u8] = b"__host-";
        if cookie.get(..HOST_ONLY.len()).is_some_and(|name| name.eq_ignore_ascii_case(HOST_ONLY)) {
            return Cow::Borrowed(cookie);
        }
        let mut parts: Vec<_> = cookie.split(|byte| *byte == b';').map(Cow::Borrowed).collect();
        let mut is_changed = false;
        for part in parts.iter_mut().skip(1) {
            let Some(path) = path_attribute(part).and_then(|path| self.cookie_path(path)) else { continue };
            *part = Cow::Owned(format!(" Path={path}").into_bytes());
            is_changed = true;
        }
        if is_changed { Cow::Owned(parts.join(&b';')) } else { Cow::Borrowed(cookie) }
    }

    fn cookie_path(self, path: &str) -> Option<String> {
        if self.is_clients(path) {
            return None;
        }
        if let Some(rest) = rest(path, self.backend) {
            let rest = if rest == "/" { "" } else { rest };
            return Some(match (self.client, rest) {
                ("", "") => "/".to_owned(),
                (prefix, rest) => format!("{prefix}{rest}"),
            });
        }
        // A cookie of a folder above the mapped one is sent with all that is mapped.
        let above = path.trim_end_matches('/');
        rest(self.backend, above).map(|_| if self.client.is_empty() { "/" } else { self.client }.to_owned())
    }
}

/// The value of a `Path` attribute that is an absolute path.
fn path_attribute(part: &[u8]) -> Option<&str> {
    let (name, value) = std::str::from_utf8(part).ok()?.split_once('=')?;
    let value = value.trim_ascii();
    (name.trim_ascii().eq_ignore_ascii_case("path") && value.starts_with('/')).then_some(value)
}

/// The port that an authority of a scheme has when it names none, as it would be written.
fn default_port(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" }
}

/// The scheme with `://`, or `//`, and what comes after; `None` for a reference without an authority.
fn split_authority(value: &str) -> Option<(&str, &str)> {
    if let Some(after) = value.strip_prefix("//") {
        return Some(("//", after));
    }
    let colon = value.find("://")?;
    let is_scheme = value[..colon].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (is_scheme && colon > 0).then(|| value.split_at(colon + 3))
}
