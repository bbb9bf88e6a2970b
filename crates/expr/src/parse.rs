//! Parsing of an expression, and conversion of text offsets to places in the configuration file.
//!
//! The generated parser recurses with the text. It runs on its own thread, whose stack suffices for the longest
//! allowed text; a panic in it ends there too.

use super::Expression;
use super::environment::ENVIRONMENT;
use cel::common::ast::SourceInfo;
use cel::{IdedExpr, ParseErrors};
use moongate_config::{Place, Placed, Problem, Problems};
use std::ops::Range;
use std::thread;

/// Measured: the worst nesting of 4 KiB takes a twentieth of it in a debug build. Only touched pages use memory.
const STACK: usize = 64 << 20;

/// A tree and the offset of each node, in characters.
pub(super) struct ParsedExpr {
    pub(super) root: IdedExpr,
    pub(super) info: SourceInfo,
}

/// A problem at an offset in the text.
#[derive(Debug)]
pub(super) struct ParseError {
    /// In characters.
    pub(super) at: usize,
    pub(super) width: usize,
    pub(super) problem: Problem,
}

impl ParseError {
    /// The problem with its place in the file that contains `text`, `before` characters into it.
    fn into_problem(self, text: &Placed<String>, before: usize) -> Problem {
        self.problem.at(&place(text, before + self.at, self.width))
    }
}

/// The result of `work` on the text, on its own stack: a tree that is too deep must not even be dropped on another
/// one.
///
/// # Errors
/// The problems, with their places.
pub(super) fn with<T: Send + 'static>(
    text: &Placed<String>,
    part: Range<usize>,
    work: impl FnOnce(ParsedExpr) -> Result<T, Vec<ParseError>> + Send + 'static,
) -> Result<T, Problems> {
    let source = text.get(part.clone()).unwrap_or_default().to_owned();
    if source.len() > Expression::SOURCE_MAX {
        let most = Expression::SOURCE_MAX;
        return Err(Problem::new(format!("the expression is longer than {most} bytes"))
            .at(&text.place)
            .into());
    }
    if source.trim().is_empty() {
        return Err(Problem::new("the expression is empty").at(&text.place).into());
    }
    let thread = thread::Builder::new().name("expression".to_owned()).stack_size(STACK);
    let outcome = match thread.spawn(move || parse(&source).and_then(work)) {
        Ok(thread) => thread.join(),
        Err(error) => {
            let problem = Problem::new(format!("cannot start a thread to parse the expression: {error}"));
            return Err(problem.at(&text.place).into());
        }
    };
    match outcome {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(wrong)) => {
            let before = text.get(..part.start).map_or(0, |before| before.chars().count());
            Err(Problems(wrong.into_iter().map(|wrong| wrong.into_problem(text, before)).collect()))
        }
        Err(_) => Err(Problem::new("the expression cannot be parsed").at(&text.place).into()),
    }
}

fn parse(source: &str) -> Result<ParsedExpr, Vec<ParseError>> {
    match ENVIRONMENT.parser().parse_with_source_info(source) {
        Ok((root, info)) => Ok(ParsedExpr { root, info }),
        Err(errors) => Err(vec![first(source, errors)]),
    }
}

/// The first problem; the others follow from it.
fn first(source: &str, errors: ParseErrors) -> ParseError {
    let error = errors.errors.into_iter().find(|error| error.pos.0 > 0);
    // Line and column count from 1.
    let (line, column, message) = match &error {
        Some(error) => (error.pos.0, error.pos.1, error.msg.as_str()),
        None => (1, 1, "it is not an expression"),
    };
    let from_zero = |n: isize| usize::try_from(n - 1).unwrap_or(0);
    let lines = source.split_inclusive('\n').take(from_zero(line));
    let at = lines.map(|line| line.chars().count()).sum::<usize>() + from_zero(column);
    let (width, problem) = reword(message);
    ParseError { at, width, problem }
}

/// The generated parser's message in the words of this crate.
fn reword(message: &str) -> (usize, Problem) {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let quoted = |from: &str| message.strip_prefix(from).map(|rest| until_quote(rest).to_owned());
    if message.contains("Recursion limit") {
        return (1, too_deep());
    }
    if let Some(token) = quoted("token recognition error at: '") {
        let problem = Problem::new(format!("`{}` is not valid in an expression", token.trim_end()));
        return (
            1,
            match token.trim_end() {
                "=" => problem.label("write `==` to compare"),
                "&" => problem.label("write `&&`"),
                "|" => problem.label("write `||`"),
                open if open.starts_with(['\'', '"']) => Problem::new("the text has no closing quote"),
                _ => problem,
            },
        );
    }
    for from in ["mismatched input '", "extraneous input '", "no viable alternative at input '"] {
        match quoted(from).as_deref() {
            Some("<EOF>") => return (1, Problem::new("the expression ends too early")),
            Some(token) => {
                let width = token.chars().count().max(1);
                return (width, Problem::new(format!("`{token}` is not expected here")));
            }
            None => {}
        }
    }
    if let Some((missing, at)) = quoted_pair(message) {
        let problem = match at {
            "<EOF>" => Problem::new("the expression ends too early"),
            _ => Problem::new(format!("`{at}` is not expected here")),
        };
        return (1, problem.label(format!("`{missing}` is missing")));
    }
    if let Some(syntax) =
        message.strip_prefix("unsupported syntax '").and_then(|rest| rest.strip_suffix('\''))
    {
        return (syntax.chars().count(), Problem::new(format!("`{syntax}` is not supported")));
    }
    if let Some(name) = message.strip_prefix("reserved identifier: ") {
        let problem = Problem::new(format!("`{name}` is a reserved word"));
        return (name.chars().count(), problem);
    }
    (1, Problem::new(format!("the expression cannot be parsed: {message}")))
}

/// The two tokens of `missing 'a' at 'b'`.
fn quoted_pair(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("missing '")?.strip_suffix('\'')?.split_once("' at '")
}

fn until_quote(text: &str) -> &str {
    let end = text.find("' expecting").or_else(|| text.rfind('\'')).unwrap_or(text.len());
    &text[..end]
}

pub(super) fn too_deep() -> Problem {
    Problem::new("the expression is nested too deeply").help("at most 32 levels are allowed")
}

/// The place of a character of a scalar, as exactly as the scalar's own place allows.
fn place(text: &Placed<String>, at: usize, width: usize) -> Place {
    let whole = &text.place;
    let length = text.value.chars().count();
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let within = |opening: usize| Place {
        column: whole.column.saturating_add(narrow(at + opening)),
        width: narrow(width.min(length.saturating_sub(at)).max(1)),
        ..whole.clone()
    };
    match whole.width as usize {
        // Unquoted, or quoted without an escape.
        exact if exact == length => within(0),
        quoted if quoted == length + 2 => within(1),
        // A block: its place is the start of its text, and each of its lines starts in that column.
        1 => {
            let before: Vec<char> = text.value.chars().take(at).collect();
            let lines = before.iter().filter(|c| **c == '\n').count();
            let inside = before.iter().rev().take_while(|c| **c != '\n').count();
            let rest = text.value.chars().skip(at).take_while(|c| *c != '\n').count();
            Place {
                line: whole.line.saturating_add(narrow(lines)),
                column: whole.column.saturating_add(narrow(inside)),
                width: narrow(width.min(rest).max(1)),
                ..whole.clone()
            }
        }
        _ => whole.clone(),
    }
}
