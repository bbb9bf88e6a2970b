//! Hops before the peer, from X-Forwarded-For and Forwarded (RFC 7239): addresses with or without ports,
//! brackets and quotes, and other identifiers.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use moongate_sdk::ClientAddress;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The maximum length kept of an identifier that is no address.
const MAX_TEXT: usize = 64;

/// The origin of a request; the owned form of [`ClientAddress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// An address.
    Ip(IpAddr),
    /// The identifier that a trusted proxy sent instead of an address.
    Unreadable(Box<str>),
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address().fmt(f)
    }
}

impl Client {
    /// The borrowed form.
    pub fn address(&self) -> ClientAddress<'_> {
        match self {
            Self::Ip(address) => ClientAddress::Ip(*address),
            Self::Unreadable(text) => ClientAddress::Unreadable(text),
        }
    }

    /// The client of one list element. The port is ignored, since it differs for each connection.
    fn of_hop(text: &str) -> Self {
        match address(text) {
            Some(address) => Self::Ip(address.to_canonical()),
            None => Self::Unreadable(printable(text).into()),
        }
    }
}

/// The client before trusted proxies: the nearest hop that is not one. An unreadable hop is not one.
pub(in crate::proxy) fn client(
    headers: &HeaderMap,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (Client, Hops) {
    let hops = hops(headers);
    let mut client = Client::Ip(peer);
    for (skipped, hop) in hops.iter().rev().enumerate() {
        client = Client::of_hop(hop);
        match client {
            Client::Ip(address) if is_trusted(address) => {}
            _ => return (client, Hops { all: hops.len(), skipped }),
        }
    }
    // All are trusted: the farthest is the client.
    (client, Hops { all: hops.len(), skipped: hops.len().saturating_sub(1) })
}

/// The client's position among the named hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Hops {
    /// The number of hops.
    all: usize,
    /// The number of hops nearer than the client.
    skipped: usize,
}

impl Hops {
    /// The element that describes the client, in a list to which the same proxies appended. If a list has
    /// more elements than hops, it began before them: its first element describes the client.
    pub(in crate::proxy) fn element(self, length: usize) -> usize {
        if length > self.all { 0 } else { length.saturating_sub(1 + self.skipped) }
    }
}

/// All hops as received, the farthest first: those of X-Forwarded-For, otherwise those of Forwarded.
pub(in crate::proxy) fn hops(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let texts = |name: HeaderName| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    // Empty list elements are ignored (RFC 9110 §5.6.1).
    let elements = texts(X_FORWARDED_FOR).map(String::from_utf8_lossy).flat_map(split_list);
    let mut hops: Vec<_> = elements.filter(|hop| !hop.trim().is_empty()).collect();
    if hops.is_empty() {
        let forwarded = texts(header::FORWARDED).map(String::from_utf8_lossy);
        // Converted to addresses: other quoted content would be several hops to a reader of X-Forwarded-For.
        hops.extend(
            forwarded.flat_map(|list| nodes(&list)).map(|node| Cow::Owned(Client::of_hop(&node).to_string())),
        );
    }
    // A proxy that mentions a hop without naming it does not claim to be the client.
    if hops.is_empty() && (headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(header::FORWARDED)) {
        hops.push(Cow::Borrowed("unknown"));
    }
    hops
}

fn split_list(list: Cow<'_, str>) -> Vec<Cow<'_, str>> {
    match list {
        Cow::Borrowed(list) => list.split(',').map(Cow::Borrowed).collect(),
        Cow::Owned(list) => list.split(',').map(|hop| Cow::Owned(hop.to_owned())).collect(),
    }
}

/// The node of each element of a Forwarded list; an element without one is `unknown`.
fn nodes(list: &str) -> Vec<String> {
    let elements = split_outside_quotes(list, ',').into_iter().filter(|element| !element.trim().is_empty());
    let node = |element: &str| parameter(element, "for").unwrap_or_else(|| "unknown".to_owned());
    elements.map(node).collect()
}

/// The values of a parameter in all elements of Forwarded, the farthest first; empty where it is missing.
pub(in crate::proxy) fn parameters(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lists =
        headers.get_all(header::FORWARDED).iter().map(|list| String::from_utf8_lossy(list.as_bytes()));
    let values = |list: Cow<'_, str>| {
        let elements =
            split_outside_quotes(&list, ',').into_iter().filter(|element| !element.trim().is_empty());
        elements.map(|element| parameter(element, name).unwrap_or_default()).collect::<Vec<_>>()
    };
    lists.flat_map(values).collect()
}

