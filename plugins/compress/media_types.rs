//! Media types that are compressed.

use http::HeaderValue;
use moongate_config::{Placed, Problem, Problems};

/// The default types: text, and similarly compressible ones.
const USUAL: [&str; 14] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/x-javascript",
    "application/x-ndjson",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
    "image/bmp",
];

/// A list of media types.
pub(super) struct MediaTypes(Vec<Pattern>);

/// In lower case.
enum Pattern {
    Any,
    Exact(Box<str>),
    /// `text/`.
    Top(Box<str>),
    /// `application/` and `+json`.
    Suffix(Box<str>, Box<str>),
}

impl MediaTypes {
    /// The default types.
    pub(super) fn usual() -> Self {
        Self(USUAL.iter().filter_map(|text| pattern(text)).collect())
    }

    /// Parses a list.
    ///
    /// # Errors
    /// Invalid media types.
    pub(super) fn parse(written: &[Placed<String>]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut patterns = Vec::new();
        for text in written {
            match pattern(&text.to_ascii_lowercase()) {
                Some(pattern) => patterns.push(pattern),
                None => problems.push(
                    Problem::new(format!("`{}` is not a media type", text.value))
                        .help("write `text/html`, `text/*`, `application/*+json`, or `*/*` for all")
                        .at(&text.place),
                ),
            }
        }
        if problems.refuse() { Err(problems) } else { Ok(Self(patterns)) }
    }

    /// Whether a response with this Content-Type is compressed; false without one.
    pub(super) fn has(&self, written: Option<&HeaderValue>) -> bool {
        let Some(text) = written.and_then(|value| value.to_str().ok()) else { return false };
        let essence = text.split(';').next().unwrap_or_default().trim();
        self.0.iter().any(|pattern| pattern.fits(essence))
    }
}

fn pattern(text: &str) -> Option<Pattern> {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let (top, sub) = text.split_once('/')?;
    match (top, sub) {
        ("*", "*") => Some(Pattern::Any),
        (top, "*") if plain(top) => Some(Pattern::Top(format!("{top}/").into())),
        (top, sub) if plain(top) => match sub.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('+') && suffix.len() > 1 && plain(suffix) => {
                Some(Pattern::Suffix(format!("{top}/").into(), suffix.into()))
            }
            None if plain(sub) => Some(Pattern::Exact(text.into())),
            _ => None,
        },
        _ => None,
    }
}

impl Pattern {
    fn fits(&self, essence: &str) -> bool {
        let starts =
            |top: &str| essence.get(..top.len()).is_some_and(|start| start.eq_ignore_ascii_case(top));
        match self {
            Self::Any => true,
            Self::Exact(text) => essence.eq_ignore_ascii_case(text),
            Self::Top(top) => starts(top),
            Self::Suffix(top, suffix) => {
                let end = essence.len().checked_sub(suffix.len()).and_then(|at| essence.get(at..));
                starts(top) && end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn list(written: &[&str]) -> Result<MediaTypes, Problems> {
        let placed = |text: &&str| Placed { value: (*text).to_owned(), place: Place::nowhere() };
        MediaTypes::parse(&written.iter().map(placed).collect::<Vec<_>>())
    }

    #[test]
    fn types_fit_without_their_parameters() {
        let media = MediaTypes::usual();
        let has = |text: &'static str| media.has(Some(&HeaderValue::from_static(text)));
        for text in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "text/event-stream",
            "application/problem+json",
            "image/svg+xml",
            "application/json;x=y",
        ] {
            assert!(has(text), "{text}");
        }
        for text in [
            "image/png",
            "application/zip",
            "application/jsonx",
            "texts/html",
            "text",
            "",
            "font/woff2",
            "+json",
        ] {
            assert!(!has(text), "{text}");
        }
        assert!(!media.has(None));
    }

    #[test]
    fn a_list_selects_its_types() {
        assert!(list(&["*/*"]).unwrap().has(Some(&HeaderValue::from_static("x"))));
        assert!(!list(&[]).unwrap().has(Some(&HeaderValue::from_static("text/html"))));
        let bad = ["text", "", "/", "text/", "*/html", "a/*x", "a/*+", "a b/c", "é/x"];
        assert_eq!(list(&bad).err().unwrap().0.len(), bad.len());
    }
}
