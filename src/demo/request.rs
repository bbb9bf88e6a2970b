//! Minimal HTTP/1.1 for a demo backend: parses a request head and writes a response. Anything unclear is an error
//! status and a closed connection. Paths are routed in `connection`.

use httparse::Status;
use std::fmt::Write as _;

/// The longest request head.
pub(super) const HEAD_LIMIT: usize = 16 << 10;
/// The maximum number of fields in a head.
const FIELD_LIMIT: usize = 100;
/// The longest body that is skipped to keep the connection.
pub(super) const BODY_LIMIT: u64 = 1 << 20;

/// A request head. Field names are case-insensitive.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path from the request line, without the query.
    pub(super) path: String,
    fields: Vec<(String, String)>,
    http11: bool,
}

/// A request that gets only an error status; the connection is closed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestError(pub(super) u16, pub(super) &'static str);

/// The use of the connection after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    KeepAlive,
    Close,
}

impl Request {
    /// Parses a head at the start of `bytes`: the request and the head's length, or `None` while it is incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, RequestError> {
        let mut fields = [httparse::EMPTY_HEADER; FIELD_LIMIT];
        let mut head = httparse::Request::new(&mut fields);
        match head.parse(bytes) {
            Ok(Status::Complete(length)) => Ok(Some((Self::own(&head), length))),
            Ok(Status::Partial) if bytes.len() < HEAD_LIMIT => Ok(None),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Err(RequestError(431, "Request Header Fields Too Large"))
            }
            Err(_) => Err(RequestError(400, "Bad Request")),
        }
    }

    fn own(head: &httparse::Request<'_, '_>) -> Self {
        let target = head.path.unwrap_or_default();
        let text = |field: &httparse::Header<'_>| {
            (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned())
        };
        Self {
            method: head.method.unwrap_or_default().to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            fields: head.headers.iter().map(text).collect(),
            http11: head.version == Some(1),
        }
    }

    /// The first field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(written, _)| written.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    /// Whether a field's comma-separated list holds `token`.
    pub(super) fn lists(&self, name: &str, token: &str) -> bool {
        let mut fields = self.fields.iter().filter(|(written, _)| written.eq_ignore_ascii_case(name));
        fields.any(|(_, value)| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    }

    /// The number of body bytes.
    pub(super) fn body(&self) -> Result<u64, RequestError> {
        if self.field("transfer-encoding").is_some() {
            return Err(RequestError(411, "Length Required"));
        }
        let Some(length) = self.field("content-length") else { return Ok(0) };
        match length.parse() {
            Ok(length) if length <= BODY_LIMIT => Ok(length),
            Ok(_) => Err(RequestError(413, "Content Too Large")),
            Err(_) => Err(RequestError(400, "Bad Request")),
        }
    }

    /// Whether the client may send another request on this connection (RFC 9112 §9.3).
    pub(super) fn then(&self) -> BodyFraming {
        let stays = if self.http11 {
            !self.lists("connection", "close")
        } else {
            self.lists("connection", "keep-alive")
        };
        if stays { BodyFraming::KeepAlive } else { BodyFraming::Close }
    }

    /// Whether the request is a WebSocket handshake, valid or not.
    pub(super) fn wants_websocket(&self) -> bool {
        self.lists("upgrade", "websocket") && self.lists("connection", "upgrade")
    }
}

/// A response with a body.
#[derive(Debug)]
pub(super) struct DemoResponse<'a> {
    pub(super) status: u16,
    pub(super) reason: &'a str,
    pub(super) kind: &'a str,
    pub(super) body: &'a str,
    /// A further field, as `("Allow", "GET, HEAD")`.
    pub(super) extra: Option<(&'a str, &'a str)>,
}

impl<'a> DemoResponse<'a> {
    pub(super) fn ok(kind: &'a str, body: &'a str) -> Self {
        Self { status: 200, reason: "OK", kind, body, extra: None }
    }

    pub(super) fn text(status: u16, reason: &'a str, body: &'a str) -> Self {
        Self { status, reason, kind: "text/plain; charset=utf-8", body, extra: None }
    }

    /// The response's bytes; a HEAD request gets them without the body.
    pub(super) fn bytes(&self, backend: &str, method: &str, then: BodyFraming) -> Vec<u8> {
        let Self { status, reason, kind, body, extra } = self;
        let mut head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Backend: {backend}\r\n",
            body.len()
        );
        if let Some((name, value)) = extra {
            // Writing to a String cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str(if then == BodyFraming::Close { "Connection: close\r\n\r\n" } else { "\r\n" });
        if method != "HEAD" {
            head.push_str(body);
        }
        head.into_bytes()
    }
}
