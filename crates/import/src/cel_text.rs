//! Pieces of text with nginx's variables, and literals of expressions (CEL).

use std::fmt::Write as _;

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
    if expression.contains(' ') && !expression.starts_with('"') {
        format!("({expression})")
    } else {
        expression
    }
}

/// A regular expression of PCRE in the syntax of our `regex`.
///
/// # Errors
/// It uses a feature that linear-time matching does not have.
pub(crate) fn regex_text(pattern: &str, ignore_case: bool) -> Result<String, String> {
    let mut text = pattern.replace("\\/", "/");
    if ignore_case {
        text.insert_str(0, "(?i)");
    }
    match regex::RegexBuilder::new(&text).size_limit(1 << 20).build() {
        Ok(_) => Ok(text),
        Err(_) => Err(format!(
            "the regular expression `{pattern}` uses look-around, back-references or another feature of PCRE"
        )),
    }
}

/// Why a text has no equivalent: the name of a variable, or a reason.
pub(crate) fn no_equivalent(variable: &str) -> String {
    if variable.contains(' ') { variable.to_owned() } else { format!("`${variable}` has no equivalent") }
}
