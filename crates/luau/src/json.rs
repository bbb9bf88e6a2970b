//! JSON to Lua values and back, without an intermediate copy: the script's limits apply meanwhile.
//!
//! `null` is `json.null`, because a table cannot hold `nil`. A table is an array if its keys are 1 to n. An empty
//! one is an object unless it was decoded from `[]`.

use crate::cpu_limit::Clock;
use mlua::{Error, Lua, Result, Table, Value};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use std::fmt;

/// The maximum nesting of arrays and objects in output; input has serde_json's own limit.
const DEEPEST: usize = 100;

/// The registry key of the metatable that marks decoded arrays.
const ARRAY: &str = "moongate.array";

/// The table `json`.
pub(crate) fn library(lua: &Lua, clock: &std::sync::Arc<Clock>) -> Result<Table> {
    let array = lua.create_table()?;
    array.set("__metatable", false)?;
    array.set_readonly(true);
    lua.set_named_registry_value(ARRAY, array)?;
    let table = lua.create_table()?;
    table.set("null", Value::NULL)?;
    let asked = clock.clone();
    let decode = move |lua: &Lua, text: mlua::BString| {
        let mut reader = serde_json::Deserializer::from_slice(&text);
        let seed = Seed { lua, clock: &asked };
        let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map_err(|error| Error::runtime(format!("this is not JSON: {error}")))
    };
    table.set("decode", lua.create_function(decode)?)?;
    let asked = clock.clone();
    let encode = move |lua: &Lua, value: Value| {
        let array = lua.named_registry_value::<Table>(ARRAY)?;
        let writer = JsonWriter { value: &value, array: &array, clock: &asked, depth: 0 };
        serde_json::to_string(&writer).map_err(|error| Error::runtime(error.to_string()))
    };
    table.set("encode", lua.create_function(encode)?)?;
    Ok(table)
}

/// A read-only value.
pub(crate) fn constant(lua: &Lua, value: &serde_json::Value) -> Result<Value> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Boolean(*truth),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table()?;
            for item in items {
                table.push(constant(lua, item)?)?;
            }
            table.set_readonly(true);
            Value::Table(table)
        }
        Json::Object(pairs) => {
            let table = lua.create_table()?;
            for (key, item) in pairs {
                table.set(key.as_str(), constant(lua, item)?)?;
            }
            table.set_readonly(true);
            Value::Table(table)
        }
    })
}

/// The largest copy of a plain value, in bytes of text and values of [`PLAIN_VALUE`] bytes: a table that is in many places
/// is copied for each of them.
const LARGEST_PLAIN: usize = 256 << 10;
const PLAIN_VALUE: usize = 16;

/// A copy of a value that has only plain ones: `json.null`, booleans, finite numbers, text, and tables with the keys 1 to
/// n or of text.
pub(crate) fn plain(lua: &Lua, value: &Value) -> Result<serde_json::Value> {
    let mut left = LARGEST_PLAIN;
    plain_below(&lua.named_registry_value::<Table>(ARRAY)?, value, 0, &mut left)
}

