//! Methods of the request `req`, and of `ws` for its handshake.

use super::{HandleKind, Methods};
use crate::call_context::CallContext;
use crate::phase::Phase;
use http::{HeaderMap, Method};
use mlua::{BString, Error, Lua, Result, Table};
use moongate_sdk::{Headers, Tls};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

const READERS: &[HandleKind] = &[HandleKind::Req, HandleKind::Ws];
const WRITERS: &[HandleKind] = &[HandleKind::Req];

/// The longest note, in bytes.
const LONGEST_NOTE: usize = 1024;
/// The number of notes of a request after which a script can add no more.
const MOST_NOTES: usize = 32;
/// The number of different note keys of all scripts in a process.
const MOST_KEYS: usize = 256;

pub(super) fn methods(methods: &Methods<'_>) -> Result<()> {
    words(methods)?;
    methods.add("id", READERS, |lua, context, _, ()| lua.create_string(context.exchange.request_id()))?;
    methods
        .add("note", READERS, |_, context, _, (key, value): (String, String)| note(context, &key, value))?;
    methods.add("set_method", WRITERS, |_, context, _, method: BString| {
        let method = Method::from_bytes(&method).map_err(|_| Error::runtime("this is not a method"))?;
        context.open()?.exchange.set_method(method);
        Ok(())
    })?;
    methods.add("set_path", WRITERS, |_, context, _, path: String| {
        if path.contains('?') {
            return Err(Error::runtime("a path has no `?`; `set_target` takes path and query"));
        }
        let query = context.exchange.query().map(|query| format!("?{query}")).unwrap_or_default();
        set_target(context, &format!("{path}{query}"))
    })?;
    methods.add("set_target", WRITERS, |_, context, _, target: String| set_target(context, &target))?;
    methods.add("skip_body", &[HandleKind::Req, HandleKind::Res], |_, context, kind, ()| {
        match kind {
            HandleKind::Res if context.phase == Phase::ResponseHeaders => context.exchange.leave_bodies(),
            HandleKind::Req if context.phase == Phase::RequestHeaders => context.outcome.skip_body = true,
            _ => return Err(Error::runtime("a body can be passed only in the phase of its head")),
        }
        Ok(())
    })
}

/// `ctx`, for scripts that use it.
pub(super) fn ctx_method(methods: &Methods<'_>) -> Result<()> {
    methods.add("ctx", READERS, |lua, context, _, ()| ctx(lua, context))
}

/// The parts of the request as single values.
fn words(methods: &Methods<'_>) -> Result<()> {
    methods.add("method", READERS, |lua, context, _, ()| {
        lua.create_string(context.exchange.method().as_str())
    })?;
    methods.add("path", READERS, |lua, context, _, ()| lua.create_string(context.exchange.matched_path()))?;
    methods.add("raw_path", READERS, |lua, context, _, ()| {
        lua.create_string(context.exchange.request.raw_path)
    })?;
    methods
        .add("forwarded_path", READERS, |lua, context, _, ()| lua.create_string(context.exchange.path()))?;
    methods.add("query", READERS, |lua, context, _, ()| {
        context.exchange.query().map(|query| lua.create_string(query)).transpose()
    })?;
    methods.add("host", READERS, |lua, context, _, ()| lua.create_string(context.exchange.request.host))?;
    methods
        .add("scheme", READERS, |lua, context, _, ()| lua.create_string(context.exchange.request.scheme))?;
    methods.add("tls", READERS, |lua, context, _, ()| {
        context.exchange.request.tls.map(|tls| tls_table(lua, tls)).transpose()
    })?;
    methods.add("client_ip", READERS, |_, context, _, ()| Ok(context.exchange.request.client.to_string()))?;
    methods.add("is_websocket", READERS, |_, context, _, ()| Ok(context.exchange.request.is_websocket))?;
    methods.add("is_grpc", READERS, |_, context, _, ()| Ok(context.exchange.request.is_grpc))?;
    methods.add("route", READERS, |lua, context, _, ()| lua.create_string(context.exchange.request.route))?;
    methods
        .add("listener", READERS, |lua, context, _, ()| lua.create_string(context.exchange.request.listener))
}

/// The client's TLS connection and certificate.
fn tls_table(lua: &Lua, tls: &Tls) -> Result<Table> {
    let table = lua.create_table()?;
    table.set("version", tls.version)?;
    table.set("cipher", tls.cipher)?;
    table.set("server_name", tls.server_name.as_deref())?;
    if let Some(client) = &tls.client {
        let shown = lua.create_table()?;
        shown.set("subject", &*client.subject)?;
        shown.set("issuer", &*client.issuer)?;
        shown.set("serial", &*client.serial)?;
        shown.set("fingerprint", &*client.fingerprint)?;
        shown.set("names", lua.create_sequence_from(client.names.iter().map(|name| &**name))?)?;
        table.set("client", shown)?;
    }
    Ok(table)
}

impl CallContext<'_, '_, '_> {
    /// The fields of the handle's request or response, read-only.
    pub(super) fn fields(&mut self, kind: HandleKind) -> Result<&HeaderMap> {
        match kind {
            HandleKind::Res => Ok(&self.response()?.headers),
            _ => Ok(&self.exchange.headers),
        }
    }

    /// The same, mutable.
    pub(super) fn change(
        &mut self,
        kind: HandleKind,
        change: impl FnOnce(&mut Headers<'_>) -> Result<()>,
    ) -> Result<()> {
        match kind {
            HandleKind::Res => change(&mut self.response()?.headers),
            _ => change(&mut self.open()?.exchange.headers),
        }
    }

    /// The context, while the request can still be changed.
    fn open(&mut self) -> Result<&mut Self> {
        if self.phase.before_the_backend() {
            return Ok(self);
        }
        Err(Error::runtime(format!("the request can no longer be changed in {}", self.phase.name())))
    }
}

fn set_target(context: &mut CallContext<'_, '_, '_>, target: &str) -> Result<()> {
    context.open()?.exchange.set_target(target).map_err(|bad| Error::runtime(bad.to_string()))
}

/// The request's own table.
fn ctx(lua: &Lua, context: &mut CallContext<'_, '_, '_>) -> Result<Table> {
    if let Some(table) = &context.ctx {
        return Ok(table.clone());
    }
    let table = lua.create_table()?;
    Ok(context.ctx.insert(table).clone())
}

fn note(context: &mut CallContext<'_, '_, '_>, key: &str, value: String) -> Result<()> {
    if value.len() > LONGEST_NOTE {
        return Err(Error::runtime(format!("a note of {} bytes is too long", value.len())));
    }
    if context.exchange.running.notes().len() >= MOST_NOTES {
        return Err(Error::runtime(format!("this request has {MOST_NOTES} notes already")));
    }
    context.exchange.note(lasting(key)?, value);
    Ok(())
}

/// The key with the lifetime of the process: the access log has few keys, the same for every request.
fn lasting(key: &str) -> Result<&'static str> {
    static KEYS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = keys.get(key) {
        return Ok(known);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
        return Err(Error::runtime("a note's key has 1 to 64 letters, digits, `_`, `-` and `.`"));
    }
    if keys.len() >= MOST_KEYS {
        return Err(Error::runtime(format!("{MOST_KEYS} different keys of notes are in use already")));
    }
    let key: &'static str = Box::leak(key.into());
    keys.insert(key);
    Ok(key)
}
