//! A script compiled once: all workers load the same bytecode.

use crate::script_error;
use mlua::Error;
use mlua::chunk::Compiler;
use moongate_config::Problem;
use moongate_sdk::LineLimit;
use std::sync::Arc;

/// A compiled script.
pub(crate) struct Script {
    /// Its name in errors and logs.
    pub(crate) name: Arc<str>,
    pub(crate) bytecode: Vec<u8>,
    /// Whether it uses `call`, and so needs a coroutine. Otherwise `call` is not defined.
    pub(crate) waits: bool,
    /// Whether it uses `ctx`, and so has state to keep. Otherwise `ctx` is not defined.
    pub(crate) keeps: bool,
    /// The limit on its log lines.
    pub(crate) lines: LineLimit,
}

impl Script {
    /// Compiles the script.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub(crate) fn compile(name: &str, source: &str) -> Result<Self, Problem> {
        let compiler = Compiler::new().set_optimization_level(2).set_debug_level(1);
        match compiler.compile(source) {
            Ok(bytecode) => {
                let (waits, keeps) = (mentions(source, "call"), mentions(source, "ctx"));
                Ok(Self { name: name.into(), bytecode, waits, keeps, lines: LineLimit::default() })
            }
            Err(Error::SyntaxError { message, .. }) => Err(Problem::new(refused(name, &message))),
            Err(error) => Err(Problem::new(format!("{name}: {}", script_error::cut(&error.to_string())))),
        }
    }
}

/// `3: Expected …` with the script's name before it, in the style of the other problems.
fn refused(name: &str, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    match message.split_once(": ") {
        Some((line, what)) if line.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{name}:{line}: {}", lowered(what))
        }
        _ => format!("{name}: {}", lowered(message)),
    }
}

fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Whether `word` is an identifier in `source`.
fn mentions(source: &str, word: &str) -> bool {
    let letter = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = source.as_bytes();
    source.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        !letter(before) && !letter(bytes.get(at + word.len()))
    })
}
