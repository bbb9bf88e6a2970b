//! Value patterns of headers and query parameters: exact, `~regex`, or `*` for any value.

use super::path::{REGEX_SIZE, bad_regex};
use moongate_config::Problem;
use regex::bytes::{Regex, RegexBuilder};
use std::fmt;

/// The value pattern of a rule.
#[derive(Clone, Debug)]
pub enum ValuePattern {
    /// Any value; the field must be present.
    Any,
    /// Exactly these bytes.
    Exact(Box<str>),
    /// A regex that matches anywhere in the value.
    Regex(Regex),
}

impl ValuePattern {
    /// Parses `*`, `~regex` or an exact value.
    ///
    /// # Errors
    /// A regex that is invalid or larger than 1 MiB.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        match text.strip_prefix('~') {
            _ if text == "*" => Ok(Self::Any),
            None => Ok(Self::Exact(text.into())),
            Some(pattern) => match RegexBuilder::new(pattern).size_limit(REGEX_SIZE).build() {
                Ok(regex) => Ok(Self::Regex(regex)),
                Err(error) => Err(bad_regex(pattern, &error)),
            },
        }
    }

    /// Whether the pattern matches these bytes.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}
