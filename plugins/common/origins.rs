//! Web origins (RFC 6454 §7, the Fetch standard) in the configuration's syntax.

use moongate_config::{Placed, Problem, Problems};
use regex::bytes::{Regex, RegexBuilder};

/// A list of origins.
pub(crate) struct Origins(Vec<Pattern>);

enum Pattern {
    Any,
    /// In lower case.
    Exact(Box<[u8]>),
    /// `https://` and `.example.com[:port]`, in lower case.
    Below(Box<[u8]>, Box<[u8]>),
    /// A regular expression for the whole origin.
    Regex(Regex),
}

impl Origins {
    /// Parses `https://example.com`, `https://*.example.com`, `~regular expression`, `null` and `*`.
    ///
    /// # Errors
    /// Any other text.
    pub(crate) fn parse(written: &[Placed<String>]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let patterns = written
            .iter()
            .filter_map(|text| problems.keep(pattern(text).map_err(|problem| problem.at(&text.place).into())))
            .collect();
        if problems.refuse() { Err(problems) } else { Ok(Self(patterns)) }
    }

    /// Whether the list contains `*`.
    pub(crate) fn is_any(&self) -> bool {
        self.0.iter().any(|pattern| matches!(pattern, Pattern::Any))
    }

    /// Whether the list is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list contains this origin.
    pub(crate) fn allow(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|pattern| pattern.fits(origin))
    }
}

impl Pattern {
    fn fits(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => origin.eq_ignore_ascii_case(text),
            Self::Below(scheme, below) => {
                let Some(name) = origin.len().checked_sub(scheme.len() + below.len()) else { return false };
                let (start, rest) = origin.split_at(scheme.len());
                let (name, end) = rest.split_at(name);
                // The part before the dot must be a name: no port, user or path.
                start.eq_ignore_ascii_case(scheme)
                    && end.eq_ignore_ascii_case(below)
                    && !name.is_empty()
                    && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
            }
            Self::Regex(regex) => regex.is_match(origin),
        }
    }
}

fn pattern(written: &Placed<String>) -> Result<Pattern, Problem> {
    if let Some(regex) = written.strip_prefix('~') {
        // A pattern that matches only a part would accept `https://example.com.evil.org`.
        let whole = format!("^(?:{regex})$");
        let built = RegexBuilder::new(&whole).case_insensitive(true).unicode(false).build();
        return built.map(Pattern::Regex).map_err(|_| {
            Problem::new(format!("`{regex}` is not a regular expression"))
                .help("it must match the whole origin, as in ~https://(a|b)\\.example\\.com")
        });
    }
    let text = written.to_ascii_lowercase();
    match text.as_str() {
        "*" => return Ok(Pattern::Any),
        "null" => return Ok(Pattern::Exact(text.into_bytes().into())),
        _ => {}
    }
    let (scheme, host) = text.split_once("://").unwrap_or_default();
    if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', ' ', '@']) {
        return Err(no_origin(written));
    }
    match host.strip_prefix('*') {
        Some(below) if below.starts_with('.') && !below.contains('*') && below.len() > 1 => {
            Ok(Pattern::Below(format!("{scheme}://").into_bytes().into(), below.as_bytes().into()))
        }
        None if !host.contains('*') => Ok(Pattern::Exact(text.into_bytes().into())),
        _ => Err(no_origin(written)),
    }
}

fn no_origin(written: &str) -> Problem {
    let problem = Problem::new(format!("`{written}` is not an origin"));
    match written.split_once("://") {
        Some((_, host)) if host.ends_with('/') && host.matches('/').count() == 1 => {
            problem.label(format!("write `{}`", &written[..written.len() - 1]))
        }
        _ => problem.help(
            "write scheme and host as in https://example.com, https://*.example.com, ~a regular expression, null or *",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn origins(written: &[&str]) -> Result<Origins, Problems> {
        let placed = |text: &&str| Placed { value: (*text).to_owned(), place: Place::nowhere() };
        Origins::parse(&written.iter().map(placed).collect::<Vec<_>>())
    }

    #[test]
    fn only_listed_origins_match() {
        let list = ["https://A.example", "https://*.b.example:8443", "~https://c[0-9]+\\.example", "null"];
        let list = origins(&list).unwrap();
        for good in [
            "https://a.example",
            "HTTPS://A.EXAMPLE",
            "https://x.y.b.example:8443",
            "https://c12.example",
            "null",
        ] {
            assert!(list.allow(good.as_bytes()), "{good}");
        }
        for bad in [
            "http://a.example",
            "https://a.example:8443",
            "https://a.example.evil.org",
            "https://b.example:8443",
            "https://.b.example:8443",
            "https://x.b.example",
            "https://evil.org/.b.example:8443",
            "https://user@x.b.example:8443",
            "https://c1.example.evil.org",
            "xhttps://c1.example",
            "",
            "https://\u{fc}.b.example:8443",
        ] {
            assert!(!list.allow(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn an_invalid_origin_is_refused_with_advice() {
        let bad = [
            "example.com",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*.b",
            "https://a/b",
            "~(",
            "://a",
        ];
        assert_eq!(origins(&bad).err().unwrap().0.len(), bad.len());
        let slash = origins(&["https://a.example/"]).err().unwrap();
        assert_eq!(slash.0[0].label.as_deref(), Some("write `https://a.example`"));
        assert!(origins(&["*"]).unwrap().is_any());
    }
}
