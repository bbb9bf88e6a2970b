//! Removal of the request fields that a client has no right to send, before any expression, plugin or internal call
//! sees them: what only a trusted proxy may say, every other spelling of such a field, and `Proxy`.

use crate::config::XForwarded;
use http::HeaderName;
use pingora::http::RequestHeader;

/// What only a trusted proxy may say, besides [`TRUSTED_PREFIX`]: where a request comes from, and what it was before.
/// Backends and authentication services believe these.
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

/// A trusted proxy alone may say anything that begins so.
const TRUSTED_PREFIX: &str = "x-forwarded-";

/// Fields that the gateway writes or reads itself. Their own spelling is dealt with elsewhere; another one would be
/// taken for them by a backend (see [`moongate_sdk::is_same_spelling`]).
const GATEWAYS: [&str; 6] =
    ["via", "x-request-id", "content-length", "transfer-encoding", "proxy-connection", "proxy-authorization"];

/// A client's `Proxy` becomes HTTP_PROXY in the environment of a CGI program (httpoxy, CVE-2016-5385).
const PROXY: &str = "proxy";

/// Removes them from a head whose peer is a trusted proxy or not.
pub(in crate::proxy) fn remove(head: &mut RequestHeader, is_trusted: bool, policy: XForwarded) {
    let keeps = is_trusted || policy == XForwarded::Keep;
    // Almost no request has one: the list allocates nothing then.
    let names: Vec<_> = head.headers.keys().filter(|name| is_unwanted(name, keeps)).cloned().collect();
    for name in &names {
        head.remove_header(name);
    }
}

fn is_unwanted(name: &HeaderName, keeps: bool) -> bool {
    let name = name.as_str();
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.bytes().all(is_usual) {
        return name == PROXY || !keeps && is_trusted_only(name);
    }
    let usual: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    is_trusted_only(&usual) || GATEWAYS.contains(&&*usual)
}

/// Whether only a trusted proxy may send the field, by its name in lower case.
pub(in crate::proxy) fn is_trusted_only(name: &str) -> bool {
    // Most names are told by their first letter.
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
    fn another_spelling_comes_from_nobody() {
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
    fn what_merely_looks_alike_stays() {
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
