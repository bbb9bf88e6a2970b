//! Fields of a request that only a trusted proxy may say: whence it comes, and what it was before. What
//! becomes of those that the gateway writes itself is `forward`'s.

use crate::spec::XForwarded;
use http::HeaderName;
use pingora::http::RequestHeader;

/// What else only a proxy that is trusted may say: whence a request comes, and what it was before. Backends
/// and authentication services believe these.
pub(super) const TRUSTED_ONLY: [&str; 13] = [
    "forwarded",
    "x-real-ip",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-original-uri",
    "x-original-url",
    "x-original-method",
    "x-rewrite-url",
];

/// Ends what only a trusted proxy may say, when the peer is none. It is done before plugins look: they ask
/// others with these fields, and may write them anew.
pub(super) fn end(head: &mut RequestHeader, trusted: bool, policy: XForwarded) {
    if trusted || policy == XForwarded::Keep {
        return;
    }
    // Almost no request has one: no name is looked up in the list that does not begin like one.
    let stranger = |name: &&HeaderName| {
        let name = name.as_str();
        (name.starts_with("x-") || name == "forwarded") && TRUSTED_ONLY.contains(&name)
    };
    while let Some(name) = head.headers.keys().find(stranger).cloned() {
        head.remove_header(&name);
    }
}

#[cfg(test)]
mod tests {
    // Tests fail by panicking.
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_request_was_before_only_a_trusted_proxy_may_say() {
        for (trusted, policy, left) in [
            (false, XForwarded::Add, 0),
            (false, XForwarded::Remove, 0),
            (false, XForwarded::Keep, TRUSTED_ONLY.len()),
            (true, XForwarded::Add, TRUSTED_ONLY.len()),
        ] {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for name in TRUSTED_ONLY {
                head.append_header(name, "/admin").unwrap();
            }
            head.append_header("x-other", "1").unwrap();
            end(&mut head, trusted, policy);
            assert_eq!(head.headers.len(), left + 1, "{trusted} {policy:?}");
        }
    }
}
