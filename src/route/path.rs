//! Path patterns of rules: prefixes of whole segments, `=/exact` and `~regex`.

use crate::config::PathParameters;
use moongate_config::Problem;
use moongate_sdk::{BadPath, has_parameters, read_path};
use regex::{Regex, RegexBuilder};
use std::fmt;

/// The size limit of a compiled regex in bytes, so that a bad pattern is an error and does not fill the
/// memory.
pub(super) const REGEX_SIZE: usize = 1 << 20;

/// The path pattern of a rule.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Exactly this path, written `=/exact`.
    Exact(Box<str>),
    /// A regex that matches anywhere in the path, written `~regex`.
    Regex(Regex),
    /// A prefix of whole segments, without its final slash: `/acts/` and `/acts` are both `/acts`, and
    /// `/` is the empty prefix.
    Prefix(Box<str>),
}

impl PathPattern {
    /// Parses `/prefix`, `=/exact` or `~regex`. Paths are normalized as for matching: unreserved characters
    /// are decoded, others encoded with upper-case digits.
    ///
    /// # Errors
    /// A path that a normalized request cannot have, and a regex that is invalid or larger than 1 MiB.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(problem) = nginx_modifier(text) {
            return Err(problem);
        }
        if let Some(pattern) = text.strip_prefix('~') {
            let folded = pattern.to_ascii_lowercase();
            if let Some(escape) = ["%2f", "%5c"].into_iter().find(|escape| folded.contains(escape)) {
                let escape = escape.to_ascii_uppercase();
                return Err(escaped_slash(&format!(
                    "no request matches `~{pattern}`: `{escape}` in a path is matched as `/`"
                )));
            }
            let built = RegexBuilder::new(pattern).size_limit(REGEX_SIZE).build();
            return built.map(Self::Regex).map_err(|error| bad_regex(pattern, &error));
        }
        if let Some(path) = text.strip_prefix('=') {
            return Ok(Self::Exact(normal_path(path)?));
        }
        let prefix = normal_path(text)?;
        if prefix.ends_with("/*") {
            let short = prefix.trim_end_matches('*');
            return Err(Problem::new(format!("`{text}` has a `*`, but paths are prefixes already"))
                .help(format!("write `{short}`, or `~regex` for a pattern")));
        }
        Ok(Self::Prefix(prefix.strip_suffix('/').unwrap_or(&prefix).into()))
    }

    /// Parses a pattern for a route with this setting of `path_parameters`.
    ///
    /// # Errors
    /// Parameters in a pattern for paths without parameters, which could not match.
    pub fn parse_for(text: &str, parameters: PathParameters) -> Result<Self, Problem> {
        let pattern = Self::parse(text)?;
        let written = match &pattern {
            Self::Exact(path) | Self::Prefix(path) => path,
            Self::Regex(_) => return Ok(pattern),
        };
        if parameters != PathParameters::Keep && has_parameters(written) {
            return Err(Problem::new(format!(
                "no request matches `{text}`: paths are matched without the parameters of their segments"
            ))
            .help("remove the part from `;`, or set `path_parameters: keep`"));
        }
        Ok(pattern)
    }

    /// Whether the pattern matches a normalized path; the table must agree.
    #[cfg(test)]
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Regex(regex) => regex.is_match(path),
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| match rest.as_bytes().first() {
                    Some(first) => *first == b'/',
                    None => !prefix.is_empty(),
                })
            }
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "={path}"),
            Self::Regex(regex) => write!(f, "~{regex}"),
            Self::Prefix(path) if path.is_empty() => f.write_str("/"),
            Self::Prefix(path) => f.write_str(path),
        }
    }
}

/// The problem of an invalid regex, in one line: the report already shows the pattern.
pub(super) fn bad_regex(pattern: &str, error: &regex::Error) -> Problem {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    Problem::new(format!("`{pattern}` is not a regular expression: {last}"))
        .help("see https://docs.rs/regex for the syntax; look-around and back-references are not supported")
}

