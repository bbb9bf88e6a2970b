//! Text formats of a scrape: Prometheus 0.0.4 and OpenMetrics 1.0, their choice, and what is spelled differently.

use std::fmt::Write as _;

/// The media type that a scraper has to name; a wildcard does not select it.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A text format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// Prometheus 0.0.4.
    #[default]
    Classic,
    /// OpenMetrics 1.0: with exemplars and units.
    OpenMetrics,
}

impl TextFormat {
    /// The format for a field `Accept` (RFC 9110 §12.5.1): OpenMetrics where it is named with a weight that is not
    /// below that of `text/plain`.
    pub(crate) fn accepted_by(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut weight, mut known) = (1.0_f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => known = value.trim().trim_matches('"') == "1.0.0",
                    _ => {}
                }
            }
            if known && media.eq_ignore_ascii_case(OPEN_METRICS) {
                open = weight.max(open);
            } else if media.eq_ignore_ascii_case("text/plain") {
                plain = weight.max(plain);
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Classic }
    }

    /// The media type of a scrape.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Appends the text of a line `HELP`.
    pub(super) fn help(self, out: &mut String, help: &str) {
        match self {
            Self::Classic => escaped(out, help, &['\\', '\n']),
            Self::OpenMetrics => label_value(out, help),
        }
    }

    /// Appends a label `le`: OpenMetrics wants the spelling of Go, with a point or an exponent.
    pub(super) fn bound(self, out: &mut String, bound: f64) {
        if self == Self::Classic || !bound.is_finite() {
            return number(out, bound);
        }
        let scientific = format!("{bound:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        match exponent.parse::<i32>().unwrap_or_default() {
            exponent @ -4..6 => {
                number(out, bound);
                if exponent >= 0 && bound.fract() == 0.0 {
                    out.push_str(".0");
                }
            }
            exponent => {
                let sign = if exponent < 0 { '-' } else { '+' };
                // Writing into a string cannot fail.
                let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
            }
        }
    }
}

/// Appends the value of a sample.
pub(super) fn number(out: &mut String, value: f64) {
    if value == f64::INFINITY {
        out.push_str("+Inf");
    } else if value == f64::NEG_INFINITY {
        out.push_str("-Inf");
    } else {
        // Writing into a string cannot fail.
        let _ = write!(out, "{value}");
    }
}

/// Appends the inside of a label value.
pub(super) fn label_value(out: &mut String, value: &str) {
    escaped(out, value, &['\\', '\n', '"']);
}

fn escaped(out: &mut String, text: &str, special: &[char]) {
    for piece in text.split_inclusive(special) {
        let Some(last) = piece.chars().next_back().filter(|last| special.contains(last)) else {
            out.push_str(piece);
            continue;
        };
        out.push_str(&piece[..piece.len() - 1]);
        out.push('\\');
        out.push(if last == '\n' { 'n' } else { last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scraper_that_names_openmetrics_gets_it() {
        let old = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [
            old,
            new,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.1",
            "text/plain, application/openmetrics-text",
        ] {
            assert_eq!(TextFormat::accepted_by(accept), TextFormat::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "application/*",
            "text/html,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "application/openmetrics-text;q=NaN",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.3, text/plain;q=0.4",
            ",;=,q=1",
        ] {
            assert_eq!(TextFormat::accepted_by(accept), TextFormat::Classic, "{accept}");
        }
    }

    #[test]
    fn bounds_of_openmetrics_are_spelled_as_go_spells_them() {
        for (bound, classic, open) in [
            (0.0, "0", "0.0"),
            (1.0, "1", "1.0"),
            (0.0005, "0.0005", "0.0005"),
            (0.00001, "0.00001", "1e-05"),
            (2.5, "2.5", "2.5"),
            (604_800.0, "604800", "604800.0"),
            (1e6, "1000000", "1e+06"),
            (12_345_678.5, "12345678.5", "1.23456785e+07"),
            (1e10, "10000000000", "1e+10"),
            (f64::INFINITY, "+Inf", "+Inf"),
        ] {
            let spelled = |format: TextFormat| {
                let mut out = String::new();
                format.bound(&mut out, bound);
                out
            };
            assert_eq!((&*spelled(TextFormat::Classic), &*spelled(TextFormat::OpenMetrics)), (classic, open));
        }
    }

    #[test]
    fn text_is_escaped_as_each_format_wants() {
        let help = |format: TextFormat| {
            let mut out = String::new();
            format.help(&mut out, "a\\b\"c\nd");
            out
        };
        assert_eq!(help(TextFormat::Classic), r#"a\\b"c\nd"#);
        assert_eq!(help(TextFormat::OpenMetrics), r#"a\\b\"c\nd"#);
    }
}
