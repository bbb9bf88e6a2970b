//! Removal of request fields that a client may not send, before any expression, plugin or internal call reads
//! them. These are fields reserved for trusted proxies, alternative spellings of them, and `Proxy`.

use crate::config::XForwarded;
use http::HeaderName;
use pingora::http::RequestHeader;

/// Fields reserved for trusted proxies, besides [`TRUSTED_PREFIX`]: the origin of a request and its original
/// form. Backends and authentication services trust them.
const TRUSTED_ONLY: [&str; 21] = [
    "forwarded",
    "forwarded-for",
    "client-ip",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-rewrite-url",
    "x-url-scheme",
    "front-end-https",
    "x-original-uri",
    "x-original-url",
    "x-original-path",
    "x-original-method",
    "x-original-host",
    "x-original-port",
    "x-original-proto",
    "x-original-scheme",
    "x-original-remote-addr",
    "x-original-forwarded-for",
];

/// The prefix of fields reserved for trusted proxies.
const TRUSTED_PREFIX: &str = "x-forwarded-";

/// Fields that the gateway sets or reads itself. Other code handles them; an alternative spelling would be
/// equal to a backend (see [`moongate_sdk::is_same_spelling`]).
const GATEWAYS: [&str; 6] =
    ["via", "x-request-id", "content-length", "transfer-encoding", "proxy-connection", "proxy-authorization"];

/// CGI passes a client's `Proxy` as HTTP_PROXY to programs (httpoxy, CVE-2016-5385).
const PROXY: &str = "proxy";

/// Removes them from a header, depending on whether its peer is a trusted proxy.
pub(in crate::proxy) fn remove(head: &mut RequestHeader, is_trusted: bool, policy: XForwarded) {
    let keeps = is_trusted || policy == XForwarded::Keep;
    // Almost no request has one, and then nothing is allocated.
    let names: Vec<_> = head.headers.keys().filter(|name| is_unwanted(name, keeps)).cloned().collect();
    for name in &names {
        head.remove_header(name);
    }
}

/// Returns whether no trailer may have this name, from whomever it comes: it is one of these fields, in any spelling.
pub(in crate::proxy) fn is_reserved(name: &HeaderName) -> bool {
    let usual = usual_spelling(name.as_str());
    usual == PROXY || is_trusted_only(&usual) || GATEWAYS.contains(&&*usual)
}

fn is_unwanted(name: &HeaderName, keeps: bool) -> bool {
    let name = name.as_str();
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.bytes().all(is_usual) {
        return name == PROXY || !keeps && is_trusted_only(name);
    }
    let usual = usual_spelling(name);
    is_trusted_only(&usual) || GATEWAYS.contains(&&*usual)
}

fn usual_spelling(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Returns whether only a trusted proxy may send the field, by its name in lower case.
pub(in crate::proxy) fn is_trusted_only(name: &str) -> bool {
    // The first letter excludes most names.
    match name.as_bytes().first() {
        Some(b'x') => name.starts_with(TRUSTED_PREFIX) || TRUSTED_ONLY.contains(&name),
        Some(b'c' | b'f' | b't') => TRUSTED_ONLY.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn left(names: &[&'static str], is_trusted: bool, policy: XForwarded) -> Vec<String> {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for name in names {
            head.append_header(*name, "/admin").unwrap();
        }
        remove(&mut head, is_trusted, policy);
        head.headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_only_a_proxy_knows_counts_from_a_trusted_one_alone() {
        let names = ["x-real-ip", "forwarded", "X-Forwarded-Anything", "x-original-url", "true-client-ip"];
        for (is_trusted, policy, count) in [
            (false, XForwarded::Add, 0),
            (false, XForwarded::Remove, 0),
            (false, XForwarded::Keep, names.len()),
            (true, XForwarded::Add, names.len()),
        ] {
            assert_eq!(left(&names, is_trusted, policy).len(), count, "{is_trusted} {policy:?}");
        }
    }

    #[test]
    fn another_spelling_is_removed() {
        let names = [
            "x_forwarded_for",
            "x.forwarded.proto",
            "x-forwarded_uri",
            "x_original_url",
            "X_Real_IP",
            "x_client_ip",
            "content_length",
            "transfer.encoding",
            "via_",
            "x_request_id",
            "proxy",
            "proxy_authorization",
        ];
        for (is_trusted, policy) in
            [(true, XForwarded::Add), (true, XForwarded::Keep), (false, XForwarded::Keep)]
        {
            // `via_` is HTTP_VIA_ to CGI: another variable.
            assert_eq!(left(&names, is_trusted, policy), ["via_"], "{is_trusted} {policy:?}");
        }
    }

    #[test]
    fn similar_names_stay() {
        let names = [
            "my_own",
            "x-forward",
            "x-real-ips",
            "forwarded-by",
            "proxy-status",
            "x_user",
            "x-original-filename",
        ];
        assert_eq!(left(&names, false, XForwarded::Add).len(), names.len());
    }
}