/// The problem of a modifier in nginx's form: with a space, or one that is written otherwise here.
fn nginx_modifier(text: &str) -> Option<Problem> {
    let modifiers = [("~*", "~(?i)"), ("^~", ""), ("~ ", "~"), ("= ", "=")];
    let (pattern, modifier) =
        modifiers.iter().find_map(|(nginx, ours)| Some((text.strip_prefix(nginx)?, ours)))?;
    let help = format!("write `{modifier}{}`", pattern.trim_start());
    Some(Problem::new(format!("`{text}` has a modifier in nginx's form")).help(help))
}

fn normal_path(text: &str) -> Result<Box<str>, Problem> {
    let bad = |why: &str| Problem::new(format!("`{text}` is not a path: {why}"));
    if !text.starts_with('/') {
        return Err(bad("it does not start with `/`")
            .help("write a prefix `/…`, an exact path `=/…`, or a regular expression `~…`"));
    }
    if text.contains(['?', '#']) {
        return Err(bad("it has a `?` or `#`").help("a path has no query; use `query:` for parameters"));
    }
    if text.contains("//") {
        return Err(bad("it has an empty segment").help("write one slash; `//` is matched as `/`"));
    }
    match read_path(text.as_bytes()) {
        Ok(reading) if reading.has_escaped_slash => {
            let message =
                format!("no request matches `{text}`: `%2F`, `%5C` and `\\` in a path are matched as `/`");
            Err(escaped_slash(&message))
        }
        Ok(reading) => Ok(reading.path.into()),
        Err(BadPath::DotSegment) => Err(bad("it has a segment `.` or `..`; such requests are refused")),
        Err(BadPath::Escape) => Err(bad("`%` must be followed by two hexadecimal digits, not 00")
            .help("write `%25` for a percent sign")),
        Err(BadPath::Byte) => {
            Err(bad("it has a space or a control character").help("write `%20` for a space"))
        }
    }
}

fn escaped_slash(message: &str) -> Problem {
    Problem::new(message)
        .help("write `/`; `when: 'request.raw_path.contains(\"%2F\")'` distinguishes the two")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments() {
        for written in ["/acts", "/acts/"] {
            let pattern = PathPattern::parse(written).unwrap();
            assert!(pattern.matches("/acts") && pattern.matches("/acts/") && pattern.matches("/acts/x"));
            assert!(!pattern.matches("/actsx") && !pattern.matches("/act") && !pattern.matches("/"));
        }
        let root = PathPattern::parse("/").unwrap();
        assert!(root.matches("/") && root.matches("/x") && !root.matches("*"));
    }

    #[test]
    fn patterns_are_normalized_like_requests() {
        for (written, normal) in
            [("/stra%c3%9fe", "/stra%C3%9Fe"), ("/straße", "/stra%C3%9Fe"), ("/%61", "/a")]
        {
            assert_eq!(PathPattern::parse(written).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn parameters_need_a_route_that_keeps_them() {
        for text in ["/a;x=1/b", "=/a;", "/a%3bx"] {
            assert!(PathPattern::parse_for(text, PathParameters::Keep).is_ok(), "{text}");
            for parameters in [PathParameters::Ignore, PathParameters::Reject] {
                let problem = PathPattern::parse_for(text, parameters).unwrap_err();
                assert!(problem.message.starts_with(&format!("no request matches `{text}`")));
            }
        }
        assert!(PathPattern::parse_for("~;x", PathParameters::Ignore).is_ok(), "a regex may mean anything");
    }

    #[test]
    fn a_path_that_no_request_can_have_is_a_problem() {
        for text in [
            "", "acts", "=acts", "/a?b", "/a#b", "/a//b", "/a/../b", "/%2e/", "/%zz", "/a b", "/a/*", "~(",
            "/%00", "/a%2fb", "=/a%5Cb", "/a\\b", "~^/a%2Fb",
        ] {
            assert!(PathPattern::parse(text).is_err(), "{text}");
        }
        let problem = PathPattern::parse("~a(b").unwrap_err();
        assert_eq!(problem.message, "`a(b` is not a regular expression: unclosed group");
        assert!(PathPattern::parse("~(a{500}){500}").unwrap_err().message.contains("size limit"));
    }
}
