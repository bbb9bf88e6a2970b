//! `call { … }`: a script's own HTTP request. The calling coroutine is suspended until the response has arrived; no
//! lock is held meanwhile.

use crate::call_context;
use crate::header_fields;
use crate::phase::Phase;
use bytes::Bytes;
use http::{HeaderMap, Method};
use mlua::{BString, Error, Function, Lua, Result, Table, Value};
use moongate_sdk::{Call, CallError, CallResponse, CallTarget};
use std::time::Duration;

/// The default timeout of a call, in seconds.
const TIMEOUT: f64 = 5.0;
/// The maximum timeout, in seconds.
const LONGEST: f64 = 60.0;

/// The options of `call`.
const OPTIONS: [&str; 7] = ["upstream", "url", "method", "path", "headers", "body", "timeout"];

/// The global `call`. It yields without a value, and resumes with a response, or with `nil` and an error message.
pub(crate) fn function(lua: &Lua) -> Result<Function> {
    let begin = lua.create_function(|_, options: Table| begin(&options))?;
    let source = "local begin, yield = ... return function(options) begin(options) return yield() end";
    let sleep: Function = lua.globals().get::<Table>("coroutine")?.get("yield")?;
    lua.load(source).set_name("=call").call((begin, sleep))
}

fn begin(options: &Table) -> Result<()> {
    let call = read(options)?;
    let noted = call_context::current(|context| {
        if !context.phase.may_wait() {
            return Err(misplaced());
        }
        if context.outcome.call.is_some() {
            return Err(in_a_coroutine());
        }
        context.outcome.call = Some(Box::new(call));
        Ok(())
    });
    noted.unwrap_or_else(|| Err(misplaced()))
}

fn misplaced() -> Error {
    let (request, response) = (Phase::RequestHeaders.name(), Phase::ResponseHeaders.name());
    Error::runtime(format!("`call` can wait in {request} and {response} only"))
}

/// The error for a call outside of the script's main coroutine.
pub(crate) fn in_a_coroutine() -> Error {
    Error::runtime("`call` cannot be used in a coroutine of the script's own")
}

fn read(options: &Table) -> Result<Call> {
    for pair in options.pairs::<String, Value>() {
        let (name, _) = pair?;
        if !OPTIONS.contains(&name.as_str()) {
            let known = OPTIONS.join(", ");
            return Err(Error::runtime(format!("`call` has no option `{name}`; it has {known}")));
        }
    }
    let to = match (options.get::<Option<String>>("upstream")?, options.get::<Option<String>>("url")?) {
        (Some(name), None) => CallTarget::Upstream(name),
        (None, Some(url)) => CallTarget::Url(url),
        _ => return Err(Error::runtime("`call` needs either `upstream` or `url`")),
    };
    let method = match options.get::<Option<BString>>("method")? {
        None => Method::GET,
        Some(method) => Method::from_bytes(&method).map_err(|_| Error::runtime("this is not a method"))?,
    };
    let target = options.get::<Option<String>>("path")?.unwrap_or_else(|| "/".to_owned());
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::runtime("the `path` of a call begins with `/` and has only visible characters"));
    }
    let headers = options.get::<Option<Table>>("headers")?;
    let headers = headers.as_ref().map_or_else(|| Ok(HeaderMap::new()), header_fields::from_table)?;
    let body = options.get::<Option<BString>>("body")?.map(|body| Bytes::from(Vec::from(body)));
    let timeout = options.get::<Option<f64>>("timeout")?.unwrap_or(TIMEOUT);
    if !(0.001..=LONGEST).contains(&timeout) {
        return Err(Error::runtime(format!("the `timeout` of a call is from 0.001 to {LONGEST} seconds")));
    }
    let timeout = Duration::from_secs_f64(timeout);
    Ok(Call { to, method, target, headers, body: body.unwrap_or_default(), timeout, limit: 0 })
}

/// The results of `call`.
pub(crate) fn results(
    lua: &Lua,
    result: &std::result::Result<CallResponse, CallError>,
) -> Result<(Value, Option<String>)> {
    match result {
        Err(error) => Ok((Value::Nil, Some(error.to_string()))),
        Ok(received) => {
            let response = lua.create_table()?;
            response.set("status", received.status.as_u16())?;
            response.set("headers", header_fields::all(lua, &received.headers)?)?;
            response.set("body", lua.create_string(&received.body)?)?;
            Ok((Value::Table(response), None))
        }
    }
}
