//! What is wrong when a file is not YAML, in words that say what to type.

use moongate_config::{Place, Problem};
use serde_saphyr::granit_parser::{ErrorKind, ScanError};

/// A syntax error. The caller adds the file.
pub(super) fn problem(error: &ScanError, text: &str) -> Problem {
    let marker = error.marker();
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1);
    let written = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let (problem, at) = match error.kind() {
        ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed => {
            let tab = written.chars().position(|c| c == '\t');
            (Problem::new("a tab cannot indent").help("indent with spaces"), tab)
        }
        // `[::1]:80` reads as a list and something behind it; the message depends on what follows.
        _ if written.contains("[::") => {
            let problem = Problem::new("an address in brackets stands in quotes");
            (problem.help("as in \"[::1]:80\""), written.chars().position(|c| c == '['))
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::ExpectedFlowMappingSeparator
            if written.contains("${") =>
        {
            let problem = Problem::new("`${` reads as an opening brace here");
            (
                problem.help(
                    "within braces or brackets `${NAME}` stands in quotes, a number too: `\"${NAME}\"`",
                ),
                None,
            )
        }
        kind => (worded(kind), None),
    };
    let column = u32::try_from(at.unwrap_or(marker.col()) + 1).unwrap_or(u32::MAX);
    problem.at(&Place { line, column, ..Place::nowhere() })
}

fn worded(kind: &ErrorKind) -> Problem {
    let told = match kind {
        ErrorKind::UnclosedQuotedScalar => ("this quote is not closed", ""),
        ErrorKind::MappingValueNotAllowed => (
            "a `:` is not expected here",
            "is a `:` missing in the line above, or this line indented otherwise? a text with `: ` in it stands in quotes",
        ),
        ErrorKind::InvalidColonPlacement => {
            ("a `:` is not expected here", "is a `[` or `{` above not closed?")
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            ("a key is expected here", "is this line indented as its neighbours are?")
        }
        ErrorKind::ExpectedBlockSequenceEntry => {
            ("`- ` is expected here", "is this line indented as its neighbours are?")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("`:` is missing behind the key", "is this line indented as its neighbours are?")
        }
        ErrorKind::UnexpectedCharacter { character: '%' | '@' | '`' } => {
            ("a value cannot begin like this", "put it in quotes")
        }
        ErrorKind::MissingAnchorOrAliasName => {
            ("`*` and `&` begin aliases and anchors", "a text that begins so stands in quotes")
        }
        ErrorKind::RecursionLimitExceeded => return too_deep(),
        other => return bracketed(other),
    };
    match told {
        (message, "") => Problem::new(message),
        (message, help) => Problem::new(message).help(help),
    }
}

/// What has to do with brackets, and the rest in the parser's own words.
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

/// Deeper than any configuration.
pub(super) fn too_deep() -> Problem {
    Problem::new("nested too deeply")
}

/// `*name` with no `&name` before it.
pub(super) fn unknown_alias(name: &str) -> Problem {
    match name.starts_with('.') || name.is_empty() {
        true => Problem::new("`*` begins an alias in YAML").label(format!("write `\"*{name}\"`")),
        false => Problem::new(format!("the alias `*{name}` names no anchor before it"))
            .help("a text that begins with `*` stands in quotes"),
    }
}

/// A key that is no text.
pub(super) fn odd_key() -> Problem {
    Problem::new("a key must be a word or a text").help("a text that begins with `[` or `{` stands in quotes")
}

/// A key that was given before.
pub(super) fn twice(key: &str) -> Problem {
    Problem::new(format!("key `{key}` is given twice"))
}
