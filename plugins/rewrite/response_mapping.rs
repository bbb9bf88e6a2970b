//! Mapping of redirects and cookies in a backend's response to the client's view: by reversing a change of the path
//! prefix, or by replacements.
//!
//! A backend after `strip_prefix: /app` sends `Location: /login` and `Set-Cookie: …; Path=/`; the client needs
//! `/app/login` and `Path=/app`. A path with the prefix is unchanged: a backend that reads X-Forwarded-Prefix
//! writes such paths itself.

use super::substitution::{Substitution, substitute};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use moongate_sdk::{Exchange, Response};
use std::borrow::Cow;

/// Fields that hold one URI reference.
const REFERENCES: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// The mapped fields of a response.
pub(super) struct ResponseMapping {
    /// Location, Content-Location and Refresh.
    pub(super) location: FieldMapping,
    /// The Path attribute of Set-Cookie.
    pub(super) cookie_path: FieldMapping,
    /// The Domain attribute of Set-Cookie.
    pub(super) cookie_domain: Vec<Substitution>,
}

/// How a field is mapped.
pub(super) enum FieldMapping {
    /// Not at all.
    Off,
    /// The change of the path prefix is reversed.
    Reverse,
    /// The first replacement that matches.
    Substitute(Vec<Substitution>),
}

impl FieldMapping {
    fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

/// A prefix of the client's paths and the corresponding prefix of the backend's paths. Each begins with `/` and
/// does not end with one, or is empty.
#[derive(Clone, Copy)]
pub(super) struct Mapping<'a> {
    pub(super) client: &'a str,
    pub(super) backend: &'a str,
    /// X-Forwarded-Prefix as the backend got it: the prefixes of proxies in front, and `client`.
    pub(super) forwarded: Option<&'a str>,
}

impl ResponseMapping {
    /// Whether no field is mapped.
    pub(super) fn is_empty(&self) -> bool {
        self.location.is_off() && !self.maps_cookies()
    }

    /// Whether there are replacements, which need no prefix.
    pub(super) fn substitutes(&self) -> bool {
        let substitutes =
            |field: &FieldMapping| matches!(field, FieldMapping::Substitute(list) if !list.is_empty());
        substitutes(&self.location) || substitutes(&self.cookie_path) || !self.cookie_domain.is_empty()
    }

    fn maps_cookies(&self) -> bool {
        !self.cookie_path.is_off() || !self.cookie_domain.is_empty()
    }

    /// Maps the fields of a backend's response. A response of the gateway itself is unchanged. `mapping` is the change
    /// of the path; `None` if the path was not changed.
    pub(super) fn apply(
        &self,
        mapping: Option<Mapping<'_>>,
        exchange: &mut Exchange<'_>,
        response: &mut Response<'_>,
    ) {
        let Some(endpoint) = response.endpoint else { return };
        if !self.location.is_off() {
            let mut reference = |value: &str| self.reference(mapping, value, exchange, endpoint);
            for name in &REFERENCES {
                let mapped = text(&response.headers, name).and_then(&mut reference);
                if let Some(value) = mapped.and_then(|value| HeaderValue::try_from(value).ok()) {
                    response.headers.set(name, value);
                }
            }
            let mapped = text(&response.headers, &REFRESH).and_then(|value| refresh(value, reference));
            if let Some(value) = mapped.and_then(|value| HeaderValue::try_from(value).ok()) {
                response.headers.set(&REFRESH, value);
            }
        }
        if self.maps_cookies() {
            let cookies = response.headers.get_all(header::SET_COOKIE).iter();
            let mapped: Vec<_> =
                cookies.map(|cookie| self.cookie(mapping, cookie.as_bytes(), exchange)).collect();
            if mapped.iter().any(|cookie| matches!(cookie, Cow::Owned(_))) {
                let values: Vec<_> =
                    mapped.iter().filter_map(|cookie| HeaderValue::from_bytes(cookie).ok()).collect();
                response.headers.remove(&header::SET_COOKIE);
                for value in values {
                    response.headers.append(&header::SET_COOKIE, value);
                }
            }
        }
    }

    /// A URI reference in the client's view; `None` if it is unchanged.
    fn reference(
        &self,
        mapping: Option<Mapping<'_>>,
        value: &str,
        exchange: &mut Exchange<'_>,
        endpoint: &str,
    ) -> Option<String> {
        match &self.location {
            FieldMapping::Off => None,
            FieldMapping::Substitute(list) => substitute(list, value, exchange),
            FieldMapping::Reverse => {
                let hosts = Hosts {
                    client: exchange.request.forwarded_host,
                    scheme: exchange.request.scheme,
                    backend: [
                        exchange.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
                        Some(endpoint),
                    ],
                };
                mapping?.reference(value, &hosts).map(Cow::into_owned)
            }
        }
    }

