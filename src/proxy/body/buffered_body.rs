//! Buffered request body, read completely before the request is forwarded. Each attempt gets the whole buffer in
//! place of what the session read.

use super::expect_continue;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::Failure;
use crate::proxy::replacement_response::ReplacementResponse;
use moongate_sdk::{BodyLength, Piece};
use pingora::Error;

/// Returns whether there is a body to read. Sends 100 (Continue) if the client waits for it (RFC 9110
/// §10.1.1).
///
/// # Errors
/// When the declared length is too large, or the client disconnected.
pub(in crate::proxy) async fn begin(
    session: &mut Session,
    ctx: &mut Context,
    limit: usize,
) -> Result<bool, ReplacementResponse> {
    match ctx.received.body {
        BodyLength::Empty => return Ok(false),
        BodyLength::Exactly(length) if length > limit as u64 => return Err(Failure::BodyTooLarge.into()),
        BodyLength::Exactly(_) | BodyLength::Unknown => {}
    }
    if let Err(error) = expect_continue::ask_for(session, ctx).await {
        return Err(gone(session, error));
    }
    Ok(true)
}

/// The next chunk.
///
/// # Errors
/// When the client disconnected, was too slow, or violated the framing.
pub(in crate::proxy) async fn next(session: &mut Session) -> Result<Piece, ReplacementResponse> {
    match session.read_body().await {
        Ok(bytes) => {
            let last = bytes.is_none() || session.is_body_done();
            Ok(Piece { bytes: bytes.unwrap_or_default(), last })
        }
        Err(error) => Err(gone(session, error)),
    }
}

/// Ends reading from this connection.
fn gone(session: &mut Session, error: Box<Error>) -> ReplacementResponse {
    session.close_after_response();
    session.control().failure().unwrap_or_else(|| Failure::from(&*error.into_down())).into()
}
