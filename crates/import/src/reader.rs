//! nginx's configuration syntax: a tree of directives with their places, includes resolved.
//!
//! Directives and blocks are read as `ngx_conf_read_token` reads them. The meaning of a name is not known here: any
//! directive may have a block. Blocks of Lua code are skipped by their braces.

mod include;
mod tokens;

pub use include::Files;
pub(crate) use include::{ReadError, Source, read_file, read_text};

use moongate_config::Place;
use tokens::{Token, TokenKind, Tokens};

/// The deepest nesting of blocks and includes. nginx itself nests a handful.
const DEEPEST: usize = 32;

/// One argument of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    /// Its text without quotes and escapes.
    pub(crate) text: String,
    /// Whether it was written in quotes.
    pub(crate) is_quoted: bool,
    /// Its place.
    pub(crate) place: Place,
}

/// One directive.
#[derive(Clone, Debug)]
pub(crate) struct Directive {
    /// Its position among all directives, from 0.
    pub(crate) id: usize,
    /// Its name.
    pub(crate) name: String,
    /// Its arguments.
    pub(crate) arguments: Vec<Argument>,
    /// The directives of its block.
    pub(crate) block: Option<Vec<Directive>>,
    /// The place of its name and arguments.
    pub(crate) place: Place,
}

impl Directive {
    /// The argument at `index`, or empty text.
    pub(crate) fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).map_or("", |argument| &argument.text)
    }

    /// The texts of the arguments.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(|argument| argument.text.as_str())
    }

    /// The directives of its block; none without one.
    pub(crate) fn children(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Name and arguments on one line.
    pub(crate) fn line(&self) -> String {
        // The patterns of a `map` are names, and may be empty.
        let mut line = if self.name.is_empty() { "''".to_owned() } else { self.name.clone() };
        for argument in &self.arguments {
            // The parenthesis of an `if` after a quoted text is a word of its own.
            if !(self.name == "if" && argument.text == ")" && !argument.is_quoted) {
                line.push(' ');
            }
            let needs_quotes =
                argument.text.is_empty() || argument.text.contains([' ', ';', '\t', '\n', '{']);
            if argument.is_quoted || needs_quotes {
                let quote = if argument.text.contains('"') { '\'' } else { '"' };
                line.push(quote);
                line.push_str(&argument.text);
                line.push(quote);
            } else {
                line.push_str(&argument.text);
            }
        }
        line
    }
}

/// A syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// What is wrong.
    pub(crate) message: String,
    /// Where.
    pub(crate) place: Place,
}

/// Reads directives up to the end of the text. `include` is a directive like any other here.
fn parse(file: &str, text: &str, next_id: &mut usize) -> Result<Vec<Directive>, SyntaxError> {
    let mut tokens = Tokens::new(file, text);
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut level = Vec::new();
    loop {
        let token = tokens.next()?;
        match token.kind {
            TokenKind::End => {
                return match open.pop() {
                    None => Ok(level),
                    Some((directive, _)) => Err(SyntaxError {
                        message: format!("the block of `{}` is not closed", directive.name),
                        place: directive.place,
                    }),
                };
            }
            TokenKind::Close => match open.pop() {
                Some((mut directive, outer)) => {
                    directive.block = Some(std::mem::replace(&mut level, outer));
                    level.push(directive);
                }
                None => return Err(error("there is no block that `}` closes", token.place)),
            },
            TokenKind::Open => return Err(error("a block has no name before its `{`", token.place)),
            TokenKind::Semicolon => return Err(error("there is no directive before `;`", token.place)),
            TokenKind::Word => {
                let (mut directive, end) = read_directive(&mut tokens, token, next_id)?;
                if end == TokenKind::Semicolon {
                    level.push(directive);
                } else if directive.name.ends_with("_by_lua_block") {
                    tokens.skip_code(&directive.name, &directive.place)?;
                    directive.block = Some(Vec::new());
                    level.push(directive);
                } else if open.len() >= DEEPEST {
                    return Err(error("blocks are nested too deeply", directive.place));
                } else {
                    open.push((directive, std::mem::take(&mut level)));
                }
            }
        }
    }
}

