//! Methods of a WebSocket `ws`, of a message `msg`, and the methods that `msg` shares with `body`.

use super::response;
use super::{HandleKind, Methods};
use crate::call_context::{CallContext, ScriptMessageVerdict, Subject};
use bytes::BytesMut;
use mlua::{BString, Error, Result};
use moongate_sdk::{Direction, Message, may_choose_close_code};

/// The longest reason of a Close frame, in bytes (RFC 6455 §5.5.1).
const LONGEST_REASON: usize = 123;

const SOCKET: &[HandleKind] = &[HandleKind::Ws];
const MESSAGE: &[HandleKind] = &[HandleKind::Msg];
const PAYLOAD: &[HandleKind] = &[HandleKind::Msg, HandleKind::Body];

pub(super) fn methods(methods: &Methods<'_>) -> Result<()> {
    payload(methods)?;
    methods.add("drop", SOCKET, |_, context, _, ()| {
        context.message()?;
        context.outcome.verdict = ScriptMessageVerdict::Drop;
        Ok(())
    })?;
    methods.add("close", SOCKET, |_, context, _, (code, reason): (u16, Option<String>)| {
        context.message()?;
        context.outcome.verdict = close(code, reason.unwrap_or_default())?;
        Ok(())
    })?;
    methods.add("binary", MESSAGE, |_, context, _, ()| Ok(context.message()?.binary))?;
    methods.add("text", MESSAGE, |_, context, _, ()| Ok(!context.message()?.binary))?;
    methods.add("to_client", MESSAGE, |_, context, _, ()| {
        Ok(context.message()?.direction == Direction::ToClient)
    })?;
    methods.add("to_backend", MESSAGE, |_, context, _, ()| {
        Ok(context.message()?.direction == Direction::ToBackend)
    })?;
    methods.add("set_text", MESSAGE, |_, context, _, data: BString| {
        set(context.message()?, &data, Some(false))
    })?;
    methods
        .add("set_binary", MESSAGE, |_, context, _, data: BString| set(context.message()?, &data, Some(true)))
}

/// Methods shared by messages and bodies.
fn payload(methods: &Methods<'_>) -> Result<()> {
    methods.add("data", PAYLOAD, |lua, context, kind, ()| lua.create_string(context.bytes(kind)?))?;
    methods.add("len", PAYLOAD, |_, context, kind, ()| Ok(context.bytes(kind)?.len()))?;
    methods.add("set", PAYLOAD, |_, context, kind, data: BString| match kind {
        HandleKind::Msg => set(context.message()?, &data, None),
        _ => {
            response::set(context.piece()?, data);
            Ok(())
        }
    })
}

impl CallContext<'_, '_, '_> {
    fn message(&mut self) -> Result<&mut Message> {
        match &mut self.subject {
            Subject::Message(message) => Ok(message),
            _ => Err(Error::runtime("this call has no message")),
        }
    }

    fn bytes(&mut self, kind: HandleKind) -> Result<&[u8]> {
        match kind {
            HandleKind::Msg => Ok(&self.message()?.payload),
            _ => Ok(&self.piece()?.bytes),
        }
    }
}

fn close(code: u16, reason: String) -> Result<ScriptMessageVerdict> {
    if !may_choose_close_code(code) {
        return Err(Error::runtime(format!("{code} is not a valid close code")));
    }
    if reason.len() > LONGEST_REASON {
        return Err(Error::runtime(format!("a reason has at most {LONGEST_REASON} bytes")));
    }
    Ok(ScriptMessageVerdict::Close(code, reason))
}

/// Replaces the payload, and the type if one is given.
fn set(message: &mut Message, data: &[u8], binary: Option<bool>) -> Result<()> {
    let binary = binary.unwrap_or(message.binary);
    if !binary && std::str::from_utf8(data).is_err() {
        return Err(Error::runtime("a text message must be UTF-8"));
    }
    message.binary = binary;
    message.payload = BytesMut::from(data);
    Ok(())
}
