//! The 100 (Continue) for a client that waits for it before it sends its body (RFC 9110 §10.1.1).

use crate::proxy::context::Context;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::time::Duration;
use tokio::time::timeout;

/// Sends 100 (Continue) before the body is read, if the client waits for it.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn ask_for(session: &mut Session, ctx: &mut Context) -> Result<()> {
    if ctx.received.expects_continue && !std::mem::replace(&mut ctx.upload.is_asked_for, true) {
        let limit = ctx.snapshot.as_ref().map_or(Duration::ZERO, |snapshot| snapshot.globals.send_timeout);
        match timeout(limit, session.as_downstream_mut().write_continue_response()).await {
            Ok(written) => written.map_err(Error::into_down)?,
            Err(_) => return Err(Error::new_down(ErrorType::WriteTimedout)),
        }
    }
    Ok(())
}
