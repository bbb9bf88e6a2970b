//! Accept-Encoding (RFC 9110 §12.5.3): the codings that a client accepts, with their preference.

use super::Coding;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// Weights in thousandths; `None` for an unlisted coding.
#[derive(Default)]
pub(super) struct AcceptEncoding {
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    any: Option<u16>,
}

impl AcceptEncoding {
    /// The preferences of a request. Without the field a client accepts everything, but may not decode it.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut preferences = Self::default();
        let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for item in lines.flat_map(|line| line.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let (Some(name), parameter) = (parts.next(), parts.next()) else { continue };
            let Some(weight) = parameter.map_or(Some(1000), weight) else { continue };
            let slot = match name.to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => &mut preferences.codings[Coding::Gzip as usize],
                "br" => &mut preferences.codings[Coding::Br as usize],
                "zstd" => &mut preferences.codings[Coding::Zstd as usize],
                "identity" => &mut preferences.identity,
                "*" => &mut preferences.any,
                _ => continue,
            };
            *slot = Some(weight);
        }
        preferences
    }

    /// The coding that the client prefers, the first among equals; `None` if it accepts none, or prefers the
    /// identity.
    pub(super) fn choose(&self, codings: &[Coding]) -> Option<Coding> {
        let weight = |coding: Coding| self.codings[coding as usize].or(self.any).unwrap_or(0);
        let best = codings.iter().copied().map(weight).max().filter(|best| *best > 0)?;
        let plain = self.identity.is_some_and(|identity| identity > best);
        codings.iter().copied().find(|coding| !plain && weight(*coding) == best)
    }
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !name.trim().eq_ignore_ascii_case("q") || !digits {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use http::HeaderValue;

    fn chosen(lines: &[&str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        }
        AcceptEncoding::of(&headers).choose(&Coding::ALL).map(Coding::token)
    }

    #[test]
    fn the_clients_preference_decides_and_then_ours() {
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, br", Some("br")),
            ("gzip", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("GZIP ; Q=0.5", Some("gzip")),
            ("br;q=0.8, gzip;q=0.9", Some("gzip")),
            ("br;q=0.80, gzip;q=0.8", Some("br")),
            ("gzip;q=0, br;q=0.001", Some("br")),
            ("*", Some("zstd")),
            ("*;q=0.5, gzip", Some("gzip")),
            ("zstd;q=0, *", Some("br")),
            ("*;q=0", None),
            ("*;q=0, gzip", Some("gzip")),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.5", Some("gzip")),
            ("gzip, identity;q=0", Some("gzip")),
            ("identity;q=0", None),
            ("deflate", None),
            ("", None),
            ("gzip;q=2", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=1.001", None),
            ("gzip;q=, br;q", None),
            (",,;q=1, ,gzip", Some("gzip")),
        ] {
            assert_eq!(chosen(&[line]), expected, "{line}");
        }
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&["deflate", "gzip"]), Some("gzip"));
    }
}
