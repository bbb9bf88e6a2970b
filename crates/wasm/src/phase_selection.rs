//! The phases of a filter, from its module's exports, and body detection from a message head.

use crate::module::CompiledModule;
use http::{Method, header};
use moongate_config::Problem;
use moongate_sdk::{BodyLength, Exchange, Phases, Response};

/// Whether a body follows the request head, as far as the head defines it.
pub(crate) fn has_body(exchange: &Exchange<'_>) -> bool {
    exchange.request.body != BodyLength::Empty
}

/// Whether no body follows the response head.
pub(crate) fn response_ends(exchange: &Exchange<'_>, response: &Response<'_>) -> bool {
    let empty = response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
    let never = response.status.is_informational() || matches!(response.status.as_u16(), 204 | 304);
    empty || never || exchange.request.method == Method::HEAD
}

/// The phases of an entry, from its module's exports.
pub(crate) fn phases(program: &CompiledModule, websocket: bool) -> Result<Phases, Problem> {
    let has = |name: &str| program.has(name);
    let phases = if websocket {
        let (down, up) = (has("proxy_on_downstream_data"), has("proxy_on_upstream_data"));
        Phases { messages_to_backend: down, messages_to_client: up, closed: down || up, ..Phases::default() }
    } else {
        Phases {
            request_headers: has("proxy_on_request_headers"),
            request_body: has("proxy_on_request_body"),
            response_headers: has("proxy_on_response_headers"),
            response_body: has("proxy_on_response_body"),
            log: has("proxy_on_log") || has("proxy_on_done"),
            ..Phases::default()
        }
    };
    if phases == Phases::default() {
        let (what, help) = if websocket {
            (
                "WebSocket messages",
                "it exports neither `proxy_on_downstream_data` nor `proxy_on_upstream_data`",
            )
        } else {
            ("requests", "a filter for WebSocket messages needs `websocket: true`")
        };
        return Err(Problem::new(format!("the module does nothing with {what}")).help(help));
    }
    Ok(Phases { waits: !websocket, ..phases })
}
