//! Header fields for scripts: validated names and values, no access to the gateway's own fields, and a limit on
//! their number.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use mlua::{BString, Error, Lua, Result, Table, Value};
use moongate_sdk::{Headers, is_reserved_header};

/// The number of fields of a head after which a script can add no more.
const MOST: usize = 200;

/// The longest value, in bytes.
const LONGEST: usize = 32 << 10;

/// The first value of a field.
pub(crate) fn get(lua: &Lua, map: &HeaderMap, name: &[u8]) -> Result<Value> {
    // An invalid name matches no field.
    let value = HeaderName::from_bytes(name).ok().and_then(|name| map.get(name));
    match value {
        Some(value) => lua.create_string(value.as_bytes()).map(Value::String),
        None => Ok(Value::Nil),
    }
}

/// All fields by name; several of one name are joined as RFC 9110 §5.3 allows.
pub(crate) fn all(lua: &Lua, map: &HeaderMap) -> Result<Table> {
    let table = lua.create_table_with_capacity(0, map.keys_len())?;
    for name in map.keys() {
        let mut values = map.get_all(name).iter();
        let first = values.next().map_or(&b""[..], HeaderValue::as_bytes);
        match map.get_all(name).iter().nth(1) {
            None => table.raw_set(name.as_str(), lua.create_string(first)?)?,
            Some(_) => {
                let joined = values.fold(first.to_vec(), |mut joined, value| {
                    joined.extend_from_slice(b", ");
                    joined.extend_from_slice(value.as_bytes());
                    joined
                });
                table.raw_set(name.as_str(), lua.create_string(joined)?)?;
            }
        }
    }
    Ok(table)
}

/// Sets a field.
pub(crate) fn set(headers: &mut Headers<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    let (name, value) = (settable_name(name)?, field_value(value)?);
    check_count(headers)?;
    headers.set(&name, value);
    Ok(())
}

/// Adds a field.
pub(crate) fn add(headers: &mut Headers<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    let (name, value) = (repeatable(name)?, field_value(value)?);
    check_count(headers)?;
    headers.append(&name, value);
    Ok(())
}

/// Removes a field.
pub(crate) fn remove(headers: &mut Headers<'_>, name: &[u8]) -> Result<()> {
    headers.remove(&repeatable(name)?);
    Ok(())
}

/// Fields from a table of names and values; a list of values becomes several fields.
pub(crate) fn from_table(table: &Table) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for pair in table.pairs::<BString, Value>() {
        let (name, value) = pair?;
        let name = settable_name(&name)?;
        match value {
            Value::Table(values) => {
                for value in values.sequence_values::<BString>() {
                    append(&mut map, &name, &value?)?;
                }
            }
            Value::String(value) => append(&mut map, &name, &value.as_bytes())?,
            Value::Integer(value) => append(&mut map, &name, value.to_string().as_bytes())?,
            Value::Number(value) => append(&mut map, &name, value.to_string().as_bytes())?,
            other => {
                let kind = other.type_name();
                return Err(Error::runtime(format!("`{name}` must be a string or a list, not a {kind}")));
            }
        }
    }
    Ok(map)
}

fn append(map: &mut HeaderMap, name: &HeaderName, value: &[u8]) -> Result<()> {
    check_count(map)?;
    map.append(name, field_value(value)?);
    Ok(())
}

fn check_count(map: &HeaderMap) -> Result<()> {
    if map.len() >= MOST {
        return Err(Error::runtime(format!("there are {MOST} fields already")));
    }
    Ok(())
}

/// A field that a script may set.
fn settable_name(name: &[u8]) -> Result<HeaderName> {
    let Ok(field) = HeaderName::from_bytes(name) else {
        return Err(Error::runtime(format!("`{}` is not a field name", String::from_utf8_lossy(name))));
    };
    if is_reserved_header(&field) {
        return Err(Error::runtime(format!("the field `{field}` is the gateway's own")));
    }
    Ok(field)
}

/// A field that may be missing, or occur more than once.
fn repeatable(name: &[u8]) -> Result<HeaderName> {
    match settable_name(name)? {
        header::HOST => Err(Error::runtime("`host` cannot be added or removed; use `set_header`")),
        name => Ok(name),
    }
}

fn field_value(value: &[u8]) -> Result<HeaderValue> {
    if value.len() > LONGEST {
        return Err(Error::runtime(format!("a field's value of {} bytes is too long", value.len())));
    }
    HeaderValue::from_bytes(value)
        .map_err(|_| Error::runtime("the value has a character that is invalid in a header field"))
}
