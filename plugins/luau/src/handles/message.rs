//! A WebSocket, `ws`, and a message of it, `msg`.

use super::request::{Turn, readers};
use crate::stage::{Fate, Scene, Subject, look};
use bytes::BytesMut;
use mlua::{BString, Error, Result, UserData, UserDataMethods, UserDataRegistry};
use moongate_sdk::{Direction, Message};

/// The longest reason of a Close, in bytes (RFC 6455 §5.5.1).
const LONGEST_REASON: usize = 123;

/// The WebSocket of one call: its handshake's request to read, and what to do with a message.
#[derive(Clone, Copy)]
pub(crate) struct Ws(pub(crate) u64);

/// The message of one call.
#[derive(Clone, Copy)]
pub(crate) struct Msg(pub(crate) u64);

impl Turn for Ws {
    fn turn(&self) -> u64 {
        self.0
    }
}

impl UserData for Ws {
    fn register(registry: &mut UserDataRegistry<Self>) {
        registry.enable_namecall();
        readers(registry);
        registry.add_method("drop", |_, this, ()| {
            look(this.0, |scene| {
                message(scene)?;
                scene.outcome.fate = Fate::Drop;
                Ok(())
            })
        });
        registry.add_method("close", |_, this, (code, reason): (u16, Option<String>)| {
            let reason = reason.unwrap_or_default();
            if !matches!(code, 1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999) {
                return Err(Error::runtime(format!("{code} is not a code that a Close may carry")));
            }
            if reason.len() > LONGEST_REASON {
                return Err(Error::runtime(format!("a reason has at most {LONGEST_REASON} bytes")));
            }
            look(this.0, |scene| {
                message(scene)?;
                scene.outcome.fate = Fate::Close(code, reason);
                Ok(())
            })
        });
    }
}

impl UserData for Msg {
    fn register(registry: &mut UserDataRegistry<Self>) {
        registry.enable_namecall();
        registry.add_method("data", |lua, this, ()| {
            look(this.0, |scene| lua.create_string(&message(scene)?.payload))
        });
        registry.add_method("len", |_, this, ()| look(this.0, |scene| Ok(message(scene)?.payload.len())));
        registry.add_method("binary", |_, this, ()| look(this.0, |scene| Ok(message(scene)?.binary)));
        registry.add_method("text", |_, this, ()| look(this.0, |scene| Ok(!message(scene)?.binary)));
        registry.add_method("to_client", |_, this, ()| {
            look(this.0, |scene| Ok(message(scene)?.direction == Direction::ToClient))
        });
        registry.add_method("to_backend", |_, this, ()| {
            look(this.0, |scene| Ok(message(scene)?.direction == Direction::ToBackend))
        });
        registry.add_method("set", |_, this, data: BString| {
            look(this.0, |scene| set(message(scene)?, &data, None))
        });
        registry.add_method("set_text", |_, this, data: BString| {
            look(this.0, |scene| set(message(scene)?, &data, Some(false)))
        });
        registry.add_method("set_binary", |_, this, data: BString| {
            look(this.0, |scene| set(message(scene)?, &data, Some(true)))
        });
    }
}

fn message<'x>(scene: &'x mut Scene<'_, '_, '_>) -> Result<&'x mut Message> {
    match &mut scene.subject {
        Subject::Message(message) => Ok(message),
        _ => Err(Error::runtime("there is no message in this call")),
    }
}

/// Replaces the payload, and the sort if one is given.
fn set(message: &mut Message, data: &[u8], binary: Option<bool>) -> Result<()> {
    let binary = binary.unwrap_or(message.binary);
    if !binary && std::str::from_utf8(data).is_err() {
        return Err(Error::runtime("a text message must be UTF-8"));
    }
    message.binary = binary;
    message.payload = BytesMut::from(data);
    Ok(())
}
