//! Method of a request in the semantic conventions: a method that a client invents makes no name of a span.

use crate::telemetry::traces::{Attribute, Value, keys};
use http::Method;

/// The method as an attribute, if it is well known.
pub(super) fn known(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => return None,
    })
}

/// The method in the name of a span.
pub(super) fn in_names(method: &Method) -> &'static str {
    known(method).unwrap_or("HTTP")
}

/// Adds the method, and its spelling if it is unknown.
pub(super) fn describe(method: &Method, attributes: &mut Vec<Attribute>) {
    match known(method) {
        Some(method) => attributes.push((keys::HTTP_REQUEST_METHOD, Value::Word(method))),
        None => {
            attributes.push((keys::HTTP_REQUEST_METHOD, Value::Word("_OTHER")));
            attributes.push((keys::HTTP_REQUEST_METHOD_ORIGINAL, Value::text(method.as_str())));
        }
    }
}