fn plain_below(array: &Table, value: &Value, depth: usize, left: &mut usize) -> Result<serde_json::Value> {
    use serde_json::Value as Json;
    let refused = |what: &str| Error::runtime(format!("a {what} is no plain value"));
    let text = |text: &mlua::LuaString, left: &mut usize| {
        let text = text.to_str()?.to_owned();
        *left = left.checked_sub(text.len()).ok_or_else(|| refused("longer text"))?;
        Ok::<_, Error>(text)
    };
    *left = left.checked_sub(PLAIN_VALUE).ok_or_else(|| refused("larger table"))?;
    Ok(match value {
        _ if depth > DEEPEST => return Err(refused("deeper table")),
        Value::Boolean(truth) => Json::Bool(*truth),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => Json::Number(
            serde_json::Number::from_f64(*number).ok_or_else(|| refused("number without a value"))?,
        ),
        Value::String(own) => Json::String(text(own, left)?),
        other if *other == Value::NULL => Json::Null,
        Value::Table(table) => {
            let is_array = table.metatable().is_some_and(|its| its == *array);
            if !is_array && table.metatable().is_some() {
                return Err(refused("table with a metatable"));
            }
            let length = table.raw_len();
            if length > 0 || (is_array && table.is_empty()) {
                if table.pairs::<Value, Value>().count() != length {
                    return Err(refused("table with other keys"));
                }
                let mut item = |key| plain_below(array, &table.raw_get(key)?, depth + 1, left);
                let items = (1..=length).map(&mut item);
                return Ok(Json::Array(items.collect::<Result<_>>()?));
            }
            let mut pairs = serde_json::Map::new();
            for pair in table.pairs::<Value, Value>() {
                let (Value::String(key), item) = pair? else { return Err(refused("table with other keys")) };
                pairs.insert(text(&key, left)?, plain_below(array, &item, depth + 1, left)?);
            }
            Json::Object(pairs)
        }
        other => return Err(refused(other.type_name())),
    })
}

/// The table of [`plain`], which the script may change.
pub(crate) fn table(lua: &Lua, value: &serde_json::Value) -> Result<Table> {
    match value_of(lua, value)? {
        Value::Table(table) => Ok(table),
        _ => Err(Error::runtime("the saved `ctx` is no table")),
    }
}

fn value_of(lua: &Lua, value: &serde_json::Value) -> Result<Value> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::Null => Value::NULL,
        Json::Bool(truth) => Value::Boolean(*truth),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table()?;
            for item in items {
                table.raw_push(value_of(lua, item)?)?;
            }
            if items.is_empty() {
                table.set_metatable(Some(lua.named_registry_value::<Table>(ARRAY)?))?;
            }
            Value::Table(table)
        }
        Json::Object(pairs) => {
            let table = lua.create_table()?;
            for (key, item) in pairs {
                table.raw_set(key.as_str(), value_of(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Seed<'l> {
    lua: &'l Lua,
    clock: &'l Clock,
}

impl Seed<'_> {
    fn check_time<E: de::Error>(&self) -> std::result::Result<(), E> {
        if self.clock.tick() { Err(E::custom("timed out")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_bool<E>(self, truth: bool) -> std::result::Result<Value, E> {
        Ok(Value::Boolean(truth))
    }

    // Luau has one number type; beyond 2^53 the nearest one is used.
    #[allow(clippy::cast_precision_loss, reason = "that is what Luau's numbers are")]
    fn visit_u64<E>(self, number: u64) -> std::result::Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss, reason = "that is what Luau's numbers are")]
    fn visit_i64<E>(self, number: i64) -> std::result::Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Value, E> {
        self.lua.create_string(text).map(Value::String).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let table = self.lua.create_table().map_err(de::Error::custom)?;
        while let Some(item) = items.next_element_seed(self)? {
            self.check_time()?;
            table.raw_push(item).map_err(de::Error::custom)?;
        }
        let array = self.lua.named_registry_value::<Table>(ARRAY).map_err(de::Error::custom)?;
        table.set_metatable(Some(array)).map_err(de::Error::custom)?;
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> std::result::Result<Value, A::Error> {
        let table = self.lua.create_table().map_err(de::Error::custom)?;
        while let Some((key, value)) = pairs.next_entry_seed(self, self)? {
            self.check_time()?;
            table.raw_set(key, value).map_err(de::Error::custom)?;
        }
        Ok(Value::Table(table))
    }
}

/// Writes one value.
struct JsonWriter<'v> {
    value: &'v Value,
    array: &'v Table,
    clock: &'v Clock,
    depth: usize,
}

impl JsonWriter<'_> {
    fn inner<'v>(&'v self, value: &'v Value) -> JsonWriter<'v> {
        JsonWriter { value, array: self.array, clock: self.clock, depth: self.depth + 1 }
    }

    fn table<S: Serializer>(&self, serializer: S, table: &Table) -> std::result::Result<S::Ok, S::Error> {
        if self.depth >= DEEPEST {
            return Err(S::Error::custom("a table is nested too deeply for JSON, or contains itself"));
        }
        let length = table.raw_len();
        let pairs = || table.pairs::<Value, Value>();
        let array = length > 0 && pairs().count() == length;
        if array || (length == 0 && table.metatable().as_ref() == Some(self.array)) {
            let mut list = serializer.serialize_seq(Some(length))?;
            for at in 1..=length {
                let item = table.raw_get(at).map_err(S::Error::custom)?;
                list.serialize_element(&self.inner(&item))?;
            }
            return list.end();
        }
        let mut map = serializer.serialize_map(None)?;
        for pair in pairs() {
            let (key, value) = pair.map_err(S::Error::custom)?;
            let key = key.as_string().map(|key| key.to_string_lossy());
            let key = key.ok_or_else(|| S::Error::custom("the keys of an object must be strings"))?;
            map.serialize_entry(&key, &self.inner(&value))?;
        }
        map.end()
    }
}

impl Serialize for JsonWriter<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.clock.tick() {
            return Err(S::Error::custom("timed out"));
        }
        match self.value {
            Value::Boolean(truth) => serializer.serialize_bool(*truth),
            Value::Integer(number) => serializer.serialize_i64(*number),
            Value::Number(number) => number_of(serializer, *number),
            Value::String(text) => match text.to_str() {
                Ok(text) => serializer.serialize_str(&text),
                Err(_) => Err(S::Error::custom("a string that is not UTF-8 cannot be JSON")),
            },
            Value::Table(table) => self.table(serializer, table),
            value if value.is_nil() || value.is_null() => serializer.serialize_unit(),
            other => Err(S::Error::custom(format!("a {} cannot be JSON", other.type_name()))),
        }
    }
}

