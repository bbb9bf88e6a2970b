//! Response of the admin API: a body at once, or a stream of Server-Sent Events.

use super::access_control::AccessError;
use async_trait::async_trait;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, SET_COOKIE,
    TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The policy of everything but the page, which has one of its own.
const NO_CONTENT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// A response.
pub(super) struct Response {
    pub(super) status: StatusCode,
    media: &'static str,
    pub(super) body: Body,
    fields: Vec<(HeaderName, HeaderValue)>,
    policy: Option<HeaderValue>,
}

/// The body of a response.
pub(super) enum Body {
    /// The whole body.
    Whole(Cow<'static, str>),
    /// Events, until the source ends or the client disconnects.
    Events(Box<dyn EventSource>),
}

/// Events of one stream, in the format of Server-Sent Events.
#[async_trait]
pub(super) trait EventSource: Send {
    /// Waits for the next events; `None` at the end. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<String>;
}

/// Appends an event with this name and JSON data.
pub(super) fn put_event(out: &mut String, name: &str, data: &impl Serialize) {
    // Only values that the admin API makes are serialized, which cannot fail. JSON has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    for part in ["event: ", name, "\ndata: ", &data, "\n\n"] {
        out.push_str(part);
    }
}

impl Response {
    pub(super) fn text(status: StatusCode, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            media: "text/plain; charset=utf-8",
            body: Body::Whole(body.into()),
            fields: Vec::new(),
            policy: None,
        }
    }

    pub(super) fn media(self, media: &'static str) -> Self {
        Self { media, ..self }
    }

    /// A page with its own content security policy.
    pub(super) fn page(body: &'static str, policy: HeaderValue) -> Self {
        Self { policy: Some(policy), ..Self::text(StatusCode::OK, body).media("text/html; charset=utf-8") }
    }

    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let mut text = serde_json::to_string(body).unwrap_or_default();
        text.push('\n');
        Self::text(status, text).media("application/json")
    }

    pub(super) fn ok() -> Self {
        Self::json(StatusCode::OK, &json!({ "ok": true }))
    }

    pub(super) fn events(source: impl EventSource + 'static) -> Self {
        Self {
            body: Body::Events(Box::new(source)),
            ..Self::text(StatusCode::OK, "").media("text/event-stream")
        }
    }

    pub(super) fn error(status: StatusCode, token: &str) -> Self {
        Self::json(status, &json!({ "error": token, "status": status.as_u16() }))
    }

    /// An error with an explanation for a person.
    pub(super) fn explained(status: StatusCode, token: &str, detail: &str) -> Self {
        let body: Value = json!({ "error": token, "status": status.as_u16(), "detail": detail });
        Self::json(status, &body)
    }

    pub(super) fn refused(refusal: AccessError) -> Self {
        match refusal {
            AccessError::Token => Self::error(StatusCode::UNAUTHORIZED, "unauthorized")
                .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            AccessError::Host => Self::error(StatusCode::FORBIDDEN, "foreign_host"),
            AccessError::CrossSite => Self::error(StatusCode::FORBIDDEN, "cross_site"),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    pub(super) fn with_cookie(self, cookie: &str) -> Self {
        // A cookie of the gateway is ASCII.
        match HeaderValue::from_str(cookie) {
            Ok(cookie) => self.with(SET_COOKIE, cookie),
            Err(_) => self,
        }
    }

    /// The header and the body.
    pub(super) fn into_parts(self) -> (ResponseHeader, Body) {
        let mut response = http::Response::new(());
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        match &self.body {
            Body::Whole(body) => fields.insert(CONTENT_LENGTH, body.len().into()),
            Body::Events(_) => fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        };
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        fields.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        let policy = self.policy.unwrap_or(HeaderValue::from_static(NO_CONTENT_POLICY));
        fields.insert(CONTENT_SECURITY_POLICY, policy);
        for (name, value) in self.fields {
            fields.append(name, value);
        }
        (response.into_parts().0.into(), self.body)
    }
}
