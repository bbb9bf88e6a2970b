//! Request header for an HTTP/1.1 upstream, written from the received one: hop-by-hop fields out, the
//! gateway's changes in, names in their received spelling. Nothing is copied twice.

use crate::net::http1::body_encoder::BodyEncoder;
use crate::net::http1::field_lines::{put_field, write_fields};
use crate::net::http1::field_names::FieldNames;
use crate::proxy::attempt;
use crate::proxy::body::request_body::OutgoingBody;
use crate::proxy::context::Context;
use crate::proxy::forwarded_trailers;
use crate::route::carried;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use moongate_sdk::Fields;
use pingora::Result;
use pingora::http::RequestHeader;
use std::borrow::Cow;

/// The space for most headers.
const INITIAL_CAPACITY: usize = 1 << 10;

/// The fields of one hop (RFC 9110 §7.6.1, §11.7), except those that the gateway writes itself.
const HOP_BY_HOP: [&[u8]; 10] = [
    b"te",
    b"upgrade",
    b"trailer",
    b"connection",
    b"keep-alive",
    b"http2-settings",
    b"proxy-connection",
    b"transfer-encoding",
    b"proxy-authenticate",
    b"proxy-authorization",
];

/// The received fields with changes.
struct ChangedFields<'a> {
    received: &'a HeaderMap,
    /// Names whose received fields are not sent, and the value in place of the first of them.
    replaced: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Fields after the received ones.
    added: Vec<(HeaderName, HeaderValue)>,
    /// The body stays in chunks, so that trailers may follow it.
    keeps_trailers: bool,
}

impl<'a> ChangedFields<'a> {
    /// What is sent of a received field: the value of a replacement in place of the first of its name, and otherwise
    /// nothing of one hop.
    fn outgoing<'f>(
        &'f self,
        name: &'f HeaderName,
        value: &'f HeaderValue,
    ) -> Option<(&'f HeaderName, &'f HeaderValue)>
    where
        'a: 'f,
    {
        let Some((_, replacement)) = self.replaced.iter().find(|(replaced, _)| replaced == name) else {
            let stays = !is_hop_by_hop(name) || (*name == header::TRAILER && self.keeps_trailers);
            return stays.then_some((name, value));
        };
        let is_first = self.received.get(name).is_some_and(|first| std::ptr::eq(first, value));
        replacement.as_ref().filter(|_| is_first).map(|value| (name, value))
    }
}

impl Fields for ChangedFields<'_> {
    /// The received fields, without the changes.
    fn map(&self) -> &HeaderMap {
        self.received
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.remove(name);
        if let Some((_, replacement)) = self.replaced.iter_mut().find(|(replaced, _)| replaced == name) {
            *replacement = Some(value);
        } else {
            self.added.push((name.clone(), value));
        }
    }

    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.added.push((name.clone(), value));
    }

    fn remove(&mut self, name: &HeaderName) {
        self.added.retain(|(added, _)| added != name);
        self.replaced.retain(|(replaced, _)| replaced != name);
        if self.received.contains_key(name) {
            self.replaced.push((name.clone(), None));
        }
    }
}

/// What is known of a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ClientBody {
    /// There is none.
    Absent,
    /// The whole body of that length has arrived.
    Length(u64),
    /// More may arrive.
    Unfinished,
}

