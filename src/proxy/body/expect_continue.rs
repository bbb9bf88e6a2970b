//! The 100 (Continue) for a client that waits for it before it sends its body (RFC 9110 §10.1.1).

use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::{Error, Result};

/// Sends 100 (Continue) before the body is read, if the client waits for it.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn ask_for(session: &mut Session, ctx: &mut Context) -> Result<()> {
    if ctx.received.expects_continue && !std::mem::replace(&mut ctx.upload.is_asked_for, true) {
        let head = ResponseHeader::build(StatusCode::CONTINUE, Some(0))?;
        session.write_head(head, false).await.map_err(Error::into_down)?;
    }
    Ok(())
}