/// Whole numbers are written without a fraction.
fn number_of<S: Serializer>(serializer: S, number: f64) -> std::result::Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !number.is_finite() {
        return Err(S::Error::custom("a number that is not finite cannot be JSON"));
    }
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
        return serializer.serialize_i64(number as i64);
    }
    serializer.serialize_f64(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::sync::Arc;

    fn saved(source: &str) -> Result<serde_json::Value> {
        let lua = Lua::new();
        let clock = Arc::new(Clock::new(std::time::Duration::from_secs(60)));
        lua.globals().set("json", library(&lua, &clock)?)?;
        let value: Value = lua.load(source).eval()?;
        let json = plain(&lua, &value)?;
        assert_eq!(plain(&lua, &Value::Table(table(&lua, &json)?))?, json);
        Ok(json)
    }

    #[test]
    fn plain_values_are_copied_and_others_refused() {
        let json = saved(r#"{ n = 1.5, t = "a", list = { true, json.null, {} }, none = json.decode("[]") }"#)
            .unwrap();
        let expected = serde_json::json!({ "n": 1.5, "t": "a", "list": [true, null, {}], "none": [] });
        assert_eq!(json, expected);
        for source in [
            "{ f = print }",
            "{ [1] = 1, x = 2 }",
            "{ [3] = 1 }",
            "{ n = 0 / 0 }",
            r#"{ t = "\255" }"#,
            "setmetatable({}, {})",
            "(function() local t = {} t.t = t return t end)()",
            r#"{ t = string.rep("a", 300000) }"#,
        ] {
            assert!(saved(source).is_err(), "{source}");
        }
    }

    #[test]
    fn a_table_in_many_places_ends_at_the_limit() {
        assert!(
            saved("(function() local t = {} for _ = 1, 60 do t = { a = t, b = t } end return t end)()")
                .is_err()
        );
    }
}