/// The header for the backend in the form of HTTP/1.1, and the encoder of its body. `names` tells how the client spelled
/// field names.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) fn write(
    received: &RequestHeader,
    names: Option<&FieldNames>,
    ctx: &Context,
    body: OutgoingBody,
    client_body: ClientBody,
) -> Result<(BytesMut, BodyEncoder)> {
    let mut fields = ChangedFields {
        received: &received.headers,
        replaced: Vec::new(),
        added: Vec::new(),
        keeps_trailers: false,
    };
    attempt::prepare_fields(&mut fields, ctx)?;
    if let Some(offer) = &ctx.upgrade {
        fields.set(&header::UPGRADE, offer.value().clone());
    }
    set_connection(&mut fields, attempt::accepts_trailers(received), ctx);
    let encoder = frame(&mut fields, body, client_body);
    // A client's body with a length over HTTP/1.1 has no trailers, also if it goes on in chunks.
    let may_have_trailers =
        received.version == Version::HTTP_2 || received.headers.contains_key(header::TRANSFER_ENCODING);
    fields.keeps_trailers =
        encoder.is_chunked() && may_have_trailers && forwarded_trailers::passes_requests(ctx);
    let mut out = BytesMut::with_capacity(INITIAL_CAPACITY);
    out.put_slice(ctx.method().unwrap_or(&received.method).as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(&target(received, ctx));
    out.put_slice(b" HTTP/1.1\r\n");
    let (headers, unknown) = (&received.headers, FieldNames::default());
    write_fields(&mut out, names.unwrap_or(&unknown), || {
        headers.iter().filter_map(|(name, value)| fields.outgoing(name, value))
    });
    for (name, value) in &fields.added {
        put_field(&mut out, name, value);
    }
    out.put_slice(b"\r\n");
    Ok((out, encoder))
}

/// Sets what the gateway says about its connection: that it offers other protocols (RFC 9110 §7.8), that it ends after the
/// response (RFC 9112 §9.6), and that trailers are not lost, if the client says so (RFC 9110 §10.1.4).
fn set_connection(fields: &mut ChangedFields<'_>, accepts_trailers: bool, ctx: &Context) {
    let keeps_connection = ctx.attempts.keeps_connections() && attempt::shares_http1(ctx);
    let options = match (ctx.upgrade.is_some(), keeps_connection, accepts_trailers) {
        (false, true, false) => return,
        (false, true, true) => "TE",
        (false, false, false) => "close",
        (false, false, true) => "close, TE",
        (true, true, false) => "Upgrade",
        (true, true, true) => "Upgrade, TE",
        (true, false, false) => "Upgrade, close",
        (true, false, true) => "Upgrade, close, TE",
    };
    if accepts_trailers {
        fields.set(&header::TE, HeaderValue::from_static("trailers"));
    }
    fields.set(&header::CONNECTION, HeaderValue::from_static(options));
}

/// The request target for the backend.
fn target<'a>(received: &'a RequestHeader, ctx: &'a Context) -> Cow<'a, [u8]> {
    match (ctx.outgoing(), ctx.received.parts.target.as_deref()) {
        // A plugin's target may contain characters that are invalid in a URI.
        (Some(target), _) => carried(target.as_bytes()),
        // The request line has an encoded form of this target, since the parser accepts only UTF-8.
        (None, Some(sent)) if received.version != Version::HTTP_2 && sent.first() == Some(&b'/') => {
            carried(sent)
        }
        _ => Cow::Borrowed(received.raw_path()),
    }
}

/// Sets the fields that frame the body.
fn frame(fields: &mut ChangedFields<'_>, body: OutgoingBody, client_body: ClientBody) -> BodyEncoder {
    let length = |fields: &HeaderMap| {
        fields.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
    };
    match body {
        OutgoingBody::AsReceived => match length(fields.received) {
            Some(length) => return BodyEncoder::with_length(length),
            None => {
                // A length that is no number has been rejected; it must not stand beside a coding.
                if fields.received.contains_key(header::CONTENT_LENGTH) {
                    fields.remove(&header::CONTENT_LENGTH);
                }
                match client_body {
                    ClientBody::Absent => return BodyEncoder::with_length(0),
                    // Some servers take a body in chunks for an empty one.
                    ClientBody::Length(length) => {
                        fields.set(&header::CONTENT_LENGTH, HeaderValue::from(length));
                        return BodyEncoder::with_length(length);
                    }
                    ClientBody::Unfinished => {}
                }
            }
        },
        OutgoingBody::Length(length) => {
            fields.set(&header::CONTENT_LENGTH, HeaderValue::from(length));
            return BodyEncoder::with_length(length as u64);
        }
        OutgoingBody::Empty => return BodyEncoder::with_length(0),
        OutgoingBody::UnknownLength => fields.remove(&header::CONTENT_LENGTH),
    }
    fields.set(&header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    BodyEncoder::chunked()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    // The length excludes most names.
    let name = name.as_str().as_bytes();
    HOP_BY_HOP.iter().any(|hop_by_hop| hop_by_hop.len() == name.len() && *hop_by_hop == name)
}