/// Reads a directive up to its `;` or `{`.
fn read_directive(
    tokens: &mut Tokens<'_>,
    name: Token,
    next_id: &mut usize,
) -> Result<(Directive, TokenKind), SyntaxError> {
    let id = *next_id;
    *next_id += 1;
    let mut directive =
        Directive { id, name: name.text, arguments: Vec::new(), block: None, place: name.place };
    loop {
        let token = tokens.next()?;
        match token.kind {
            TokenKind::Word => {
                if token.place.line == directive.place.line {
                    directive.place.width = (token.place.column + token.place.width)
                        .saturating_sub(directive.place.column)
                        .max(1);
                }
                let Token { text, is_quoted, place, .. } = token;
                directive.arguments.push(Argument { text, is_quoted, place });
            }
            TokenKind::Semicolon | TokenKind::Open => return Ok((directive, token.kind)),
            TokenKind::Close | TokenKind::End => {
                let message = format!("`{}` does not end with `;`", directive.name);
                return Err(SyntaxError { message, place: directive.place });
            }
        }
    }
}

fn error(message: &str, place: Place) -> SyntaxError {
    SyntaxError { message: message.to_owned(), place }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, SyntaxError> {
        parse("nginx.conf", text, &mut 0)
    }

    fn shown(directives: &[Directive]) -> String {
        let mut out = String::new();
        for directive in directives {
            out.push_str(&directive.name);
            for argument in directive.texts() {
                out.push_str(&format!(" <{argument}>"));
            }
            match &directive.block {
                Some(block) => out.push_str(&format!(" {{ {}}} ", shown(block))),
                None => out.push_str("; "),
            }
        }
        out
    }

    #[test]
    fn words_quotes_and_escapes_are_those_of_nginx() {
        for (text, expected) in [
            ("a b  c;", "a <b> <c>; "),
            ("a 'b c' \"d;e\";", "a <b c> <d;e>; "),
            ("a ''; # b\nc;", "a <>; c; "),
            ("a \\.php$ \\\"x;", "a <\\.php$> <\"x>; "),
            (r"a 'it\'s' b\ c;", r"a <it's> <b\ c>; "),
            ("a \"x\\ty\";", "a <x\ty>; "),
            ("a ${b}c;", "a <${b}c>; "),
            ("a x#y;", "a <x#y>; "),
            ("if ($a = \"\") { b; }", "if <($a> <=> <> <)> { b; } "),
            ("location ~ ^/a/(.*)$ {}", "location <~> <^/a/(.*)$> { } "),
            ("a{b;}", "a { b; } "),
            ("a b{c;}d;", "a <b> { c; } d; "),
            ("a \"^/x{2}$\";", "a <^/x{2}$>; "),
            ("content_by_lua_block { if x then y = \"}\" end -- {\n } z;", "content_by_lua_block { } z; "),
        ] {
            assert_eq!(shown(&read(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn errors_have_the_place_of_their_cause() {
        for (text, message, line, column) in [
            ("a", "`a` does not end with `;`", 1, 1),
            ("a b }", "`a` does not end with `;`", 1, 1),
            ("a {\n b;", "the block of `a` is not closed", 1, 1),
            ("a;\n}", "there is no block that `}` closes", 2, 1),
            (";", "there is no directive before `;`", 1, 1),
            (" {", "a block has no name before its `{`", 1, 2),
            ("a \"b", "the quote `\"` is not closed", 1, 3),
            ("a 'b'c;", "a space or `;` is missing after the quote", 1, 6),
            ("a_by_lua_block {", "the block of `a_by_lua_block` is not closed", 1, 1),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(
                (&*error.message, error.place.line, error.place.column),
                (message, line, column),
                "{text}"
            );
        }
        let deep = "a{".repeat(40);
        assert_eq!(read(&deep).unwrap_err().message, "blocks are nested too deeply");
    }

    #[test]
    fn a_line_has_the_quotes_of_the_file() {
        for text in ["if ($a != \"b\");", "a \"b\" c;", "a 'b \"c\"';", "a \"\";", "auth_basic \"A\";"] {
            assert_eq!(read(text).unwrap()[0].line(), text.trim_end_matches(';'));
        }
    }

    #[test]
    fn a_directive_has_the_place_of_its_whole_line() {
        let read = read("http {\n  listen 80 ssl;\n}").unwrap();
        let listen = &read[0].children()[0];
        assert_eq!((listen.place.line, listen.place.column, listen.place.width), (2, 3, 13));
        assert_eq!((listen.id, listen.line()), (1, "listen 80 ssl".to_owned()));
    }
}
