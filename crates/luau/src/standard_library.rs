//! Libraries of scripts besides Luau's own: `logger`, `json`, `base64`, `crypto`, `time` and `call`.

use crate::cpu_limit::Clock;
use crate::http_call;
use crate::json;
use crate::script::Script;
use crate::script_error;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use log::Level;
use mlua::{BString, Error, Lua, Result, Table, Variadic};
use sha2::{Digest, Sha256, Sha512};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Luau searches a plain text without an interrupt, in a time that grows with both lengths: hours for megabytes of
/// the same letter. It moves a table's range without one too: minutes for two billion empty slots. Other long
/// operations check the clock.
const PATIENCE: &str = r#"
local find, split = string.find, string.split
local function check(text, sought)
    if type(sought) == "string" and #sought > 64 and #tostring(text) * #sought > 1e8 then
        error("these texts are too long for a search", 3)
    end
end
function string.find(text, sought, ...)
    check(text, sought)
    return find(text, sought, ...)
end
function string.split(text, separator)
    check(text, separator)
    return split(text, separator)
end
local move = table.move
function table.move(from, first, last, ...)
    if not ((tonumber(last) or 0) - (tonumber(first) or 0) <= 1e7) then
        error("this range is too long to move", 2)
    end
    return move(from, first, last, ...)
end
"#;

/// Installs all of it as globals.
pub(crate) fn install(lua: &Lua, script: &Arc<Script>, clock: &Arc<Clock>) -> Result<()> {
    lua.load(PATIENCE).set_name("=string").exec()?;
    let globals = lua.globals();
    globals.set("logger", logger(lua, script)?)?;
    globals.set("print", log_function(lua, script, Level::Info)?)?;
    globals.set("json", json::library(lua, clock)?)?;
    globals.set("base64", base64(lua)?)?;
    globals.set("crypto", crypto(lua)?)?;
    globals.set("time", time(lua)?)?;
    if script.waits {
        globals.set("call", http_call::function(lua)?)?;
    }
    Ok(())
}

fn logger(lua: &Lua, script: &Arc<Script>) -> Result<Table> {
    let table = lua.create_table()?;
    for (name, level) in
        [("debug", Level::Debug), ("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)]
    {
        table.set(name, log_function(lua, script, level)?)?;
    }
    Ok(table)
}

fn log_function(lua: &Lua, script: &Arc<Script>, level: Level) -> Result<mlua::Function> {
    let script = Arc::clone(script);
    lua.create_function(move |_, words: Variadic<mlua::Value>| {
        if level > log::max_level() {
            return Ok(());
        }
        let Some(left_out) = script.lines.admit() else { return Ok(()) };
        if left_out > 0 {
            log::warn!(script = &*script.name, lines = left_out; "script log lines dropped");
        }
        let mut text = String::new();
        for (at, word) in words.iter().enumerate() {
            let word = word.to_string()?;
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{word}", if at == 0 { "" } else { " " });
        }
        let said = script_error::cut(&text);
        log::log!(level, script = &*script.name, said = said.as_str(); "script logged");
        Ok(())
    })
}

fn base64(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.set("encode", lua.create_function(|_, data: BString| Ok(STANDARD.encode(&**data)))?)?;
    table.set("encode_url", lua.create_function(|_, data: BString| Ok(URL_SAFE_NO_PAD.encode(&**data)))?)?;
    // Both alphabets, with or without padding: external input uses either.
    let decode = |_: &Lua, text: BString| {
        let plain = text.iter().copied().filter(|byte| *byte != b'=');
        let plain: Vec<u8> = plain
            .map(|b| {
                if b == b'+' {
                    b'-'
                } else if b == b'/' {
                    b'_'
                } else {
                    b
                }
            })
            .collect();
        Ok(URL_SAFE_NO_PAD.decode(plain).ok().map(BString::from))
    };
    table.set("decode", lua.create_function(decode)?)?;
    Ok(table)
}

fn crypto(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.set("sha256", lua.create_function(|_, data: BString| Ok(hex(&Sha256::digest(&**data))))?)?;
    table.set("sha512", lua.create_function(|_, data: BString| Ok(hex(&Sha512::digest(&**data))))?)?;
    let hmac = |_: &Lua, (key, data): (BString, BString)| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(Error::external)?;
        mac.update(&data);
        Ok(hex(&mac.finalize().into_bytes()))
    };
    table.set("hmac_sha256", lua.create_function(hmac)?)?;
    // Constant time: it does not reveal the position of the difference.
    let equal = |_: &Lua, (one, other): (BString, BString)| {
        let differ = one.iter().zip(other.iter()).fold(0, |differ, (a, b)| differ | (a ^ b));
        Ok(one.len() == other.len() && std::hint::black_box(differ) == 0)
    };
    table.set("equal", lua.create_function(equal)?)?;
    Ok(table)
}

fn time(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let now =
        |_: &Lua, ()| Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    table.set("now", lua.create_function(now)?)?;
    Ok(table)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
