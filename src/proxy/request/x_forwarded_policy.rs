//! X-Forwarded-* fields on the way to plugins and backends (`x_forwarded`).

use super::forwarded;
use super::request_facts::Received;
use super::untrusted_headers::is_trusted_only;
use super::x_forwarded::{HOST, PROTO, host, nearest};
use crate::config::XForwarded;
use crate::telemetry::access_log::address;
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Single-valued fields that proxies turn into lists by appending. In other fields a comma may be part of the value.
const APPENDED: [&str; 5] =
    ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-scheme", "x-forwarded-ssl"];

/// Fields that are lists, to which each proxy appends.
const LISTS: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-server", "x-forwarded-prefix", "forwarded", "x-original-forwarded-for"];

/// Sets the fields that plugins, internal services and backends read. Those of an untrusted client have been
/// removed before, unless the policy keeps them.
///
/// # Errors
/// When a value cannot be a field value, which the parser has excluded.
pub(in crate::proxy) fn apply_policy(
    head: &mut RequestHeader,
    received: &Received,
    policy: XForwarded,
) -> Result<()> {
    if received.is_trusted {
        let has_several = |line: &HeaderValue| line.as_bytes().contains(&b',');
        let mut schemes = head.headers.get_all(&PROTO).iter();
        if schemes.next().is_some_and(has_several) || schemes.next().is_some() {
            head.insert_header(PROTO, HeaderValue::from_static(received.scheme))?;
        }
        one_line_each(head)?;
    }
    match policy {
        XForwarded::Keep => Ok(()),
        XForwarded::Remove => {
            for name in [FOR, PROTO, HOST, header::FORWARDED] {
                head.remove_header(&name);
            }
            Ok(())
        }
        XForwarded::Add => add(head, received),
    }
}

/// Reduces each single-valued field to the value of the nearest proxy.
fn one_line_each(head: &mut RequestHeader) -> Result<()> {
    let has_several = |name: &&HeaderName| {
        let text = name.as_str();
        let mut values = head.headers.get_all(*name).iter();
        let is_list = values.next().is_some_and(|first| first.as_bytes().contains(&b','));
        is_trusted_only(text)
            && !LISTS.contains(&text)
            && (values.next().is_some() || is_list && APPENDED.contains(&text))
    };
    // Almost no request has one: the list allocates nothing then.
    let names: Vec<_> = head.headers.keys().filter(has_several).cloned().collect();
    for name in names {
        let last = head.headers.get_all(&name).iter().next_back().map_or(&[][..], HeaderValue::as_bytes);
        let value =
            if APPENDED.contains(&name.as_str()) { nearest(&head.headers, &name) } else { Some(last) };
        let value = field_value(value.unwrap_or_default().to_vec())?;
        head.insert_header(name, value)?;
    }
    Ok(())
}

fn add(head: &mut RequestHeader, received: &Received) -> Result<()> {
    // Capacity for one IPv4 address, the common case.
    let mut list = Vec::with_capacity(16);
    if received.is_trusted {
        for hop in forwarded::hops(&head.headers) {
            list.extend_from_slice(hop.trim().as_bytes());
            list.extend_from_slice(b", ");
        }
    }
    address(&mut list, received.peer);
    head.insert_header(FOR, field_value(list)?)?;
    // The interpreted scheme: backends compare with `https`, not with `wss` or `HTTPS`.
    head.insert_header(PROTO, HeaderValue::from_static(received.scheme))?;
    // With the port, which backends need for links.
    let told =
        if received.is_trusted { host(&head.headers).map(|host| host.as_bytes().to_vec()) } else { None };
    let attempt_started = || head.headers.get(header::HOST).map(|host| host.as_bytes().to_vec());
    if let Some(host) = told.or_else(attempt_started) {
        head.insert_header(HOST, field_value(host)?)?;
    }
    Ok(())
}

