//! Query parameters, compared without allocating a decoded copy.
//!
//! Names and values are decoded like forms and `URLSearchParams`: `+` is a space, `%XX` is a byte, and a
//! percent sign without an escape is literal. A repeated parameter matches if any of its values does.

use super::ValuePattern;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Whether a parameter with this name has a value that the pattern matches.
pub(super) fn matches(query: Option<&str>, name: &str, pattern: &ValuePattern) -> bool {
    let Some(query) = query else { return false };
    query.split('&').any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        !pair.is_empty() && decoded(key).eq(name.bytes()) && value_matches(value, pattern)
    })
}

fn value_matches(value: &str, pattern: &ValuePattern) -> bool {
    match pattern {
        ValuePattern::Any => true,
        ValuePattern::Exact(exact) => decoded(value).eq(exact.bytes()),
        ValuePattern::Regex(_) => pattern.matches(&contiguous(value)),
    }
}

fn contiguous(value: &str) -> Cow<'_, [u8]> {
    if value.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        Cow::Owned(decoded(value).collect())
    } else {
        Cow::Borrowed(value.as_bytes())
    }
}

fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    // An escape contains no plus, so each part between plus signs is decoded separately, without allocation.
    text.split('+').enumerate().flat_map(|(number, part)| {
        let space = (number > 0).then_some(b' ');
        space.into_iter().chain(percent_decode_str(part))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn is(query: &str, name: &str, pattern: &str) -> bool {
        matches(Some(query), name, &ValuePattern::parse(pattern).unwrap())
    }

    #[test]
    fn names_and_values_are_decoded() {
        assert!(is("a=1&b=2", "b", "2") && is("%61=%31", "a", "1") && is("a=x+y", "a", "x y"));
        assert!(is("a=1%2B1", "a", "1+1") && is("a=100%", "a", "100%") && is("a=%zz", "a", "%zz"));
        assert!(is("a=%2+0", "a", "%2 0") && is("a=+%+", "a", " % ") && is("+=1", " ", "1"));
        assert!(!is("a=1", "a", "2") && !is("ab=1", "a", "1") && !is("", "", "*"));
        assert!(!matches(None, "a", &ValuePattern::Any));
    }

    #[test]
    fn a_parameter_without_a_value_is_empty_and_any_of_several_values_may_match() {
        assert!(is("flag", "flag", "*") && is("flag&x=1", "flag", "") && is("v=1&v=2", "v", "2"));
        assert!(is("v=a%20b", "v", "~^a b$") && is("v=abc", "v", "~b"));
    }
}
