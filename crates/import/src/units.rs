//! nginx's times and sizes in our units.

use moongate_config::{Period, Size};
use std::time::Duration;

/// A time of nginx: `60`, `60s`, `1h30m`, `500ms`, `1d`, `1w`.
pub(crate) fn time(text: &str) -> Option<Period> {
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
            ("w", 604_800_000),
            ("M", 2_592_000_000),
            ("y", 31_536_000_000),
        ];
        let unit = units.iter().find(|(unit, _)| rest.starts_with(unit));
        let factor = match unit {
            Some((unit, factor)) => {
                rest = &rest[unit.len()..];
                *factor
            }
            None if rest.is_empty() => 1000,
            None => return None,
        };
        rest = rest.trim_start();
        total = total.checked_add(number.checked_mul(factor)?)?;
    }
    // Our longest period.
    (total <= 3650 * 86_400_000).then(|| Period(Duration::from_millis(total)))
}

/// A size of nginx: `512`, `64k`, `10m`, `1g`.
pub(crate) fn size(text: &str) -> Option<Size> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match &text[digits..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor).map(Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_those_of_nginx() {
        for (text, expected) in [
            ("60", Some("1m")),
            ("3600s", Some("1h")),
            ("1h30m", Some("90m")),
            ("500ms", Some("500ms")),
            ("1w", Some("7d")),
            ("soon", None),
            ("", None),
            ("99999999999999999999", None),
            ("99999999999999d", None),
        ] {
            assert_eq!(time(text).map(|period| period.to_string()).as_deref(), expected, "{text}");
        }
        for (text, expected) in [("10m", Some("10MiB")), ("1g", Some("1GiB")), ("5", Some("5")), ("x", None)]
        {
            assert_eq!(size(text).map(|size| size.to_string()).as_deref(), expected, "{text}");
        }
    }
}