fn field_value(bytes: Vec<u8>) -> Result<HeaderValue> {
    HeaderValue::try_from(bytes).or_err(ErrorType::InvalidHTTPHeader, "not a field value")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::super::forwarded::Hops;
    use super::super::untrusted_headers;
    use super::super::x_forwarded::scheme;
    use super::*;

    /// The resulting fields of a request from 192.0.2.7 over plain HTTP.
    fn settled(
        is_trusted: bool,
        policy: XForwarded,
        fields: &[(&'static str, &'static str)],
    ) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        let peer = "192.0.2.7".parse().unwrap();
        let mut received = Received::default();
        (received.peer, received.is_trusted) = (peer, is_trusted);
        received.scheme = scheme(&head.headers, Hops::default()).filter(|_| is_trusted).unwrap_or("http");
        untrusted_headers::remove(&mut head, is_trusted, policy);
        apply_policy(&mut head, &received, policy).unwrap();
        head
    }

    fn all(head: &RequestHeader, name: &str) -> Vec<String> {
        head.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_fields_of_an_untrusted_client_are_replaced() {
        let head = settled(
            false,
            XForwarded::Add,
            &[
                ("host", "a.example:8080"),
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "b.example"),
                ("forwarded", "for=x"),
            ],
        );
        assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(all(&head, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&head, "x-forwarded-host"), ["a.example:8080"]);
        assert!(all(&head, "forwarded").is_empty());
    }

    #[test]
    fn the_fields_of_a_trusted_proxy_are_continued() {
        let fields = [
            ("host", "inner"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
        ];
        let head = settled(true, XForwarded::Add, &fields);
        assert_eq!(all(&head, "x-forwarded-for"), ["1.1.1.1, 10.0.0.1, 192.0.2.7"]);
        assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&head, "x-forwarded-host"), ["a.example"]);
        let head = settled(true, XForwarded::Remove, &fields);
        assert!(
            ["for", "proto", "host"].iter().all(|part| all(&head, &format!("x-forwarded-{part}")).is_empty())
        );
    }

    #[test]
    fn of_several_values_the_nearest_proxys_goes_on_alone() {
        for policy in [XForwarded::Add, XForwarded::Keep] {
            let head = settled(
                true,
                policy,
                &[
                    ("host", "inner"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-proto", "http"),
                    ("x-forwarded-host", "evil.example, a.example"),
                    ("x-forwarded-port", "443"),
                    ("x-forwarded-port", "8080, 80"),
                    ("x-forwarded-uri", "/public"),
                    ("x-forwarded-uri", "/a,b"),
                    ("x-real-ip", "1.1.1.1"),
                    ("x-real-ip", "2.2.2.2"),
                    ("front-end-https", "on"),
                    ("front-end-https", "off"),
                    ("x-forwarded-prefix", "/a"),
                    ("x-forwarded-prefix", "/b"),
                ],
            );
            // Of the schemes the client's own, as it was read.
            assert_eq!(all(&head, "x-forwarded-proto"), ["https"], "{policy:?}");
            assert_eq!(all(&head, "x-forwarded-host"), ["a.example"], "{policy:?}");
            assert_eq!(all(&head, "x-forwarded-port"), ["80"], "{policy:?}");
            assert_eq!(all(&head, "x-forwarded-uri"), ["/a,b"], "{policy:?}");
            assert_eq!(all(&head, "x-real-ip"), ["2.2.2.2"], "{policy:?}");
            assert_eq!(all(&head, "front-end-https"), ["off"], "{policy:?}");
            assert_eq!(all(&head, "x-forwarded-prefix"), ["/a", "/b"], "{policy:?}");
        }
    }

    #[test]
    fn a_backend_is_told_the_scheme_as_it_was_read() {
        for (said, counts) in [
            ("https", "https"),
            ("HTTPS", "https"),
            ("wss", "https"),
            ("ws", "http"),
            ("https,http", "https"),
            ("https , http, http", "https"),
            ("https,", "https"),
            ("", "http"),
            ("ftp", "http"),
            ("https;", "http"),
        ] {
            let head = settled(true, XForwarded::Add, &[("x-forwarded-proto", said)]);
            assert_eq!(all(&head, "x-forwarded-proto"), [counts], "{said}");
        }
        let head = settled(true, XForwarded::Add, &[("forwarded", "for=1.1.1.1;proto=wss")]);
        assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    }
}
