//! TEMPORARY: entries that are a kind's name alone or a mapping; the real one is written with the reader.
use super::model::{KindEntry, PluginEntry};
use serde::{Deserialize, Deserializer};
impl<'de> Deserialize<'de> for KindEntry {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("stub"))
    }
}
impl<'de> Deserialize<'de> for PluginEntry {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("stub"))
    }
}
macro_rules! s {
    ($t:ident) => {
        impl schemars::JsonSchema for $t {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($t).into()
            }
            fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
                String::json_schema(g)
            }
        }
    };
}
s!(KindEntry);
s!(PluginEntry);
