//! WebSockets over HTTP/2: an extended CONNECT with `:protocol: websocket` (RFC 8441 §4). It is converted to
//! an HTTP/1.1 handshake, so that routes, plugins and backends handle one form; `websocket::upgrade` converts its
//! response back.

use h2::ext::Protocol;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// Returns whether it is an extended CONNECT for a WebSocket.
pub(in crate::proxy) fn is_one(head: &RequestHeader) -> bool {
    let protocol = head.extensions.get::<Protocol>().filter(|_| head.method == Method::CONNECT);
    protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// Converts an extended CONNECT for a WebSocket to a GET. HTTP/2 has neither `Upgrade` nor `Connection`, so
/// their values come from here. Returns whether it was one.
///
/// # Errors
/// When a value is invalid in a field, which the parser has excluded.
pub(in crate::proxy) fn arrive(head: &mut RequestHeader) -> Result<bool> {
    if !is_one(head) {
        return Ok(false);
    }
    head.set_method(Method::GET);
    head.insert_header(header::CONNECTION, UPGRADE)?;
    head.insert_header(header::UPGRADE, WEBSOCKET)?;
    Ok(true)
}

/// The status of a response that opens no WebSocket. A 2xx would open one to the client (RFC 8441 §4, RFC
/// 9110 §9.3.6).
pub(in crate::proxy) fn refusal(status: StatusCode) -> StatusCode {
    if status.is_success() { StatusCode::NOT_IMPLEMENTED } else { status }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn connect(protocol: Option<&'static str>) -> RequestHeader {
        let mut request = http::Request::connect("https://a.example/chat").body(()).unwrap();
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request.into_parts().0.into()
    }

    #[test]
    fn a_connect_for_a_websocket_is_a_handshake() {
        let mut head = connect(Some("websocket"));
        assert!(arrive(&mut head).unwrap());
        assert_eq!((&head.method, head.raw_path()), (&Method::GET, &b"/chat"[..]));
        assert_eq!(head.headers[header::UPGRADE], "websocket");
    }

    #[test]
    fn a_connect_for_anything_else_stays_one() {
        for protocol in [Some("connect-udp"), None] {
            let mut head = connect(protocol);
            assert!(!arrive(&mut head).unwrap());
            assert_eq!(head.method, Method::CONNECT);
        }
    }

    #[test]
    fn no_refusal_looks_like_an_open_websocket() {
        for (status, expected) in [
            (StatusCode::OK, StatusCode::NOT_IMPLEMENTED),
            (StatusCode::NO_CONTENT, StatusCode::NOT_IMPLEMENTED),
            (StatusCode::FOUND, StatusCode::FOUND),
            (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND),
        ] {
            assert_eq!(refusal(status), expected);
        }
    }
}
