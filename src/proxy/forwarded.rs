//! The hops of a request before its peer, as X-Forwarded-For and Forwarded (RFC 7239) name them: addresses with or
//! without ports, brackets and quotes, and what is no address.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use moongate_sdk::ClientAddress;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The longest text that is kept of a hop that is no address.
const MAX_TEXT: usize = 64;

/// Where a request comes from; [`ClientAddress`], owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// An address.
    Ip(IpAddr),
    /// What a trusted proxy wrote in the place of an address.
    Unreadable(Box<str>),
}

impl Client {
    /// The same, borrowed.
    pub fn address(&self) -> ClientAddress<'_> {
        match self {
            Self::Ip(address) => ClientAddress::Ip(*address),
            Self::Unreadable(text) => ClientAddress::Unreadable(text),
        }
    }

    /// What one hop of a list names.
    fn of_hop(text: &str) -> Self {
        match address(text) {
            Some(address) => Self::Ip(address.to_canonical()),
            None => Self::Unreadable(printable(text).into()),
        }
    }
}

/// The client before trusted proxies: the nearest hop that is none of them. One that cannot be read is none.
pub(super) fn client(headers: &HeaderMap, peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> Client {
    let mut client = Client::Ip(peer);
    for hop in hops(headers).iter().rev() {
        client = Client::of_hop(hop);
        match client {
            Client::Ip(address) if is_trusted(address) => {}
            _ => return client,
        }
    }
    client
}

/// All hops as they were written, the farthest first: those of X-Forwarded-For, otherwise those of Forwarded.
pub(super) fn hops(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let texts = |name: HeaderName| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let lists: Vec<Cow<'_, str>> = texts(X_FORWARDED_FOR).map(String::from_utf8_lossy).collect();
    if !lists.is_empty() {
        // Empty elements of a list mean nothing (RFC 9110 §5.6.1).
        let elements = lists.into_iter().flat_map(split_list);
        return elements.filter(|hop| !hop.trim().is_empty()).collect();
    }
    let forwarded = texts(header::FORWARDED).map(String::from_utf8_lossy);
    forwarded.flat_map(|list| nodes(&list)).map(Cow::Owned).collect()
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

/// The value of a parameter of the last element of Forwarded, which the nearest proxy wrote.
pub(super) fn nearest_parameter(headers: &HeaderMap, name: &str) -> Option<String> {
    let last = headers.get_all(header::FORWARDED).iter().next_back()?.to_str().ok()?;
    parameter(split_outside_quotes(last, ',').last()?, name)
}

fn parameter(element: &str, name: &str) -> Option<String> {
    split_outside_quotes(element, ';').into_iter().find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| unquoted(value.trim()).into_owned())
    })
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    })
    .collect()
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

/// An address with or without port, brackets and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = unquoted(text.trim());
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Some(literal) = text.strip_prefix('[') {
        let (literal, port) = literal.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_port.then(|| literal.parse::<Ipv6Addr>().ok().map(IpAddr::V6)).flatten();
    }
    let (address, port) = text.split_once(':')?;
    is_port(port).then(|| address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)).flatten()
}

/// A port, or what stands for one that is not told (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = text.strip_prefix('_').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    });
    digits || name
}

/// A text that stands in a log line and a key as it is.
fn printable(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:-[]".contains(c);
    let text = unquoted(text.trim());
    let text: String =
        text.trim().chars().take(MAX_TEXT).map(|c| if is_plain(c) { c } else { '?' }).collect();
    if text.is_empty() { "unknown".to_owned() } else { text.to_ascii_lowercase() }
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
        client(&headers, "10.0.0.1".parse().unwrap(), is_trusted).address().to_string()
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
    fn empty_elements_mean_nothing() {
        for list in ["1.1.1.1,", ", 1.1.1.1, , ", "1.1.1.1,,10.0.0.2,"] {
            assert_eq!(found(&[("x-forwarded-for", list)]), "1.1.1.1", "{list}");
        }
        assert_eq!(found(&[("x-forwarded-for", " , ")]), "10.0.0.1");
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
