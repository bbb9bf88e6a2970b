//! Errors of scripts for the operator, one line each: script, line and message.

use mlua::Error;
use std::error::Error as _;

/// The longest error text that is kept; a script can raise megabytes.
const LONGEST: usize = 512;

/// The error in words that begin with the script's name and line, where they are known.
pub(crate) fn text(name: &str, error: &Error) -> String {
    let (traceback, cause) = innermost(error);
    let whole = match cause {
        Error::RuntimeError(message) | Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let summary = whole.split("\nstack traceback:").next().unwrap_or_default();
    let summary = cut(&summary.replace(['\n', '\r'], " "));
    if summary.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')) {
        return summary;
    }
    match line(name, traceback.unwrap_or(&whole)) {
        Some(line) => format!("{name}:{line}: {summary}"),
        None => format!("{name}: {summary}"),
    }
}

/// The line that the script was in.
pub(crate) fn line_of(name: &str, error: &Error) -> Option<u32> {
    let (traceback, cause) = innermost(error);
    traceback.and_then(|traceback| line(name, traceback)).or_else(|| match cause {
        Error::RuntimeError(message) | Error::SyntaxError { message, .. } => line(name, message),
        _ => None,
    })
}

/// Whether the VM ran out of memory.
pub(crate) fn out_of_memory(error: &Error) -> bool {
    let (_, cause) = innermost(error);
    matches!(cause, Error::MemoryError(_))
        || matches!(cause, Error::RuntimeError(message) if message.starts_with("not enough memory"))
}

/// The original error, and its stack.
fn innermost(error: &Error) -> (Option<&str>, &Error) {
    let (mut at, mut stack) = (error, None);
    loop {
        at = match at {
            Error::CallbackError { traceback, cause } => {
                stack = stack.or(Some(traceback.as_str()));
                cause
            }
            Error::WithContext { cause, .. } => cause,
            _ => break,
        };
    }
    // An error of this crate that a script caught and raised again is wrapped as a foreign one.
    if stack.is_none()
        && let Some(Error::CallbackError { traceback, .. }) = at.source().and_then(|s| s.downcast_ref())
    {
        stack = Some(traceback);
    }
    (stack, at)
}

/// The first line number of the script `name` in a stack or a message.
fn line(name: &str, text: &str) -> Option<u32> {
    text.match_indices(name).find_map(|(at, _)| {
        let digits = text[at + name.len()..].strip_prefix(':')?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    })
}

/// At most this much of a text, cut between characters.
pub(crate) fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