/// The value of a parameter in the last element of Forwarded, written by the nearest proxy.
pub(in crate::proxy) fn nearest_parameter(headers: &HeaderMap, name: &str) -> Option<String> {
    let last = headers.get_all(header::FORWARDED).iter().next_back()?.to_str().ok()?;
    parameter(split_outside_quotes(last, ',').last()?, name)
}

fn parameter(element: &str, name: &str) -> Option<String> {
    split_outside_quotes(element, ';').into_iter().find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| unquoted(value.trim()).into_owned())
    })
}

/// The parts between separators outside quoted strings. An unclosed quote is ignored: otherwise a client
/// could turn what a proxy appends into its own text.
fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts: Vec<_> = text
        .split(|c| {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ => return c == separator && !is_quoted,
            }
            false
        })
        .collect();
    if is_quoted { text.split(separator).collect() } else { parts }
}

/// A quoted string without its quotes and escapes (RFC 9110 §5.6.4).
fn unquoted(text: &str) -> Cow<'_, str> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => Cow::Borrowed(text),
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(inner) => {
            let mut is_escaped = false;
            let keep = |c: &char| {
                is_escaped = *c == '\\' && !is_escaped;
                !is_escaped
            };
            Cow::Owned(inner.chars().filter(keep).collect())
        }
    }
}

/// Parses an address with or without port, brackets and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = unquoted(text.trim());
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    // A zone names an interface of the proxy (RFC 4007 §11).
    let without_zone = |text: &str| text.split('%').next().and_then(|text| text.parse::<Ipv6Addr>().ok());
    if let (true, Some(address)) = (text.contains('%'), without_zone(text)) {
        return Some(IpAddr::V6(address));
    }
    if let Some(literal) = text.strip_prefix('[') {
        let (literal, port) = literal.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_port.then(|| without_zone(literal).map(IpAddr::V6)).flatten();
    }
    let (address, port) = text.split_once(':')?;
    is_port(port).then(|| address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)).flatten()
}

/// Returns whether the text is a port or an obfuscated one (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = text.strip_prefix('_').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    });
    digits || name
}

/// The text with only characters that are safe in a log line and a key.
fn printable(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:-[]".contains(c);
    let text = unquoted(text.trim());
    let text = match text.trim().rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.contains(':') && is_no_address(name) => name.to_owned(),
        _ => text.trim().to_owned(),
    };
    let text: String = text.chars().take(MAX_TEXT).map(|c| if is_plain(c) { c } else { '?' }).collect();
    if text.is_empty() { "unknown".to_owned() } else { text.to_ascii_lowercase() }
}

