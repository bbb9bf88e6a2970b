//! Script objects with methods: `req`, `res`, `body`, `ws` and `msg`.
//!
//! A handle is the number of its call, see [`crate::call_context`], and its kind. In Luau it is a vector: a plain
//! value with methods, so a new one neither allocates nor leaves garbage. Scripts cannot make vectors, and a forged
//! one would reach only its own call.

mod message;
mod request;
mod response;

use crate::call_context::{self, CallContext};
use crate::header_fields;
use crate::script::Script;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mlua::{BString, Error, FromLua, FromLuaMulti, IntoLua, IntoLuaMulti, Lua, Result, Table, Value, Vector};
use moongate_sdk::Reply;

/// The kind of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleKind {
    Req = 1,
    Res = 2,
    Body = 3,
    Ws = 4,
    Msg = 5,
}

impl HandleKind {
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
    kind: HandleKind,
    number: u64,
}

impl Handle {
    pub(crate) const fn req(number: u64) -> Self {
        Self { kind: HandleKind::Req, number }
    }
    pub(crate) const fn res(number: u64) -> Self {
        Self { kind: HandleKind::Res, number }
    }
    pub(crate) const fn body(number: u64) -> Self {
        Self { kind: HandleKind::Body, number }
    }
    pub(crate) const fn ws(number: u64) -> Self {
        Self { kind: HandleKind::Ws, number }
    }
    pub(crate) const fn msg(number: u64) -> Self {
        Self { kind: HandleKind::Msg, number }
    }
}

/// An `f32` holds 24 bits exactly; two of them suffice for years of calls.
const HALF: u32 = 24;
const MASK: u64 = (1 << HALF) - 1;

impl IntoLua for Handle {
    #[allow(clippy::cast_precision_loss, reason = "24 bits are exact")]
    fn into_lua(self, _: &Lua) -> Result<Value> {
        let (low, high) = (self.number & MASK, (self.number >> HALF) & MASK);
        Ok(Value::Vector(Vector::new(self.kind as u8 as f32, low as f32, high as f32)))
    }
}

impl FromLua for Handle {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made above, of 24 bits each")]
    fn from_lua(value: Value, _: &Lua) -> Result<Self> {
        if let Value::Vector(vector) = value
            && let Some(kind) = HandleKind::ALL.into_iter().find(|kind| f32::from(*kind as u8) == vector.x())
        {
            return Ok(Self { kind, number: vector.y() as u64 | (vector.z() as u64) << HALF });
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
    metatable.set("__tostring", lua.create_function(|_, handle: Handle| Ok(handle.kind.name()))?)?;
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
    /// Adds a method for handles of these kinds; it gets the context of the handle's call.
    fn add<A: FromLuaMulti, R: IntoLuaMulti>(
        &self,
        name: &'static str,
        kinds: &'static [HandleKind],
        method: impl Fn(&Lua, &mut CallContext<'_, '_, '_>, HandleKind, A) -> Result<R> + Send + 'static,
    ) -> Result<()> {
        let function = self.lua.create_function(move |lua, (handle, arguments): (Handle, A)| {
            if !kinds.contains(&handle.kind) {
                return Err(Error::runtime(format!("`{}` has no method `{name}`", handle.kind.name())));
            }
            call_context::look(handle.number, |context| method(lua, context, handle.kind, arguments))
        })?;
        self.table.set(name, function)
    }
}

/// Methods shared by requests and responses.
fn shared(methods: &Methods<'_>) -> Result<()> {
    use HandleKind::{Req, Res, Ws};
    const HEADS: &[HandleKind] = &[Req, Ws, Res];
    const OPEN: &[HandleKind] = &[Req, Res];
    methods.add("header", HEADS, |lua, context, kind, name: BString| {
        header_fields::get(lua, context.fields(kind)?, &name)
    })?;
    methods.add("headers", HEADS, |lua, context, kind, ()| header_fields::all(lua, context.fields(kind)?))?;
    methods.add("set_header", OPEN, |_, context, kind, (name, value): (BString, BString)| {
        context.change(kind, |fields| header_fields::set(fields, &name, &value))
    })?;
    methods.add("add_header", OPEN, |_, context, kind, (name, value): (BString, BString)| {
        context.change(kind, |fields| header_fields::add(fields, &name, &value))
    })?;
    methods.add("remove_header", OPEN, |_, context, kind, name: BString| {
        context.change(kind, |fields| header_fields::remove(fields, &name))
    })?;
    methods.add("respond", OPEN, |_, context, _, arguments| respond(context, arguments))
}

/// `respond(status, body, headers)`.
fn respond(
    context: &mut CallContext<'_, '_, '_>,
    (status, body, headers): (u16, Option<BString>, Option<Table>),
) -> Result<()> {
    if !context.phase.may_respond() {
        return Err(Error::runtime(format!("`respond` is not available in {}", context.phase.name())));
    }
    let headers = headers.as_ref().map_or_else(|| Ok(HeaderMap::new()), header_fields::from_table)?;
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(Vec::from(body)));
    context.outcome.reply = Some(Box::new(Reply { status: final_status(status)?, headers, body }));
    Ok(())
}

/// A status of a final response.
fn final_status(status: u16) -> Result<StatusCode> {
    match StatusCode::from_u16(status) {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err(Error::runtime(format!("{status} is not a status from 200 to 599"))),
    }
}
