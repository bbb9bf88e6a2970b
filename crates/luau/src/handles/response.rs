//! Methods of the response head `res`, and of a body piece `body`.

use super::{Methods, Sort, final_status};
use crate::call_context::{Scene, Subject};
use crate::phase::Phase;
use bytes::Bytes;
use http::StatusCode;
use mlua::{BString, Error, Result};
use moongate_sdk::{Piece, Response};

const HEAD: &[Sort] = &[Sort::Res];
const BODY: &[Sort] = &[Sort::Body];

pub(super) fn methods(methods: &Methods<'_>) -> Result<()> {
    methods.add("status", HEAD, |_, scene, _, ()| Ok(status(scene)))?;
    methods.add("endpoint", HEAD, |lua, scene, _, ()| {
        scene.answer()?.endpoint.map(|endpoint| lua.create_string(endpoint)).transpose()
    })?;
    methods.add("set_status", HEAD, |_, scene, _, status: u16| {
        let status = final_status(status)?;
        let answer = scene.answer()?;
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::runtime("the status of a WebSocket's 101 cannot be changed"));
        }
        answer.status = status;
        Ok(())
    })?;
    methods.add("last", BODY, |_, scene, _, ()| Ok(scene.piece()?.last))?;
    methods.add("hold", BODY, |_, scene, _, ()| hold(scene))
}

impl<'a> Scene<'_, '_, 'a> {
    pub(super) fn answer(&mut self) -> Result<&mut Response<'a>> {
        match &mut self.subject {
            Subject::Answer(answer) => Ok(answer),
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

fn status(scene: &Scene<'_, '_, '_>) -> Option<u16> {
    match &scene.subject {
        Subject::Answer(answer) => Some(answer.status.as_u16()),
        Subject::Gone(status) => status.map(|status| status.as_u16()),
        _ => None,
    }
}

/// Takes the piece back; the script sees it again with the next.
fn hold(scene: &mut Scene<'_, '_, '_>) -> Result<()> {
    if scene.phase != Phase::ResponseBody {
        return Err(Error::runtime("the body of a request is already complete"));
    }
    let piece = scene.piece()?;
    if piece.last {
        return Err(Error::runtime("the last piece cannot be held back"));
    }
    scene.outcome.held = Some(std::mem::take(&mut piece.bytes));
    Ok(())
}
