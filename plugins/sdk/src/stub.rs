//! TEMPORARY stand-ins, replaced by the real reader (another developer writes it). Do not rely on anything but the signatures.
use crate::*;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use std::borrow::Cow;

impl Value {
    /// Reads the value into a serde type; problems carry places, all at once.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        serde_json::from_value(self.json()).map_err(|e| Problem::new(e.to_string()).at(&self.place).into())
    }
    fn json(&self) -> serde_json::Value {
        match &self.kind {
            ValueKind::Null => serde_json::Value::Null,
            ValueKind::Scalar { text, quoted: false } => {
                serde_json::from_str(text).unwrap_or_else(|_| text.clone().into())
            }
            ValueKind::Scalar { text, .. } => text.clone().into(),
            ValueKind::List(items) => items.iter().map(Self::json).collect(),
            ValueKind::Map(items) => {
                serde_json::Value::Object(items.iter().map(|(k, v)| (k.text.clone(), v.json())).collect())
            }
        }
    }
}
impl Place {
    /// A place for tests.
    pub fn nowhere() -> Place {
        Place { file: "test".into(), line: 1, column: 1, width: 1, path: "".into() }
    }
}
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Placed { value: T::deserialize(d)?, place: Place::nowhere() })
    }
}
macro_rules! text_unit {
    ($t:ident, $parse:expr) => {
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                $parse(&text).ok_or_else(|| serde::de::Error::custom("bad unit"))
            }
        }
        impl schemars::JsonSchema for $t {
            fn schema_name() -> Cow<'static, str> {
                stringify!($t).into()
            }
            fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
                String::json_schema(g)
            }
        }
    };
}
text_unit!(Period, |t: &str| {
    let n = t.trim_end_matches(char::is_alphabetic);
    let v: u64 = n.parse().ok()?;
    Some(Period(match &t[n.len()..] {
        "ms" => std::time::Duration::from_millis(v),
        "s" => std::time::Duration::from_secs(v),
        "m" => std::time::Duration::from_secs(60 * v),
        "h" => std::time::Duration::from_secs(3600 * v),
        _ => return None,
    }))
});
text_unit!(Size, |t: &str| {
    let n = t.trim_end_matches(char::is_alphabetic);
    let v: u64 = n.parse().ok()?;
    Some(Size(match &t[n.len()..] {
        "" | "B" => v,
        "KiB" => v << 10,
        "MiB" => v << 20,
        "GiB" => v << 30,
        _ => return None,
    }))
});
impl<T: schemars::JsonSchema> schemars::JsonSchema for Placed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(g)
    }
}
