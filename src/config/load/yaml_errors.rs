//! Messages for YAML syntax errors, each with a fix.

use moongate_config::{Place, Problem};
use serde_saphyr::granit_parser::{ErrorKind, ScanError};

/// The problem for a syntax error, without its file.
pub(super) fn problem(error: &ScanError, text: &str) -> Problem {
    let marker = error.marker();
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1);
    let written = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let (problem, at) = match error.kind() {
        ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed => {
            let tab = written.chars().position(|c| c == '\t');
            (Problem::new("a tab is not allowed in indentation").help("indent with spaces"), tab)
        }
        // YAML reads `[::1]:80` as a list and more text; the parser's error depends on that text.
        _ if written.contains("[::") => {
            let problem = Problem::new("an IPv6 address in brackets must be quoted");
            (problem.help("for example \"[::1]:80\""), written.chars().position(|c| c == '['))
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::ExpectedFlowMappingSeparator
            if written.contains("${") =>
        {
            let problem = Problem::new("`${` reads as an opening brace here");
            (
                problem.help("inside braces or brackets, quote `${NAME}`, also for a number: `\"${NAME}\"`"),
                None,
            )
        }
        kind => (problem_of(kind), None),
    };
    let column = u32::try_from(at.unwrap_or(marker.col()) + 1).unwrap_or(u32::MAX);
    problem.at(&Place { line, column, ..Place::nowhere() })
}

fn problem_of(kind: &ErrorKind) -> Problem {
    let message_and_help = match kind {
        ErrorKind::UnclosedQuotedScalar => ("this quote is not closed", ""),
        ErrorKind::MappingValueNotAllowed => (
            "a `:` is not expected here",
            "is a `:` missing in the line above, or is the indentation wrong? text that contains `: ` must be quoted",
        ),
        ErrorKind::InvalidColonPlacement => {
            ("a `:` is not expected here", "is a `[` or `{` above not closed?")
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            ("a key is expected here", "indent this line like the lines around it")
        }
        ErrorKind::ExpectedBlockSequenceEntry => {
            ("`- ` is expected here", "indent this line like the lines around it")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("`:` is missing after the key", "indent this line like the lines around it")
        }
        ErrorKind::UnexpectedCharacter { character: '%' | '@' | '`' } => {
            ("a value cannot start with this character", "put it in quotes")
        }
        ErrorKind::MissingAnchorOrAliasName => {
            ("`*` and `&` start aliases and anchors", "text that starts with them must be quoted")
        }
        ErrorKind::RecursionLimitExceeded => return too_deep(),
        other => return bracketed(other),
    };
    match message_and_help {
        (message, "") => Problem::new(message),
        (message, help) => Problem::new(message).help(help),
    }
}

/// Bracket errors; other kinds keep the parser's message.
fn bracketed(kind: &ErrorKind) -> Problem {
    match kind {
        ErrorKind::UnclosedFlowCollection { open } => Problem::new(format!("`{open}` is not closed")),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            Problem::new(format!("`{open}` is closed by `{close}`"))
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
            Problem::new("`,` or `]` is expected here")
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
            Problem::new("`,` or `}` is expected here")
        }
        other => Problem::new(other.to_string()),
    }
}

/// Nesting beyond the limit.
pub(super) fn too_deep() -> Problem {
    Problem::new("nested too deeply")
}

/// `*name` with no `&name` before it.
pub(super) fn unknown_alias(name: &str) -> Problem {
    match name.starts_with('.') || name.is_empty() {
        true => Problem::new("`*` starts an alias in YAML").label(format!("write `\"*{name}\"`")),
        false => Problem::new(format!("unknown alias `*{name}`; there is no anchor `&{name}` before it"))
            .help("text that starts with `*` must be quoted"),
    }
}

/// A key that is not text.
pub(super) fn odd_key() -> Problem {
    Problem::new("a key must be text").help("text that starts with `[` or `{` must be quoted")
}

/// A repeated key.
pub(super) fn twice(key: &str) -> Problem {
    Problem::new(format!("duplicate key `{key}`"))
}
