//! The key `access_log`: format, fields and sampling of the lines, and where they go.

use super::one_or_many::OneOrMany;
use crate::telemetry::access_log::Field;
use moongate_config::{Place, Placed, Problem, Size, raise};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

/// The access log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Writes each line as `json` or `combined` (Apache's format), or writes no access log (`off`). Default json.
    pub format: LogFormat,
    /// Writes these fields of a JSON line, in this order. Default all fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Placed<Vec<Placed<Field>>>>,
    /// Writes each line by this template instead of a `format`, for example `{client} {method} {status}`. `{{` and `}}`
    /// are literal braces. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Placed<String>>,
    /// Writes only a share of the lines. The first rule that matches a line decides; a line without a rule is written.
    /// Default every line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<SampleRule>,
    /// Writes to `stdout`, `stderr` or a file. A relative path starts at the working directory of the process. Each
    /// reload and SIGUSR1 reopen the file. Default stdout.
    pub path: Placed<String>,
    /// Buffers up to this many bytes for the writer. Lines beyond it are dropped and counted. Default 1MiB.
    pub buffer: Size,
}

/// The shape of an access-log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Apache's combined format.
    Combined,
    /// No access log.
    Off,
}

/// A share of the lines of some routes and statuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleRule {
    /// Matches lines of this route, or of any in a list. Default every route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<OneOrMany<Placed<String>>>,
    /// Matches lines with this status, as `404`, `200-299` or `2xx`, or with any in a list. Default every status of a
    /// request that did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<OneOrMany<StatusRange>>,
    /// Writes this share of the matching lines, from 0 to 1. Required.
    pub ratio: SampleShare,
}

/// Statuses: one, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SampleShare(pub f64);

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            fields: None,
            template: None,
            sample: Vec::new(),
            path: Placed { value: "stdout".to_owned(), place: Place::nowhere() },
            buffer: Size(1 << 20),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename = "$shape a format (json, combined or off), or a mapping")]
enum AccessLogWritten {
    #[serde(rename = "scalar")]
    Format(LogFormat),
    #[serde(rename = "map")]
    Full(Box<AccessLog>),
}

/// Reads `access_log: off` as well as the mapping.
pub(super) fn access_log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessLog, D::Error> {
    Ok(match Option::<AccessLogWritten>::deserialize(deserializer)? {
        Some(AccessLogWritten::Format(format)) => AccessLog { format, ..AccessLog::default() },
        Some(AccessLogWritten::Full(log)) => *log,
        None => AccessLog::default(),
    })
}

pub(super) fn access_log_schema(generator: &mut SchemaGenerator) -> Schema {
    let forms = [generator.subschema_for::<LogFormat>(), generator.subschema_for::<AccessLog>()];
    json_schema!({ "anyOf": forms })
}

impl StatusRange {
    fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?;
            return Some(Self(class * 100..=class * 100 + 99));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && (100..=599).contains(&first) && last <= 599).then_some(Self(first..=last))
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = StatusRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status such as 404, a range such as 200-299, or a class such as 2xx")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<StatusRange, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<StatusRange, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusRange, E> {
        StatusRange::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, last) = (*self.0.start(), *self.0.end());
        if first == last {
            return serializer.serialize_u16(first);
        }
        if first.is_multiple_of(100) && last == first + 99 {
            return serializer.collect_str(&format_args!("{}xx", first / 100));
        }
        serializer.collect_str(&format_args!("{first}-{last}"))
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A status such as 404, a range such as 200-299, or a class such as 2xx.",
            "type": ["integer", "string"],
            "pattern": "^[1-5]([0-9]{2}(-[1-5][0-9]{2})?|xx)$",
        })
    }
}

impl<'de> Deserialize<'de> for SampleShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if !(0.0..=1.0).contains(&share) {
            return Err(raise(
                Problem::new("the value must be 0 to 1").help("write `0.01` to keep one line of a hundred"),
            ));
        }
        Ok(Self(share))
    }
}

impl JsonSchema for SampleShare {
    fn schema_name() -> Cow<'static, str> {
        "SampleShare".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A number from 0 to 1.", "type": "number", "minimum": 0, "maximum": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::StatusRange;

    #[test]
    fn statuses_are_a_code_a_range_or_a_class() {
        for (text, range) in [
            ("404", Some(404..=404)),
            ("200-299", Some(200..=299)),
            ("400 - 404", Some(400..=404)),
            ("2xx", Some(200..=299)),
            ("1xx", Some(100..=199)),
            ("6xx", None),
            ("0xx", None),
            ("xx", None),
            ("99", None),
            ("600", None),
            ("299-200", None),
            ("500-700", None),
            ("", None),
        ] {
            assert_eq!(StatusRange::parse(text).map(|status| status.0), range, "{text}");
        }
    }
}
