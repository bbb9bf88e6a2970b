//! Pieces of text with nginx's variables, and literals of expressions (CEL).

use std::fmt::{self, Write as _};

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Variable(String),
}

/// The literals and variables of a text.
pub(crate) fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        literal.push_str(before);
        let word =
            |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, next) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, next)) if word(name) == name.len() => (name, next),
            // A capture has one digit.
            _ if after.starts_with(|c: char| c.is_ascii_digit()) => after.split_at(1),
            _ => after.split_at(word(after)),
        };
        if name.is_empty() {
            literal.push('$');
        } else {
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(name.to_owned()));
        }
        rest = next;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    parts
}

/// The only variable of a text that is nothing else.
pub(crate) fn sole_variable(text: &str) -> Option<String> {
    match parts(text).as_slice() {
        [Part::Variable(name)] => Some(name.clone()),
        _ => None,
    }
}

/// Text as a CEL literal.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An expression in parentheses, if it has operators.
pub(crate) fn grouped(expression: String) -> String {
    if expression.contains(' ') && !is_literal(&expression) && !is_grouped(&expression) {
        format!("({expression})")
    } else {
        expression
    }
}

/// Whether an expression is one literal of text.
fn is_literal(expression: &str) -> bool {
    let Some(inner) = expression.strip_prefix('"') else { return false };
    let mut is_escaped = false;
    let end = inner.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    end.is_some_and(|(at, _)| at + 1 == inner.len())
}

/// Whether one pair of parentheses surrounds an expression.
fn is_grouped(expression: &str) -> bool {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for (at, c) in expression.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at > 0 && at + 1 == expression.len();
        }
    }
    false
}

/// The conjunction of conditions; `None` without one.
pub(crate) fn all_of(conditions: &[String]) -> Option<String> {
    let term = |condition: &String| {
        let is_loose = condition.contains(" ? ") || condition.contains(" || ");
        if is_loose && !is_grouped(condition) { format!("({condition})") } else { condition.clone() }
    };
    match conditions {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(many.iter().map(term).collect::<Vec<_>>().join(" && ")),
    }
}

/// What is wrong in a regular expression that PCRE refuses too; `None` for a feature of PCRE.
fn mistake(error: &str) -> Option<&str> {
    let why = error.lines().rev().find_map(|line| line.strip_prefix("error: "))?;
    ["unclosed", "unopened", "repetition operator missing"]
        .iter()
        .any(|start| why.starts_with(start))
        .then_some(why)
}

/// A regular expression of PCRE in the syntax of our `regex`.
///
/// # Errors
/// It uses a feature that linear-time matching does not have.
pub(crate) fn regex_text(pattern: &str, ignore_case: bool) -> Result<String, NoEquivalent> {
    let mut text = pattern.replace("\\/", "/");
    if ignore_case {
        text.insert_str(0, "(?i)");
    }
    match regex::RegexBuilder::new(&text).size_limit(1 << 20).build() {
        Ok(_) => Ok(text),
        Err(error) => Err(NoEquivalent::Reason(match mistake(&error.to_string()) {
            Some(why) => format!("the regular expression `{pattern}` is not valid: {why}"),
            None => format!(
                "the regular expression `{pattern}` uses look-around, back-references or another feature of PCRE"
            ),
        })),
    }
}

/// The regular expression of `~pattern` or `~*pattern`, as [`regex_text`]; `None` for another text.
pub(crate) fn marked_regex(text: &str) -> Option<Result<String, NoEquivalent>> {
    let pattern = text.strip_prefix('~')?;
    Some(match pattern.strip_prefix('*') {
        Some(pattern) => regex_text(pattern, true),
        None => regex_text(pattern, false),
    })
}

/// Why a text has no equivalent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoEquivalent {
    /// The name of a variable without one.
    Variable(String),
    /// Another reason.
    Reason(String),
}

impl fmt::Display for NoEquivalent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "`${name}` has no equivalent"),
            Self::Reason(reason) => f.write_str(reason),
        }
    }
}

impl From<NoEquivalent> for String {
    fn from(cause: NoEquivalent) -> Self {
        cause.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_with_operators_is_grouped_once() {
        for (expression, expected) in [
            ("request.host", "request.host"),
            (r#""a b""#, r#""a b""#),
            (r#""a\" b""#, r#""a\" b""#),
            (r#""a" + request.host"#, r#"("a" + request.host)"#),
            ("(a ? b : c)", "(a ? b : c)"),
            ("(a) + (b)", "((a) + (b))"),
            (r#"("(" + b)"#, r#"("(" + b)"#),
        ] {
            assert_eq!(grouped(expression.to_owned()), expected);
        }
    }
}
