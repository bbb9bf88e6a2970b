//! Durations (`500ms`, `30s`, `1h`) and sizes (`64KiB`, `1MiB`) in the configuration's syntax. The reader decides
//! whether zero is valid.

use crate::{Problem, raise};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time, written `500ms`, `30s`, `5m`, `1h`, `1d`, or a sum as `1h30m`; `0` needs no unit.
///
/// Whole milliseconds, at most 3650 days: adding one to an `Instant` never overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// A number of bytes, written `512`, `64KiB`, `1MiB`, `1GiB`, or in thousands as `64KB` or `1MB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// The units of a period in milliseconds, the largest first.
const PERIOD_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The longest period in milliseconds.
const PERIOD_MAX: u64 = 3650 * 86_400_000;

/// The units of a size in bytes; first those used for output, the largest first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl Period {
    /// A duration in seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A duration in milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl FromStr for Period {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total = 0_u64;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, unit, after) = term(rest).ok_or_else(|| not_a_period(text))?;
            if unit.is_empty() {
                return Err(if after.is_empty() { no_unit(text) } else { not_a_period(text) });
            }
            let factor = factor(&PERIOD_UNITS, unit).ok_or_else(|| unknown_period_unit(text, unit))?;
            let sum = number.checked_mul(factor).and_then(|millis| total.checked_add(millis));
            total = sum.filter(|sum| *sum <= PERIOD_MAX).ok_or_else(|| too_long(text))?;
            rest = after;
        }
        if text.is_empty() { Err(not_a_period(text)) } else { Ok(Self(Duration::from_millis(total))) }
    }
}

impl FromStr for Size {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let Some((number, unit, "")) = term(text) else {
            return Err(Problem::new(format!("`{text}` is not a size")).label("as in `64KiB` or `1MiB`"));
        };
        let factor = factor(&SIZE_UNITS, unit).ok_or_else(|| unknown_size_unit(text, unit))?;
        let bytes = number.checked_mul(factor);
        Ok(Self(bytes.ok_or_else(|| Problem::new(format!("`{text}` exceeds 64 bits")))?))
    }
}

/// The number, the unit and the rest of `1h30m`.
fn term(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, rest))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

fn not_a_period(text: &str) -> Problem {
    let problem = Problem::new(format!("`{text}` is not a duration"));
    // `1.5s` is understood, but whole numbers are clearer.
    let millis =
        text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok()).map(|s| (s * 1000.0).round());
    match millis {
        Some(millis) if (0.0..1e12).contains(&millis) => problem.label(format!("write `{millis:.0}ms`")),
        _ => problem.label("as in `500ms`, `30s`, `5m`, `1h` or `1d`"),
    }
}

fn no_unit(text: &str) -> Problem {
    Problem::new(format!("`{text}` has no unit")).label(format!("write `{text}s` for seconds"))
}

fn unknown_period_unit(text: &str, unit: &str) -> Problem {
    let problem = Problem::new(format!("`{text}` has an unknown unit"));
    let meant = match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        "msec" | "msecs" | "millis" | "milliseconds" => "ms",
        _ => return problem.label("the units are ms, s, m, h and d"),
    };
    problem.label(format!("write `{}`", text.replacen(unit, meant, 1)))
}

fn unknown_size_unit(text: &str, unit: &str) -> Problem {
    let problem = Problem::new(format!("`{text}` has an unknown unit"));
    let meant = match unit.to_ascii_lowercase().as_str() {
        "k" | "kib" | "kb" => "KiB",
        "m" | "mib" | "mb" => "MiB",
        "g" | "gib" | "gb" => "GiB",
        _ => return problem.label("the units are KiB, MiB, GiB, and KB, MB, GB for thousands"),
    };
    problem.label(format!("write `{}`", text.replacen(unit, meant, 1)))
}

fn too_long(text: &str) -> Problem {
    Problem::new(format!("`{text}` is out of range")).label("at most 3650d")
}

// Written in the one unit that divides it: `90s`, not `1m30s`. A fraction of a millisecond cannot be written and is
// rounded up, so that no limit becomes zero.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().div_ceil(1_000_000);
        if millis == 0 {
            return f.write_str("0");
        }
        for (unit, factor) in PERIOD_UNITS {
            let factor = u128::from(factor);
            if millis.is_multiple_of(factor) {
                return write!(f, "{}{unit}", millis / factor);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in SIZE_UNITS {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        f.write_str("0")
    }
}

/// Reads text, or a bare number, with its `FromStr`.
pub(crate) struct UnitVisitor<T>(pub(crate) &'static str, pub(crate) std::marker::PhantomData<T>);

impl<T: FromStr<Err = Problem>> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(raise)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Parsing, output and schema of a unit.
macro_rules! unit {
    ($type:ident, $expected:literal, $schema:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(UnitVisitor($expected, std::marker::PhantomData))
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}
pub(crate) use unit;

unit!(
    Period,
    "a duration",
    json_schema!({
        "description": "A length of time: 500ms, 30s, 5m, 1h, 1d, or a sum as 1h30m.",
        "anyOf": [
            { "type": "string", "pattern": "^(0|([0-9]+(ms|s|m|h|d))+)$|\\$\\{" },
            { "const": 0 }
        ]
    })
);

unit!(
    Size,
    "a size",
    json_schema!({
        "description": "A number of bytes: 512, 64KiB, 1MiB, 1GiB, or in thousands 64KB, 1MB.",
        "anyOf": [
            { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB|KB|MB|GB)?$|\\$\\{" },
            { "type": "integer", "minimum": 0 }
        ]
    })
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn label(problem: Problem) -> Box<str> {
        problem.label.unwrap_or_default()
    }

    #[test]
    fn periods_are_read_and_written_back_in_their_shortest_form() {
        let forms =
            [("500ms", "500ms"), ("60s", "1m"), ("1h30m", "90m"), ("0", "0"), ("0s", "0"), ("24h", "1d")];
        for (text, written) in forms {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string(), written);
            assert_eq!(written.parse::<Period>().unwrap(), period);
        }
    }

    #[test]
    fn sizes_are_read_and_written_back_in_their_shortest_form() {
        let forms = [
            ("512", "512"),
            ("1024", "1KiB"),
            ("64KiB", "64KiB"),
            ("1MB", "1000000"),
            ("0", "0"),
            ("7B", "7"),
        ];
        for (text, written) in forms {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.to_string(), written);
            assert_eq!(written.parse::<Size>().unwrap(), size);
        }
    }

    #[test]
    fn a_bad_period_gets_a_suggestion() {
        assert_eq!(&*label("30".parse::<Period>().unwrap_err()), "write `30s` for seconds");
        assert_eq!(&*label("5min".parse::<Period>().unwrap_err()), "write `5m`");
        assert_eq!(&*label("1.5s".parse::<Period>().unwrap_err()), "write `1500ms`");
        assert_eq!(&*label("4000d".parse::<Period>().unwrap_err()), "at most 3650d");
        assert_eq!(&*label("99999999999999d".parse::<Period>().unwrap_err()), "at most 3650d");
        for text in ["", "s", "-1s", "1h 30m", "soon", "30µ"] {
            text.parse::<Period>().unwrap_err();
        }
    }

    #[test]
    fn a_bad_size_gets_a_suggestion() {
        assert_eq!(&*label("1m".parse::<Size>().unwrap_err()), "write `1MiB`");
        for text in ["", "KiB", "1.5MiB", "-1", "1MiB1KiB", "99999999999GiB"] {
            text.parse::<Size>().unwrap_err();
        }
    }
}
