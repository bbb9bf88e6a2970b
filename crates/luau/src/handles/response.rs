//! Methods of the response head `res`, and of a body piece `body`.

use super::{HandleKind, Methods, final_status};
use crate::call_context::{CallContext, Subject};
use crate::phase::Phase;
use bytes::Bytes;
use http::StatusCode;
use mlua::{BString, Error, Result};
use moongate_sdk::{Piece, Response};

const HEAD: &[HandleKind] = &[HandleKind::Res];
const BODY: &[HandleKind] = &[HandleKind::Body];

pub(super) fn methods(methods: &Methods<'_>) -> Result<()> {
    methods.add("status", HEAD, |_, context, _, ()| Ok(status(context)))?;
    methods.add("endpoint", HEAD, |lua, context, _, ()| {
        context.response()?.endpoint.map(|endpoint| lua.create_string(endpoint)).transpose()
    })?;
    methods.add("set_status", HEAD, |_, context, _, status: u16| {
        let status = final_status(status)?;
        let response = context.response()?;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::runtime("the status of a WebSocket's 101 cannot be changed"));
        }
        response.status = status;
        Ok(())
    })?;
    methods.add("last", BODY, |_, context, _, ()| Ok(context.piece()?.last))?;
    methods.add("hold", BODY, |_, context, _, ()| hold(context))
}

impl<'a> CallContext<'_, '_, 'a> {
    pub(super) fn response(&mut self) -> Result<&mut Response<'a>> {
        match &mut self.subject {
            Subject::Response(response) => Ok(response),
            _ => Err(Error::runtime("the response has been sent; only its status is known")),
        }
    }

    pub(super) fn piece(&mut self) -> Result<&mut Piece> {
        match &mut self.subject {
            Subject::Piece(piece) => Ok(piece),
            _ => Err(Error::runtime("this call has no body")),
        }
    }
}

/// Replaces the bytes of a piece.
pub(super) fn set(piece: &mut Piece, data: BString) {
    piece.bytes = Bytes::from(Vec::from(data));
}

fn status(context: &CallContext<'_, '_, '_>) -> Option<u16> {
    match &context.subject {
        Subject::Response(response) => Some(response.status.as_u16()),
        Subject::Finished(status) => status.map(|status| status.as_u16()),
        _ => None,
    }
}

/// Takes the piece back; the script sees it again with the next.
fn hold(context: &mut CallContext<'_, '_, '_>) -> Result<()> {
    if context.phase != Phase::ResponseBody {
        return Err(Error::runtime("the body of a request is already complete"));
    }
    let piece = context.piece()?;
    if piece.last {
        return Err(Error::runtime("the last piece cannot be held back"));
    }
    context.outcome.held = Some(std::mem::take(&mut piece.bytes));
    Ok(())
}
