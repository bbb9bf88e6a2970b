//! What scripts call methods of: `req`, `res`, `body`, `ws` and `msg`.
//!
//! Each is the number of the call it was made for; see [`crate::stage`].

mod answer;
mod message;
mod request;

pub(crate) use answer::{Body, Res};
pub(crate) use message::{Msg, Ws};
pub(crate) use request::Req;

use crate::fields;
use crate::stage::Scene;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mlua::{BString, Error, Result, Table};
use moongate_sdk::Reply;

/// `respond(status, body, headers)`.
fn respond(
    scene: &mut Scene<'_, '_, '_>,
    (status, body, headers): (u16, Option<BString>, Option<Table>),
) -> Result<()> {
    if !scene.phase.may_answer() {
        return Err(Error::runtime(format!("it is too late for an answer in {}", scene.phase.name())));
    }
    let headers = headers.as_ref().map_or_else(|| Ok(HeaderMap::new()), fields::from_table)?;
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(Vec::from(body)));
    scene.outcome.reply = Some(Box::new(Reply { status: final_status(status)?, headers, body }));
    Ok(())
}

/// A status that ends an exchange.
fn final_status(status: u16) -> Result<StatusCode> {
    match StatusCode::from_u16(status) {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err(Error::runtime(format!("{status} is not a status from 200 to 599"))),
    }
}
