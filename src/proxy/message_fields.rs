//! Header fields of Pingora's requests and responses as plugins may change them.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use moongate_sdk::Fields;
use pingora::http::{RequestHeader, ResponseHeader};

/// The framing fields (RFC 9112 §6). Plugins cannot change them: the gateway sets them for the body that is
/// finally sent.
const FRAMING: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// The fields of a response in Pingora's type.
pub(super) struct ResponseFields<'a>(pub(super) &'a mut ResponseHeader);

impl Fields for ResponseFields<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            // Conversion of a HeaderName and a HeaderValue cannot fail.
            let _ = self.0.insert_header(name.clone(), value);
        }
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            let _ = self.0.append_header(name.clone(), value);
        }
    }
    fn remove(&mut self, name: &HeaderName) {
        if !FRAMING.contains(name) {
            self.0.remove_header(name);
        }
    }
}

/// The fields of a request in Pingora's type.
pub(super) struct RequestFields<'a>(pub(super) &'a mut RequestHeader);

impl Fields for RequestFields<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            let _ = self.0.insert_header(name.clone(), value);
        }
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            let _ = self.0.append_header(name.clone(), value);
        }
    }
    fn remove(&mut self, name: &HeaderName) {
        if !FRAMING.contains(name) {
            self.0.remove_header(name);
        }
    }
}
