//! Error responses in the gateway's format: a line of text, or JSON for clients that ask for it, both with the
//! request ID.

use crate::{Exchange, Reply};
use http::{HeaderName, HeaderValue, StatusCode, header};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl Exchange<'_> {
    /// A response that refuses this request and must not be cached. `token` is the reason in one word, as in
    /// `address_denied`; the access log has it as the note `refused`.
    pub fn refuse(&mut self, status: StatusCode, token: &'static str) -> Reply {
        self.note("refused", token);
        let accept = self.headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
        let wants_json = accept.windows(JSON.len()).any(|part| part.eq_ignore_ascii_case(JSON.as_bytes()));
        let field = self.request_id().clone();
        // An ID from a client may be any field value; quotes and backslashes are removed from the body.
        let id = field.to_str().unwrap_or_default().replace(['"', '\\'], "");
        let code = status.as_u16();
        let (body, sort) = if wants_json {
            (format!("{{\"error\":\"{token}\",\"status\":{code},\"request_id\":\"{id}\"}}\n"), JSON)
        } else {
            let reason = status.canonical_reason().unwrap_or("Error");
            (format!("{code} {reason}: {token} (request {id})\n"), PLAIN)
        };
        Reply::new(status)
            .header(header::CONTENT_TYPE, sort)
            .header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .header(HeaderName::from_static("x-request-id"), field)
            .body(body)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::testing::TestExchange;

    fn refused(accept: &str) -> (Reply, TestExchange) {
        let mut visit = TestExchange::new("/").field("accept", accept);
        visit.running.set_request_id(HeaderValue::from_static("i\"d"));
        (visit.with_exchange(|exchange| exchange.refuse(StatusCode::FORBIDDEN, "address_denied")), visit)
    }

    #[test]
    fn people_get_a_line_and_programs_get_json() {
        assert_eq!(refused("text/html").0.body, "403 Forbidden: address_denied (request id)\n");
        let json = refused("text/html, Application/JSON;q=0.5").0.body;
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json, serde_json::json!({ "error": "address_denied", "status": 403, "request_id": "id" }));
    }

    #[test]
    fn the_access_log_has_the_reason() {
        let (_, visit) = refused("*/*");
        let note = &visit.running.notes()[0];
        assert_eq!((&*note.key, note.value.as_str()), ("refused", "address_denied"));
    }
}
