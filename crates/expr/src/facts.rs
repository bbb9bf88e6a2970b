//! What an expression may read. All of it is borrowed.

use http::{HeaderMap, HeaderValue, StatusCode};
use moongate_sdk::{Exchange, Request, Response};

/// A request, as far as it is known, and perhaps its answer.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is asked for.
    pub request: Request<'a>,
    /// The request's fields.
    pub headers: &'a HeaderMap,
    /// The request's id, if it has one yet.
    pub id: Option<&'a HeaderValue>,
    /// The answer's status and fields.
    pub answer: Option<(StatusCode, &'a HeaderMap)>,
}

impl<'a> Facts<'a> {
    /// What is known of a request on its way through plugins, with what they changed of it.
    pub fn of(exchange: &'a Exchange<'_>, answer: Option<&'a Response<'_>>) -> Self {
        Self {
            request: Request {
                method: exchange.method(),
                path: exchange.matched_path(),
                query: exchange.query(),
                ..exchange.request
            },
            headers: &exchange.headers,
            id: exchange.running.known_request_id(),
            answer: answer.map(|answer| (answer.status, &*answer.headers)),
        }
    }
}
