//! ACME http-01 requests (RFC 8555 §8.3): served before routes and plugins, while the token belongs to a
//! pending challenge. Every other request below that path is an ordinary one.

use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::response::local_response;
use http::{HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use std::sync::Arc;

/// The path of http-01 (RFC 8555 §8.3).
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// The key authorization, if the request asks for that of a pending challenge.
pub(in crate::proxy) fn wanted(session: &Session, ctx: &Context) -> Option<Arc<str>> {
    let token = session.request().raw_path().strip_prefix(PATH)?;
    if ctx.received.parts.refused.is_some() {
        // Ambiguous requests are rejected as on any other path.
        return None;
    }
    ctx.snapshot.certificates.challenges().answer(std::str::from_utf8(token).ok()?)
}

/// Responds to it.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn show(session: &mut Session, ctx: &mut Context, proof: &str) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(3))?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    local_response::send(session, ctx, head, proof.to_owned()).await
}
