//! Trailers that are forwarded (RFC 9110 §6.5). Plugins do not see them, and some backends treat them as fields of the
//! header: a client must not set what only a trusted proxy, the gateway or a plugin may set.

use super::context::Context;
use super::downstream::session::Session;
use super::request::untrusted_headers;
use crate::net::http1::trailers::Trailers;
use moongate_sdk::is_same_spelling;

/// Returns whether requests keep their trailers: a field that a plugin removes from the header must not come back.
pub(super) fn passes_requests(ctx: &Context) -> bool {
    ctx.route.as_ref().is_none_or(|route| route.chain.skips_request_headers())
}

/// The trailers of a request for the backend, once its body was read to its end.
pub(super) fn of_request(session: &Session, ctx: &Context) -> Option<Trailers> {
    let trailers = session.trailers()?;
    let headers = &session.request().headers;
    if !passes_requests(ctx) {
        return None;
    }
    trailers.without(|name| {
        let is_same = |other: &str| is_same_spelling(other, name.as_str());
        untrusted_headers::is_reserved(name)
            || ctx.received.nominated.contains(name)
            || headers.keys().any(|header| is_same(header.as_str()))
    })
}

/// The trailers of a response for the client.
pub(super) fn of_response(trailers: Trailers, ctx: &Context) -> Option<Trailers> {
    if ctx.response.is_replaced {
        return None;
    }
    trailers.without(|name| ctx.response.nominated.contains(name))
}
