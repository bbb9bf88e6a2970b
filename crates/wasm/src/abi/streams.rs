//! Host functions for a stream: resume, close, respond.

use super::maps;
use crate::header_encoding;
use crate::host::{Host, Phase, ROOT};
use crate::memory::{Call, bytes, split};
use crate::request_scope::{self, Side};
use crate::status::{HostResult, Status};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use moongate_sdk::{Reply, may_choose_close_code};
use std::borrow::Cow;

/// The longest reason of a Close frame (RFC 6455 §5.5).
const REASON: usize = 123;

pub(super) fn resume(call: &mut Call<'_>, kind: i32) -> HostResult {
    if !(0..=3).contains(&kind) {
        return Err(Status::BadArgument.into());
    }
    resume_any(call)
}

pub(super) fn resume_any(call: &mut Call<'_>) -> HostResult {
    let host = call.data_mut();
    if late(host, "resume a request") {
        return Ok(());
    }
    if !host.sees_request() {
        return Err(Status::BadArgument.into());
    }
    host.outcome.resumed = true;
    Ok(())
}

/// Whether a decision comes after its stream has resumed, or between its callbacks. It then has no effect. An error
/// would make the SDKs end the instance, and with it the other streams.
fn late(host: &Host, what: &str) -> bool {
    let late = host.stream == 0 && host.effective != ROOT;
    if late {
        host.log(log::Level::Debug, format!("too late to {what}").as_bytes());
    }
    late
}

/// Ends a stream: a WebSocket with 1000, a request with 503, because every HTTP request needs a response.
pub(super) fn close(call: &mut Call<'_>, kind: i32) -> HostResult {
    let host = call.data_mut();
    if !host.sees_request() {
        return Err(Status::BadArgument.into());
    }
    match (host.phase, kind) {
        (Phase::Message, 2 | 3) => host.outcome.close = Some((1000, Cow::Borrowed(""))),
        (Phase::RequestHeaders | Phase::RequestBody | Phase::ResponseHeaders, 0 | 1) => {
            host.outcome.reply = Some(Box::new(Reply::new(StatusCode::SERVICE_UNAVAILABLE)));
        }
        _ => return Err(Status::BadArgument.into()),
    }
    Ok(())
}

/// Responds in place of a backend.
#[allow(clippy::too_many_arguments, reason = "the interface has them")]
pub(super) fn respond(
    call: &mut Call<'_>,
    status: i32,
    d: i32,
    dn: i32,
    b: i32,
    bn: i32,
    h: i32,
    hn: i32,
    grpc: i32,
) -> HostResult {
    let (memory, host) = split(call)?;
    if late(host, "respond to a request") {
        return Ok(());
    }
    let may_respond =
        matches!(host.phase, Phase::RequestHeaders | Phase::RequestBody | Phase::ResponseHeaders);
    if !host.sees_request() || !may_respond {
        return Err(Status::BadArgument.into());
    }
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(|status| !status.is_informational()).ok_or(Status::BadArgument)?;
    let details = bytes(memory, d, dn)?;
    let body = bytes(memory, b, bn)?;
    let pairs = header_encoding::read(bytes(memory, h, hn)?).ok_or(Status::ParseFailure)?;
    let headers = maps::fields(&pairs, Side::Response)?;
    let mut reply = Reply { status, headers, body: Bytes::copy_from_slice(body) };
    if let Ok(grpc) = u32::try_from(grpc) {
        reply = as_grpc(reply, grpc);
    }
    if !details.is_empty() {
        let details = String::from_utf8_lossy(&details[..details.len().min(256)]).into_owned();
        request_scope::with_request(|scope| {
            scope.exchange(&mut |exchange| exchange.note("details", details.as_str()));
        });
    }
    host.outcome.reply = Some(Box::new(reply));
    Ok(())
}

/// For a gRPC client an error is a response with status 200 and the error in its fields.
fn as_grpc(mut reply: Reply, code: u32) -> Reply {
    const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
    reply.headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(code));
    let asks = request_scope::with_request(|scope| {
        let kind = scope.fields(Side::Request)?.get(header::CONTENT_TYPE)?;
        Some(kind.as_bytes().starts_with(GRPC.as_bytes()))
    });
    if asks.flatten() == Some(true) {
        if let Ok(message) = HeaderValue::from_bytes(&reply.body) {
            reply.headers.insert(HeaderName::from_static("grpc-message"), message);
        }
        reply.headers.insert(header::CONTENT_TYPE, GRPC);
        reply.status = StatusCode::OK;
        reply.body = Bytes::new();
    }
    reply
}

pub(super) fn effective(call: &mut Call<'_>, id: i32) -> HostResult {
    let host = call.data_mut();
    let id = id.cast_unsigned();
    if !host.contexts.contains_key(&id) {
        return Err(Status::BadArgument.into());
    }
    host.effective = id;
    Ok(())
}

/// Marks a delayed context as done.
pub(super) fn done(call: &mut Call<'_>) -> HostResult {
    let host = call.data_mut();
    let id = host.effective;
    match host.contexts.get(&id) {
        Some(context) if context.lingers && id != ROOT => {
            host.done.push(id);
            Ok(())
        }
        _ => Err(Status::NotFound.into()),
    }
}

/// The gateway's own extensions of the ABI.
pub(super) fn foreign(call: &mut Call<'_>, f: i32, fl: i32, p: i32, n: i32, _: i32, _: i32) -> HostResult {
    let (memory, host) = split(call)?;
    let name = bytes(memory, f, fl)?;
    let arguments = bytes(memory, p, n)?;
    if name != b"ws_close" {
        return Err(Status::NotFound.into());
    }
    if !host.sees_request() || host.phase != Phase::Message {
        return Err(Status::BadArgument.into());
    }
    host.outcome.close = Some(close_frame(arguments).ok_or(Status::BadArgument)?);
    Ok(())
}

/// The code in 16 bits, little-endian like all numbers of the ABI, followed by the reason.
fn close_frame(bytes: &[u8]) -> Option<(u16, Cow<'static, str>)> {
    let (code, reason) = bytes.split_first_chunk::<2>()?;
    let code = u16::from_le_bytes(*code);
    let reason = std::str::from_utf8(reason).ok()?;
    (may_choose_close_code(code) && reason.len() <= REASON).then(|| (code, Cow::Owned(reason.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_a_code_and_a_reason() {
        let close = |code: u16, reason: &str| close_frame(&[&code.to_le_bytes(), reason.as_bytes()].concat());
        assert_eq!(close(1008, "not so"), Some((1008, "not so".into())));
        assert_eq!(close(4000, ""), Some((4000, "".into())));
        for (code, reason) in [(1005, ""), (1014, ""), (999, "x"), (5000, ""), (1000, &*"a".repeat(124))] {
            assert_eq!(close(code, reason), None, "{code} {reason}");
        }
        assert_eq!((close_frame(b""), close_frame(b"\xe8\x03\xff")), (None, None));
    }
}
