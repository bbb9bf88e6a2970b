//! Script objects with methods: `req`, `res`, `body`, `ws` and `msg`.
//!
//! A handle is the number of its call, see [`crate::call_context`], and its kind. In Luau it is a vector: a plain
//! value with methods, so a new one neither allocates nor leaves garbage. Scripts cannot make vectors, and a forged
//! one would reach only its own call.

mod message;
mod request;
mod response;

use crate::call_context::{self, Scene};
use crate::header_fields;
use crate::script::Script;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mlua::{BString, Error, FromLua, FromLuaMulti, IntoLua, IntoLuaMulti, Lua, Result, Table, Value, Vector};
use moongate_sdk::Reply;

/// The kind of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Req = 1,
    Res = 2,
    Body = 3,
    Ws = 4,
    Msg = 5,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Req, Self::Res, Self::Body, Self::Ws, Self::Msg];

    const fn name(self) -> &'static str {
        match self {
            Self::Req => "req",
            Self::Res => "res",
            Self::Body => "body",
            Self::Ws => "ws",
            Self::Msg => "msg",
        }
    }
}

/// A handle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    sort: Sort,
    turn: u64,
}

impl Handle {
    pub(crate) const fn req(turn: u64) -> Self {
        Self { sort: Sort::Req, turn }
    }
    pub(crate) const fn res(turn: u64) -> Self {
        Self { sort: Sort::Res, turn }
    }
    pub(crate) const fn body(turn: u64) -> Self {
        Self { sort: Sort::Body, turn }
    }
    pub(crate) const fn ws(turn: u64) -> Self {
        Self { sort: Sort::Ws, turn }
    }
    pub(crate) const fn msg(turn: u64) -> Self {
        Self { sort: Sort::Msg, turn }
    }
}

/// An `f32` holds 24 bits exactly; two of them suffice for years of calls.
const HALF: u32 = 24;
const MASK: u64 = (1 << HALF) - 1;

impl IntoLua for Handle {
    #[allow(clippy::cast_precision_loss, reason = "24 bits are exact")]
    fn into_lua(self, _: &Lua) -> Result<Value> {
        let (low, high) = (self.turn & MASK, (self.turn >> HALF) & MASK);
        Ok(Value::Vector(Vector::new(self.sort as u8 as f32, low as f32, high as f32)))
    }
}

impl FromLua for Handle {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made above, of 24 bits each")]
    fn from_lua(value: Value, _: &Lua) -> Result<Self> {
        if let Value::Vector(vector) = value
            && let Some(sort) = Sort::ALL.into_iter().find(|sort| f32::from(*sort as u8) == vector.x())
        {
            return Ok(Self { sort, turn: vector.y() as u64 | (vector.z() as u64) << HALF });
        }
        Err(Error::runtime("a method is called with `:`, as in `req:path()`"))
    }
}

/// Installs the methods of handles on vectors.
pub(crate) fn install(lua: &Lua, script: &Script) -> Result<()> {
    let methods = Methods { lua, table: lua.create_table()? };
    request::methods(&methods)?;
    if script.keeps {
        request::ctx_method(&methods)?;
    }
    response::methods(&methods)?;
    message::methods(&methods)?;
    shared(&methods)?;
    methods.table.set_readonly(true);
    let metatable = lua.create_table()?;
    metatable.set("__index", methods.table)?;
    metatable.set("__type", "handle")?;
    metatable.set("__metatable", false)?;
    metatable.set("__tostring", lua.create_function(|_, handle: Handle| Ok(handle.sort.name()))?)?;
    metatable.set_readonly(true);
    lua.set_type_metatable::<Vector>(Some(metatable));
    Ok(())
}

/// The methods under construction.
struct Methods<'l> {
    lua: &'l Lua,
    table: Table,
}

impl Methods<'_> {
    /// Adds a method for handles of these kinds; it gets the scene of the handle's call.
    fn add<A: FromLuaMulti, R: IntoLuaMulti>(
        &self,
        name: &'static str,
        sorts: &'static [Sort],
        method: impl Fn(&Lua, &mut Scene<'_, '_, '_>, Sort, A) -> Result<R> + Send + 'static,
    ) -> Result<()> {
        let function = self.lua.create_function(move |lua, (handle, given): (Handle, A)| {
            if !sorts.contains(&handle.sort) {
                return Err(Error::runtime(format!("`{}` has no method `{name}`", handle.sort.name())));
            }
            call_context::look(handle.turn, |scene| method(lua, scene, handle.sort, given))
        })?;
        self.table.set(name, function)
    }
}

/// Methods shared by requests and responses.
fn shared(methods: &Methods<'_>) -> Result<()> {
    use Sort::{Req, Res, Ws};
    const HEADS: &[Sort] = &[Req, Ws, Res];
    const OPEN: &[Sort] = &[Req, Res];
    methods.add("header", HEADS, |lua, scene, sort, name: BString| {
        header_fields::get(lua, scene.fields(sort)?, &name)
    })?;
    methods.add("headers", HEADS, |lua, scene, sort, ()| header_fields::all(lua, scene.fields(sort)?))?;
    methods.add("set_header", OPEN, |_, scene, sort, (name, value): (BString, BString)| {
        scene.change(sort, |fields| header_fields::set(fields, &name, &value))
    })?;
    methods.add("add_header", OPEN, |_, scene, sort, (name, value): (BString, BString)| {
        scene.change(sort, |fields| header_fields::add(fields, &name, &value))
    })?;
    methods.add("remove_header", OPEN, |_, scene, sort, name: BString| {
        scene.change(sort, |fields| header_fields::remove(fields, &name))
    })?;
    methods.add("respond", OPEN, |_, scene, _, given| respond(scene, given))
}

/// `respond(status, body, headers)`.
fn respond(
    scene: &mut Scene<'_, '_, '_>,
    (status, body, headers): (u16, Option<BString>, Option<Table>),
) -> Result<()> {
    if !scene.phase.may_answer() {
        return Err(Error::runtime(format!("`respond` is not available in {}", scene.phase.name())));
    }
    let headers = headers.as_ref().map_or_else(|| Ok(HeaderMap::new()), header_fields::from_table)?;
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(Vec::from(body)));
    scene.outcome.reply = Some(Box::new(Reply { status: final_status(status)?, headers, body }));
    Ok(())
}

/// A status of a final response.
fn final_status(status: u16) -> Result<StatusCode> {
    match StatusCode::from_u16(status) {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err(Error::runtime(format!("{status} is not a status from 200 to 599"))),
    }
}