/// Returns whether the name stands for an unknown or obfuscated address (RFC 7239 §6.2 and §6.3).
fn is_no_address(name: &str) -> bool {
    name.eq_ignore_ascii_case("unknown") || name.starts_with('_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    /// The client behind the peer 10.0.0.1, with 10.0.0.0/8 trusted.
    fn found(fields: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let is_trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client(&headers, "10.0.0.1".parse().unwrap(), is_trusted).0.address().to_string()
    }

    #[test]
    fn a_hop_is_read_with_ports_brackets_and_quotes() {
        for (hop, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            (" 203.0.113.7 ", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:_hidden", "203.0.113.7"),
        ] {
            assert_eq!(found(&[("x-forwarded-for", hop)]), address, "{hop}");
            let quoted = format!("for=\"{}\"", hop.trim().trim_matches('"'));
            assert_eq!(found(&[("forwarded", &quoted)]), address, "{quoted}");
        }
    }

    #[test]
    fn a_hop_that_cannot_be_read_is_the_client_and_never_the_proxy() {
        for (hop, text) in [
            ("unknown", "unknown"),
            ("_SEVKISEK", "_sevkisek"),
            ("203.0.113.7:port", "203.0.113.7:port"),
            ("203.0.113.7:123456", "203.0.113.7:123456"),
            ("[203.0.113.7]", "[203.0.113.7]"),
            ("1.2.3.4.5", "1.2.3.4.5"),
            ("a b\"", "a?b?"),
            ("\"\"", "unknown"),
        ] {
            assert_eq!(found(&[("x-forwarded-for", &format!("1.1.1.1, {hop}, 10.0.0.2"))]), text, "{hop}");
        }
        assert_eq!(found(&[("forwarded", "for=1.1.1.1, proto=https")]), "unknown");
    }

    #[test]
    fn a_client_cannot_swallow_what_a_proxy_appends() {
        for sent in ["for=\"x1", "for=\"a\\", "for=\"a\\\"", "for=1.1.1.1;by=\"", "\"", "for=\"a\", \""] {
            for appended in [
                "for=203.0.113.7",
                "for=\"203.0.113.7:80\";proto=https",
                "for=\"203.0.113.7\", for=\"10.0.0.9\"",
            ] {
                assert_eq!(
                    found(&[("forwarded", &format!("{sent}, {appended}"))]),
                    "203.0.113.7",
                    "{sent} {appended}"
                );
            }
        }
        // A closed quoted string with a comma is no address.
        assert_eq!(found(&[("forwarded", "for=\"1.1.1.1, 2.2.2.2\"")]), "1.1.1.1??2.2.2.2");
    }

    #[test]
    fn a_port_or_a_zone_makes_no_other_client() {
        for (hop, client) in [
            ("unknown:1", "unknown"),
            ("UNKNOWN:_p", "unknown"),
            ("_h:3", "_h"),
            ("_h:_q", "_h"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25]:443", "fe80::1"),
            ("name:80", "name:80"),
            ("unknown:port", "unknown:port"),
        ] {
            assert_eq!(found(&[("x-forwarded-for", hop)]), client, "{hop}");
        }
    }

    #[test]
    fn the_same_proxies_tell_of_the_client_in_every_list() {
        let hops = |all, skipped| Hops { all, skipped };
        // One hop and one scheme; two hops of which the nearer is trusted; more schemes than hops.
        assert_eq!((hops(1, 0).element(1), hops(2, 1).element(2), hops(1, 0).element(2)), (0, 0, 0));
        // The nearer hop is the client, which wrote everything before it.
        assert_eq!((hops(2, 0).element(2), hops(3, 1).element(3)), (1, 1));
        // The proxies in between overwrite it.
        assert_eq!((hops(3, 2).element(1), hops(3, 1).element(2), hops(0, 0).element(3)), (0, 0, 0));
    }

    #[test]
    fn empty_elements_mean_nothing() {
        for list in ["1.1.1.1,", ", 1.1.1.1, , ", "1.1.1.1,,10.0.0.2,"] {
            assert_eq!(found(&[("x-forwarded-for", list)]), "1.1.1.1", "{list}");
        }
        // A field without a hop is ignored.
        for empty in ["", " , ", ","] {
            assert_eq!(found(&[("x-forwarded-for", empty)]), "unknown", "{empty:?}");
            assert_eq!(found(&[("forwarded", empty)]), "unknown", "{empty:?}");
            assert_eq!(found(&[("x-forwarded-for", empty), ("forwarded", "for=1.1.1.1")]), "1.1.1.1");
        }
        assert_eq!(found(&[]), "10.0.0.1");
        assert_eq!(found(&[("forwarded", "for=1.1.1.1,,")]), "1.1.1.1");
    }

    #[test]
    fn lists_over_several_lines_are_one() {
        let fields = [("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "10.0.0.2:80")];
        assert_eq!(found(&fields), "1.1.1.1");
        let forwarded =
            [("forwarded", "for=6.6.6.6"), ("forwarded", "For=\"1.1.1.1:80\";by=\"a,b\", for=10.0.0.2")];
        assert_eq!(found(&forwarded), "1.1.1.1");
        assert_eq!(found(&[forwarded[0], ("x-forwarded-for", "2.2.2.2")]), "2.2.2.2");
    }

    proptest! {
        #[test]
        fn any_list_has_a_client_that_stands_in_a_line(list in "[ -~]{0,80}", forwarded in "[a-z=;,\"\\\\\\[\\]:. ]{0,80}") {
            for found in [found(&[("x-forwarded-for", &list)]), found(&[("forwarded", &forwarded)])] {
                prop_assert!(!found.is_empty() && found.bytes().all(|byte| byte.is_ascii_graphic()), "{}", found);
                prop_assert!(found.len() <= MAX_TEXT);
            }
        }
    }
}
