//! Loop detection: `CDN-Loop` (RFC 8586) with this process's name counts the passes of a request.
//!
//! Only a forwarded request can be in a loop, so others get no field. `X-Forwarded-For`, which the gateway
//! adds, shows that a request was forwarded; if `x_forwarded` does not add it, every request is marked.
//! Forged fields only make the client's own request fail.

use crate::config::XForwarded;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::LazyLock;

/// The limit on passes. A request from one listener to another and back has two.
const MAX_PASSES: usize = 5;

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The name of this process: random, so that it differs from other gateways.
static OWN: LazyLock<HeaderValue> = LazyLock::new(|| {
    // Not fastrand: gateways of one image that start together could begin with one seed.
    let number = getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
    HeaderValue::try_from(format!("moongate-{number:016x}")).unwrap_or(HeaderValue::from_static("moongate"))
});

/// The field for the gateway's own calls: a plugin's call for a request may lead back here.
pub fn own_mark() -> (HeaderName, HeaderValue) {
    (CDN_LOOP, OWN.clone())
}

/// The history of a request in its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopCount {
    /// Whether the request was forwarded before.
    is_forwarded: bool,
    passes: usize,
}

impl HopCount {
    /// Reads the fields as received.
    pub fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(CDN_LOOP) {
            return Self { is_forwarded: headers.contains_key(X_FORWARDED_FOR), passes: 0 };
        }
        let values = headers.get_all(CDN_LOOP).iter();
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let passes = names.filter(|name| name.trim_ascii() == OWN.as_bytes()).count();
        Self { is_forwarded: true, passes }
    }

    /// Whether the request passed this process too often.
    pub fn is_loop(self) -> bool {
        self.passes >= MAX_PASSES
    }

    /// The field for the request to the backend.
    pub fn mark(self, policy: XForwarded) -> Option<(HeaderName, HeaderValue)> {
        (self.is_forwarded || policy != XForwarded::Add).then(|| (CDN_LOOP, OWN.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_loop_after_five_passes() {
        let mut headers = HeaderMap::new();
        assert_eq!(HopCount::of(&headers).mark(XForwarded::Add), None);
        assert!(HopCount::of(&headers).mark(XForwarded::Remove).is_some());
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        headers.append(CDN_LOOP, HeaderValue::from_static("other, moongate, moongate-0; x=1"));
        for passes in 0..8 {
            let way = HopCount::of(&headers);
            assert_eq!((way.passes, way.is_loop()), (passes, passes >= 5));
            let (name, value) = way.mark(XForwarded::Add).unwrap_or((CDN_LOOP, HeaderValue::from_static("")));
            headers.append(name, value);
        }
    }
}
