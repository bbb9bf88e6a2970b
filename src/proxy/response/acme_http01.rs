//! Requests of an authority that looks for a proof (RFC 8555 §8.3): answered before routes and plugins,
//! while the token is one that was asked for. Every other request below that path is an ordinary one.

use crate::proxy::context::Context;
use crate::proxy::response::local_response;
use http::{HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use std::sync::Arc;

/// Where authorities look.
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// What the request is to be answered, when it asks for a proof that is shown.
pub(in crate::proxy) fn wanted(session: &Session, ctx: &Context) -> Option<Arc<str>> {
    let token = session.req_header().raw_path().strip_prefix(PATH)?;
    // What cannot be read in one meaning is refused with everybody else's.
    let snapshot = ctx.snapshot.as_ref().filter(|_| ctx.refused.is_none())?;
    snapshot.certificates.challenges().answer(std::str::from_utf8(token).ok()?)
}

/// Answers it.
///
/// # Errors
/// When the client went away meanwhile.
pub(in crate::proxy) async fn show(session: &mut Session, ctx: &mut Context, proof: &str) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(3))?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    local_response::send(session, ctx, head, proof.to_owned()).await
}