    /// A `Set-Cookie` in the client's view.
    fn cookie<'c>(
        &self,
        mapping: Option<Mapping<'_>>,
        cookie: &'c [u8],
        exchange: &mut Exchange<'_>,
    ) -> Cow<'c, [u8]> {
        // Browsers reject a cookie with such a name and a Domain, or a path other than `/`.
        const HOST_ONLY: &[u8] = b"__host-";
        if cookie.get(..HOST_ONLY.len()).is_some_and(|name| name.eq_ignore_ascii_case(HOST_ONLY)) {
            return Cow::Borrowed(cookie);
        }
        let mut parts: Vec<_> = cookie.split(|byte| *byte == b';').map(Cow::Borrowed).collect();
        let mut is_changed = false;
        for part in parts.iter_mut().skip(1) {
            let Some((name, value)) = attribute(part) else { continue };
            let mapped = if name.eq_ignore_ascii_case("path") && value.starts_with('/') {
                let path = match &self.cookie_path {
                    FieldMapping::Off => None,
                    FieldMapping::Reverse => mapping.and_then(|mapping| mapping.cookie_path(value)),
                    FieldMapping::Substitute(list) => substitute(list, value, exchange),
                };
                path.map(|path| format!(" Path={path}"))
            } else if name.eq_ignore_ascii_case("domain") {
                let domain = value.trim_start_matches('.').to_ascii_lowercase();
                substitute(&self.cookie_domain, &domain, exchange).map(|domain| format!(" Domain={domain}"))
            } else {
                None
            };
            // A value of the request must not become an attribute.
            if let Some(attribute) = mapped.filter(|attribute| !attribute.contains(';')) {
                *part = Cow::Owned(attribute.into_bytes());
                is_changed = true;
            }
        }
        if is_changed { Cow::Owned(parts.join(&b';')) } else { Cow::Borrowed(cookie) }
    }
}

/// The authorities whose URLs are mapped.
struct Hosts<'a> {
    /// The client's requested host, and its scheme.
    client: &'a str,
    scheme: &'a str,
    /// The backend's possible names: the Host that it received, and its address.
    backend: [Option<&'a str>; 2],
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The rest of `path` after `prefix`, which consists of whole segments.
fn rest<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
}

impl Mapping<'_> {
    /// A reference (RFC 3986 §4.1) in the client's view; `None` if it is unchanged.
    fn reference<'v>(self, value: &'v str, hosts: &Hosts<'_>) -> Option<Cow<'v, str>> {
        // Any other reference without an authority is relative to the request's own URL and already correct.
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
            // A backend that does not know about the client's TLS would redirect it to plaintext on the TLS port.
            if hosts.scheme == "https" && scheme.eq_ignore_ascii_case("http://") {
                return Some(self.path(&path).map_or_else(|| path.to_string(), Cow::into_owned).into());
            }
            return Some(Cow::Owned(format!("{scheme}{authority}{}", self.path(&path)?)));
        }
        // The client cannot reach the backend by the backend's name: the requested host is meant.
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
        // A cookie for a directory above the mapped one is sent with all mapped paths.
        let above = path.trim_end_matches('/');
        rest(self.backend, above).map(|_| if self.client.is_empty() { "/" } else { self.client }.to_owned())
    }
}

/// `5; url=/login`, in browsers' syntax, with its URL mapped.
fn refresh(value: &str, map: impl FnOnce(&str) -> Option<String>) -> Option<String> {
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
    let mapped = map(url)?;
    Some(format!("{}{mapped}{}", &value[..start], &value[start + url.len()..]))
}

/// The name and the value of an attribute of a cookie.
fn attribute(part: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(part).ok()?.split_once('=')?;
    Some((name.trim_ascii(), value.trim_ascii()))
}

/// The default port of a scheme, as it would be written in an authority.
fn default_port(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" }
}

/// The scheme with `://`, or `//`, and the rest; `None` for a reference without an authority.
fn split_authority(value: &str) -> Option<(&str, &str)> {
    if let Some(after) = value.strip_prefix("//") {
        return Some(("//", after));
    }
    let colon = value.find("://")?;
    let is_scheme = value[..colon].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (is_scheme && colon > 0).then(|| value.split_at(colon + 3))
}
