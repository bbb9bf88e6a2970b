//! The answer's head, `res`, and a piece of a body, `body`.

use super::{final_status, respond};
use crate::fields;
use crate::phase::Phase;
use crate::stage::{Scene, Subject, look};
use bytes::Bytes;
use http::StatusCode;
use mlua::{BString, Error, Result, UserData, UserDataMethods, UserDataRegistry};
use moongate_sdk::{Answer, Piece};

/// The answer of one call.
#[derive(Clone, Copy)]
pub(crate) struct Res(pub(crate) u64);

/// A body, or a piece of one, of one call.
#[derive(Clone, Copy)]
pub(crate) struct Body(pub(crate) u64);

impl UserData for Res {
    fn register(registry: &mut UserDataRegistry<Self>) {
        registry.enable_namecall();
        registry.add_method("status", |_, this, ()| look(this.0, |scene| Ok(status(scene))));
        registry.add_method("endpoint", |_, this, ()| {
            look(this.0, |scene| Ok(answer(scene)?.endpoint.map(str::to_owned)))
        });
        registry.add_method("header", |lua, this, name: BString| {
            look(this.0, |scene| fields::get(lua, &answer(scene)?.headers, &name))
        });
        registry.add_method("headers", |lua, this, ()| {
            look(this.0, |scene| fields::all(lua, &answer(scene)?.headers))
        });
        registry.add_method("set_header", |_, this, (name, value): (BString, BString)| {
            look(this.0, |scene| fields::set(&mut answer(scene)?.headers, &name, &value))
        });
        registry.add_method("add_header", |_, this, (name, value): (BString, BString)| {
            look(this.0, |scene| fields::add(&mut answer(scene)?.headers, &name, &value))
        });
        registry.add_method("remove_header", |_, this, name: BString| {
            look(this.0, |scene| fields::remove(&mut answer(scene)?.headers, &name))
        });
        registry.add_method("set_status", |_, this, status: u16| {
            let status = final_status(status)?;
            look(this.0, |scene| {
                let answer = answer(scene)?;
                if answer.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(Error::runtime("a WebSocket's 101 stays"));
                }
                answer.status = status;
                Ok(())
            })
        });
        registry.add_method("respond", |_, this, given| {
            look(this.0, |scene| {
                answer(scene)?;
                respond(scene, given)
            })
        });
    }
}

impl UserData for Body {
    fn register(registry: &mut UserDataRegistry<Self>) {
        registry.enable_namecall();
        registry.add_method("data", |lua, this, ()| {
            look(this.0, |scene| lua.create_string(&piece(scene)?.bytes))
        });
        registry.add_method("len", |_, this, ()| look(this.0, |scene| Ok(piece(scene)?.bytes.len())));
        registry.add_method("last", |_, this, ()| look(this.0, |scene| Ok(piece(scene)?.last)));
        registry.add_method("set", |_, this, data: BString| {
            look(this.0, |scene| {
                piece(scene)?.bytes = Bytes::from(Vec::from(data));
                Ok(())
            })
        });
        registry.add_method("hold", |_, this, ()| look(this.0, hold));
    }
}

fn status(scene: &Scene<'_, '_, '_>) -> Option<u16> {
    match &scene.subject {
        Subject::Answer(answer) => Some(answer.status.as_u16()),
        Subject::Gone(status) => status.map(|status| status.as_u16()),
        _ => None,
    }
}

fn answer<'x, 'a>(scene: &'x mut Scene<'_, '_, 'a>) -> Result<&'x mut Answer<'a>> {
    match &mut scene.subject {
        Subject::Answer(answer) => Ok(answer),
        _ => Err(Error::runtime("the answer has gone; only its status is known")),
    }
}

fn piece<'x>(scene: &'x mut Scene<'_, '_, '_>) -> Result<&'x mut Piece> {
    match &mut scene.subject {
        Subject::Piece(piece) => Ok(piece),
        _ => Err(Error::runtime("there is no body in this call")),
    }
}

/// Takes the piece back, to be seen again with the next.
fn hold(scene: &mut Scene<'_, '_, '_>) -> Result<()> {
    if scene.phase != Phase::ResponseBody {
        return Err(Error::runtime("a request's body is whole already"));
    }
    let piece = piece(scene)?;
    if piece.last {
        return Err(Error::runtime("nothing comes behind the last piece"));
    }
    scene.outcome.held = Some(std::mem::take(&mut piece.bytes));
    Ok(())
}
