//! CEL filter of a tap: a condition on what is kept of a WebSocket's request.

use crate::tunnel::{TapFilter, TunnelOrigin};
use http::header::{HOST, HeaderName, REFERER, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use moongate_config::{Place, Placed};
use moongate_expr::{Expression, ExpressionPhase, Facts};
use moongate_sdk::Request;
use std::net::{IpAddr, Ipv4Addr};

/// Compiles a condition. It reads the request's client, host, path, query and route, and the fields `Host`,
/// `User-Agent`, `Referer` and `Sec-WebSocket-Protocol` (the negotiated one).
///
/// # Errors
/// What is wrong with it.
pub(super) fn compile(text: &str) -> Result<TapFilter, String> {
    let placed = Placed { value: text.to_owned(), place: Place::nowhere() };
    let condition = Expression::condition(&placed, ExpressionPhase::Request).map_err(|problems| {
        let all: Vec<_> = problems.0.into_iter().map(|problem| problem.message.to_string()).collect();
        all.join("; ")
    })?;
    Ok(Box::new(move |route, origin| holds(&condition, route, origin)))
}

/// Returns whether the condition is true; a failed evaluation is false, as in routes.
fn holds(condition: &Expression, route: &str, origin: &dyn TunnelOrigin) -> bool {
    let (host, target) = (String::from_utf8_lossy(origin.host()), String::from_utf8_lossy(origin.path()));
    let mut headers = HeaderMap::new();
    let fields: [(HeaderName, &[u8]); 4] = [
        (HOST, origin.host()),
        (USER_AGENT, origin.user_agent()),
        (REFERER, origin.referer()),
        (SEC_WEBSOCKET_PROTOCOL, origin.subprotocol().as_bytes()),
    ];
    for (name, value) in fields {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let request = Request {
        host: name.map_or(&*host, |(name, _)| name),
        forwarded_host: &host,
        is_websocket: true,
        client: origin.client(),
        route,
        ..Request::internal(&Method::GET, &target, unspecified)
    };
    condition.holds(&Facts { request, headers: &headers, id: None, response: None }).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::upstream::Endpoint;
    use moongate_sdk::ClientAddress;
    use std::sync::Arc;

    struct Asked;

    impl TunnelOrigin for Asked {
        fn client(&self) -> ClientAddress<'_> {
            ClientAddress::Ip([10, 0, 0, 7].into())
        }

        fn endpoint(&self) -> Arc<Endpoint> {
            unreachable!("no filter reads the endpoint")
        }

        fn host(&self) -> &[u8] {
            b"chat.example:8080"
        }

        fn path(&self) -> &[u8] {
            b"/rooms/1?user=ann"
        }

        fn user_agent(&self) -> &[u8] {
            b"tester/1"
        }

        fn referer(&self) -> &[u8] {
            b""
        }

        fn subprotocol(&self) -> &str {
            "graphql-ws"
        }

        fn is_complete(&self) -> bool {
            true
        }

        fn state(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
    }

    #[test]
    fn a_filter_reads_what_is_kept_of_the_request() {
        let matches = |text: &str| compile(text).unwrap()("chat", &Asked);
        for condition in [
            r#"request.path.startsWith("/rooms/")"#,
            r#"request.host == "chat.example""#,
            r#"request.route == "chat""#,
            r#"request.headers["user-agent"].contains("tester")"#,
        ] {
            assert!(matches(condition), "{condition}");
        }
        assert!(!matches(r#"request.path == "/""#));
        assert!(compile("request.colour == 1").is_err() && compile("1 +").is_err());
    }
}
