//! Methods of a WebSocket `ws`, of a message `msg`, and the methods that `msg` shares with `body`.

use super::response;
use super::{Methods, Sort};
use crate::call_context::{MessageVerdict, Scene, Subject};
use bytes::BytesMut;
use mlua::{BString, Error, Result};
use moongate_sdk::{Direction, Message};

/// The longest reason of a Close frame, in bytes (RFC 6455 §5.5.1).
const LONGEST_REASON: usize = 123;

const SOCKET: &[Sort] = &[Sort::Ws];
const MESSAGE: &[Sort] = &[Sort::Msg];
const PAYLOAD: &[Sort] = &[Sort::Msg, Sort::Body];

pub(super) fn methods(methods: &Methods<'_>) -> Result<()> {
    payload(methods)?;
    methods.add("drop", SOCKET, |_, scene, _, ()| {
        scene.message()?;
        scene.outcome.fate = MessageVerdict::Drop;
        Ok(())
    })?;
    methods.add("close", SOCKET, |_, scene, _, (code, reason): (u16, Option<String>)| {
        scene.message()?;
        scene.outcome.fate = close(code, reason.unwrap_or_default())?;
        Ok(())
    })?;
    methods.add("binary", MESSAGE, |_, scene, _, ()| Ok(scene.message()?.binary))?;
    methods.add("text", MESSAGE, |_, scene, _, ()| Ok(!scene.message()?.binary))?;
    methods
        .add("to_client", MESSAGE, |_, scene, _, ()| Ok(scene.message()?.direction == Direction::ToClient))?;
    methods.add("to_backend", MESSAGE, |_, scene, _, ()| {
        Ok(scene.message()?.direction == Direction::ToBackend)
    })?;
    methods
        .add("set_text", MESSAGE, |_, scene, _, data: BString| set(scene.message()?, &data, Some(false)))?;
    methods.add("set_binary", MESSAGE, |_, scene, _, data: BString| set(scene.message()?, &data, Some(true)))
}

/// Methods shared by messages and bodies.
fn payload(methods: &Methods<'_>) -> Result<()> {
    methods.add("data", PAYLOAD, |lua, scene, sort, ()| lua.create_string(scene.bytes(sort)?))?;
    methods.add("len", PAYLOAD, |_, scene, sort, ()| Ok(scene.bytes(sort)?.len()))?;
    methods.add("set", PAYLOAD, |_, scene, sort, data: BString| match sort {
        Sort::Msg => set(scene.message()?, &data, None),
        _ => {
            response::set(scene.piece()?, data);
            Ok(())
        }
    })
}

impl Scene<'_, '_, '_> {
    fn message(&mut self) -> Result<&mut Message> {
        match &mut self.subject {
            Subject::Message(message) => Ok(message),
            _ => Err(Error::runtime("this call has no message")),
        }
    }

    fn bytes(&mut self, sort: Sort) -> Result<&[u8]> {
        match sort {
            Sort::Msg => Ok(&self.message()?.payload),
            _ => Ok(&self.piece()?.bytes),
        }
    }
}

fn close(code: u16, reason: String) -> Result<MessageVerdict> {
    if !matches!(code, 1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999) {
        return Err(Error::runtime(format!("{code} is not a valid close code")));
    }
    if reason.len() > LONGEST_REASON {
        return Err(Error::runtime(format!("a reason has at most {LONGEST_REASON} bytes")));
    }
    Ok(MessageVerdict::Close(code, reason))
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
