//! Settings in which `0` means off: no limit, never.

use crate::{Period, Placed, Problem, Rate, Size};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use std::num::NonZeroU32;

/// A setting that `0` turns off.
pub trait OffIfZero: Sized {
    /// The written type, which includes zero.
    type Written: for<'de> Deserialize<'de>;

    /// The setting; `None` for zero.
    fn of(written: Self::Written) -> Option<Self>;
}

/// Reads a setting that `0` turns off: `None` then, as for a key without a value. For `deserialize_with`, beside `default`.
///
/// # Errors
/// The value is invalid for the setting.
pub fn off_if_zero<'de, T: OffIfZero, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<T::Written>::deserialize(deserializer)?.and_then(T::of))
}

impl OffIfZero for NonZeroU32 {
    type Written = u32;

    fn of(written: u32) -> Option<Self> {
        Self::new(written)
    }
}

impl OffIfZero for Size {
    type Written = Self;

    fn of(written: Self) -> Option<Self> {
        (written.0 != 0).then_some(written)
    }
}

impl OffIfZero for Period {
    type Written = Self;

    fn of(written: Self) -> Option<Self> {
        (!written.0.is_zero()).then_some(written)
    }
}

impl OffIfZero for Rate {
    type Written = RateOrZero;

    fn of(written: RateOrZero) -> Option<Self> {
        written.0
    }
}

impl<T: OffIfZero> OffIfZero for Placed<T> {
    type Written = Placed<T::Written>;

    fn of(written: Self::Written) -> Option<Self> {
        let Placed { value, place } = written;
        T::of(value).map(|value| Self { value, place })
    }
}

/// A rate, or a `0` without a unit of time.
pub struct RateOrZero(Option<Rate>);

impl<'de> Deserialize<'de> for RateOrZero {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(RateOrZeroVisitor)
    }
}

struct RateOrZeroVisitor;

impl Visitor<'_> for RateOrZeroVisitor {
    type Value = RateOrZero;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RateOrZero, E> {
        if text == "0" {
            return Ok(RateOrZero(None));
        }
        text.parse().map(|rate| RateOrZero(Some(rate))).map_err(|problem: Problem| crate::raise(problem))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<RateOrZero, E> {
        self.visit_str(&number.to_string())
    }
}

/// The schema of a rate that `0` turns off, for `schemars(schema_with = …)`.
pub fn rate_or_zero_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let rate = generator.subschema_for::<Rate>();
    schemars::json_schema!({ "anyOf": [rate, { "enum": [0, "0"] }, { "type": "null" }] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use serde_json::json;

    #[derive(serde::Deserialize)]
    struct TestSettings {
        #[serde(default, deserialize_with = "off_if_zero")]
        number: Option<NonZeroU32>,
        #[serde(default, deserialize_with = "off_if_zero")]
        size: Option<Placed<Size>>,
        #[serde(default, deserialize_with = "off_if_zero")]
        period: Option<Period>,
        #[serde(default, deserialize_with = "off_if_zero")]
        rate: Option<Rate>,
    }

    fn read(value: serde_json::Value) -> TestSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn zero_and_absence_turn_a_setting_off_and_everything_else_does_not() {
        let off = json!({ "number": 0, "size": "0", "period": "0s", "rate": "0" });
        for written in [off, json!({}), json!({ "number": null, "size": null })].map(read) {
            assert!(written.number.is_none() && written.size.is_none());
            assert!(written.period.is_none() && written.rate.is_none());
        }
        let on = read(json!({ "number": 1, "size": "1KiB", "period": "1ms", "rate": "1/s" }));
        assert_eq!(on.number, NonZeroU32::new(1));
        assert_eq!(on.size.unwrap().value, Size(1024));
        assert_eq!(on.period, Some(Period::millis(1)));
        assert_eq!(on.rate.unwrap().to_string(), "1/s");
    }

    #[test]
    fn a_rate_without_a_unit_of_time_is_still_none() {
        for wrong in ["5", "0/s", "many"] {
            assert!(serde_json::from_value::<TestSettings>(json!({ "rate": wrong })).is_err(), "{wrong}");
        }
    }
}
