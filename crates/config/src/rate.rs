//! Rates (`500/s`, `30/m`, `10/h`) in the configuration's syntax. The limiter that uses a rate decides the burst
//! and the treatment of the excess.

use crate::Problem;
use crate::units::{UnitVisitor, unit};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A count per second, minute or hour, written `500/s`, `30/m` or `10/h`; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: RateUnit,
}

/// The period of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RateUnit {
    Second,
    Minute,
    Hour,
}

impl RateUnit {
    const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    const fn unit(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// A rate of `count` per second.
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self { count, per: RateUnit::Second }
    }

    /// The count per [`Rate::period`].
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// A second, a minute or an hour.
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.per.seconds())
    }

    /// The interval of an even rate, at least a nanosecond.
    pub fn interval(self) -> Duration {
        (self.period() / self.count.get()).max(Duration::from_nanos(1))
    }
}

impl FromStr for Rate {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let Some((count, unit)) = text.split_once('/') else { return Err(no_period(text)) };
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(no_count(text, count, unit));
        }
        let per = RateUnit::ALL.into_iter().find(|per| per.unit() == unit);
        let per = per.ok_or_else(|| unknown_period(text, count, unit))?;
        let too_many = || Problem::new(format!("`{text}` is out of range")).label("at most 4294967295");
        let count = count.parse().map_err(|_| too_many())?;
        let Some(count) = NonZeroU32::new(count) else {
            return Err(Problem::new(format!("`{text}` allows nothing"))
                .label("at least 1; remove the key for no limit"));
        };
        let rate = Self { count, per };
        if u128::from(count.get()) > rate.period().as_nanos() {
            return Err(Problem::new(format!("`{text}` is out of range")).label("at most 1000000000/s"));
        }
        Ok(rate)
    }
}

fn no_period(text: &str) -> Problem {
    let problem = Problem::new(format!("`{text}` is not a rate"));
    if !text.is_empty() && text.bytes().all(|byte| byte == b'0') {
        return problem.label("at least 1, as in `500/s`; remove the key for no limit");
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return problem.label(format!("write `{text}/s` for {text} a second"));
    }
    problem.label("as in `500/s`, `30/m` or `10/h`")
}

fn no_count(text: &str, count: &str, unit: &str) -> Problem {
    let problem = Problem::new(format!("`{text}` is not a rate"));
    // `0.5/s` is understood, but whole numbers are clearer.
    if let (Ok(number), Some(per)) =
        (count.parse::<f64>(), RateUnit::ALL.iter().find(|per| per.unit() == unit))
    {
        let meant = RateUnit::ALL.iter().find_map(|other| {
            let count = number * other.seconds() as f64 / per.seconds() as f64;
            let whole = count >= 1.0 && count <= f64::from(u32::MAX) && (count - count.round()).abs() < 1e-6;
            whole.then(|| format!("write `{count:.0}/{}`", other.unit()))
        });
        return match meant {
            Some(meant) => problem.label(meant),
            None => problem.label("a whole number of at least 1"),
        };
    }
    // nginx's syntax.
    match (count.strip_suffix('r'), unit) {
        (Some(count), "s" | "m") if count.bytes().all(|byte| byte.is_ascii_digit()) && !count.is_empty() => {
            problem.label(format!("write `{count}/{unit}`"))
        }
        _ => problem.label("as in `500/s`, `30/m` or `10/h`"),
    }
}

fn unknown_period(text: &str, count: &str, unit: &str) -> Problem {
    let problem = Problem::new(format!("`{text}` has an unknown period"));
    let meant = match unit.trim().to_ascii_lowercase().as_str() {
        "s" | "1s" | "sec" | "second" => "s",
        "m" | "1m" | "min" | "minute" => "m",
        "h" | "1h" | "hr" | "hour" => "h",
        _ => return problem.label("the periods are s, m and h"),
    };
    problem.label(format!("write `{count}/{meant}`"))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.unit())
    }
}

unit!(
    Rate,
    "a rate",
    json_schema!({
        "description": "A count per second, minute or hour: 500/s, 30/m, 10/h.",
        "type": "string",
        "pattern": "^[1-9][0-9]*/[smh]$|\\$\\{"
    })
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn label(text: &str) -> String {
        text.parse::<Rate>().unwrap_err().label.unwrap_or_default().into()
    }

    #[test]
    fn rates_are_read_and_written_back_as_they_were() {
        for text in ["500/s", "30/m", "10/h", "1/s", "4294967295/m"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("050/s".parse::<Rate>().unwrap().to_string(), "50/s");
        assert_ne!("60/m".parse::<Rate>().unwrap(), "1/s".parse().unwrap(), "bursts differ");
    }

    #[test]
    fn a_rate_knows_the_time_between_two() {
        let interval = |text: &str| text.parse::<Rate>().unwrap().interval();
        assert_eq!(interval("500/s"), Duration::from_millis(2));
        assert_eq!(interval("30/m"), Duration::from_secs(2));
        assert_eq!(interval("10/h"), Duration::from_secs(360));
        assert_eq!(interval("1000000000/s"), Duration::from_nanos(1));
    }

    #[test]
    fn a_bad_rate_gets_a_suggestion() {
        for (text, meant) in [
            ("500", "write `500/s` for 500 a second"),
            ("500/sec", "write `500/s`"),
            ("30/minute", "write `30/m`"),
            ("5/1s", "write `5/s`"),
            ("5/ s", "write `5/s`"),
            ("0.5/s", "write `30/m`"),
            ("1.5/m", "write `90/h`"),
            ("0.1/h", "a whole number of at least 1"),
            ("100r/s", "write `100/s`"),
            ("10/d", "the periods are s, m and h"),
            ("0/s", "at least 1; remove the key for no limit"),
            ("4294967296/s", "at most 4294967295"),
            ("1000000001/s", "at most 1000000000/s"),
        ] {
            assert_eq!(label(text), meant, "{text}");
        }
        for text in
            ["", "/", "/s", "s", "-1/s", "5/", "5//s", "5/s/s", "fast", "r/s", "nan/s", "inf/s", "٥/s"]
        {
            text.parse::<Rate>().unwrap_err();
        }
    }
}
