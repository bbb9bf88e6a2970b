//! Durations, sizes, rates and times for people. Each is one word, so that columns stay easy to cut.

use time::OffsetDateTime;

/// Seconds as `0.8ms`, `250ms`, `12s`, `5m12s`, `3h4m` or `2d3h`.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let millis = seconds * 1000.0;
    match () {
        () if millis < 0.05 => "0ms".to_owned(),
        () if millis < 9.95 => format!("{millis:.1}ms"),
        () if millis < 999.5 => format!("{millis:.0}ms"),
        () if seconds < 9.95 => format!("{seconds:.1}s"),
        () => long_duration(seconds.round() as u64),
    }
}

/// Whole seconds in the two largest units.
fn long_duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Bytes as `512B`, `1.2KiB` or `3.0GiB`.
pub(super) fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    scaled(bytes, 1024.0, &UNITS)
}

/// A count or a rate as `0`, `0.5`, `12`, `1.2k` or `3.4M`.
pub(super) fn quantity(number: f64) -> String {
    const UNITS: [&str; 4] = ["", "k", "M", "G"];
    match number {
        // A rare event is not nothing.
        number if number > 0.0 && number < 0.05 => "<0.1".to_owned(),
        number if number.fract() != 0.0 && number < 9.95 => format!("{number:.1}"),
        number => scaled(number, 1000.0, &UNITS),
    }
}

fn scaled(number: f64, factor: f64, units: &[&str]) -> String {
    let mut number = if number.is_finite() { number.max(0.0) } else { 0.0 };
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    if number < factor - 0.5 {
        return format!("{number:.0}{unit}");
    }
    for larger in units {
        (number, unit) = (number / factor, larger);
        if number < factor - 0.5 {
            break;
        }
    }
    if number < 99.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

/// Unix milliseconds as the time of day in UTC, `10:14:03.120`.
pub(super) fn time_of_day(millis: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second, milli) = moment.to_hms_milli();
    format!("{hour:02}:{minute:02}:{second:02}.{milli:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (-1.0, "0ms"),
            (f64::NAN, "0ms"),
            (0.0, "0ms"),
            (0.000_84, "0.8ms"),
            (0.012_4, "12ms"),
            (0.999_9, "1.0s"),
            (9.96, "10s"),
            (59.7, "1m0s"),
            (312.0, "5m12s"),
            (11_040.0, "3h4m"),
            (184_000.0, "2d3h"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_and_quantities_have_three_digits() {
        for (bytes, text) in [
            (0.0, "0B"),
            (1023.0, "1023B"),
            (1024.0, "1.0KiB"),
            (150.0 * 1024.0, "150KiB"),
            (1024.0 * 1024.0 - 1.0, "1.0MiB"),
            (3.0 * 1024.0 * 1024.0 * 1024.0, "3.0GiB"),
            (1e30, "909494701772928256TiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        for (number, text) in [
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.25, "0.2"),
            (9.0, "9"),
            (12.4, "12"),
            (999.9, "1.0k"),
            (1234.0, "1.2k"),
            (50_000.0, "50.0k"),
            (123_456.0, "123k"),
            (f64::INFINITY, "0"),
        ] {
            assert_eq!(quantity(number), text, "{number}");
        }
    }

    #[test]
    fn the_time_of_day_is_that_of_utc() {
        assert_eq!(time_of_day(1_709_251_199_999), "23:59:59.999");
        assert_eq!(time_of_day(i64::MAX), "00:00:00.000");
    }
}
