//! The inputs of an expression, all borrowed.

use http::{HeaderMap, HeaderValue, StatusCode};
use moongate_sdk::{Exchange, Request, Response};

/// A request, as far as it is known, and its response, if any.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request.
    pub request: Request<'a>,
    /// The request's fields.
    pub headers: &'a HeaderMap,
    /// The request's ID, if it has one yet.
    pub id: Option<&'a HeaderValue>,
    /// The response's status and fields.
    pub response: Option<(StatusCode, &'a HeaderMap)>,
}

impl<'a> Facts<'a> {
    /// The facts of a request in the plugin chain, including the plugins' changes.
    pub fn of(exchange: &'a Exchange<'_>, response: Option<&'a Response<'_>>) -> Self {
        Self {
            request: Request {
                method: exchange.method(),
                path: exchange.matched_path(),
                query: exchange.query(),
                ..exchange.request
            },
            headers: &exchange.headers,
            id: exchange.running.known_request_id(),
            response: response.map(|response| (response.status, &*response.headers)),
        }
    }
}
