//! Tokens of nginx's syntax, by the rules of `ngx_conf_read_token`.

use super::SyntaxError;
use moongate_config::Place;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Word,
    Semicolon,
    Open,
    Close,
    End,
}

/// One token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// The text of a word without quotes and escapes.
    pub(super) text: String,
    pub(super) is_quoted: bool,
    pub(super) place: Place,
}

/// The tokens of a text.
pub(super) struct Tokens<'a> {
    file: Arc<str>,
    rest: Peekable<Chars<'a>>,
    line: u32,
    column: u32,
    /// A closing quote was read: a separator must follow.
    after_quote: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        // A byte order mark, as some editors write it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { file: file.into(), rest: text.chars().peekable(), line: 1, column: 1, after_quote: false }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token, SyntaxError> {
        let after_quote = std::mem::take(&mut self.after_quote);
        if after_quote {
            match self.rest.peek() {
                None => {}
                Some(c) if c.is_ascii_whitespace() || matches!(c, ';' | '{' | ')') => {}
                Some(_) => {
                    return Err(self.error("a space or `;` is missing after the quote", self.here()));
                }
            }
        }
        self.skip_space();
        let place = self.here();
        let Some(&first) = self.rest.peek() else { return Ok(self.token(TokenKind::End, place)) };
        let kind = match first {
            ';' => TokenKind::Semicolon,
            '{' => TokenKind::Open,
            '}' => TokenKind::Close,
            '"' | '\'' => return self.quoted(first, place),
            _ => return Ok(self.word(place)),
        };
        self.bump();
        Ok(self.token(kind, place))
    }

    /// Skips code in another language up to the brace that closes its block.
    pub(super) fn skip_code(&mut self, name: &str, place: &Place) -> Result<(), SyntaxError> {
        let mut depth = 1_usize;
        let mut quote = None;
        while let Some(c) = self.bump() {
            match (quote, c) {
                (None, '{') => depth += 1,
                (None, '}') => depth -= 1,
                (None, '"' | '\'') => quote = Some(c),
                (None, '-') if self.rest.peek() == Some(&'-') => {
                    while self.rest.peek().is_some_and(|c| *c != '\n') {
                        self.bump();
                    }
                }
                (Some(open), c) if open == c => quote = None,
                (Some(_), '\\') => {
                    self.bump();
                }
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.error(&format!("the block of `{name}` is not closed"), place.clone()))
    }

    fn skip_space(&mut self) {
        while let Some(&c) = self.rest.peek() {
            if c == '#' {
                while self.rest.peek().is_some_and(|c| *c != '\n') {
                    self.bump();
                }
            } else if c.is_ascii_whitespace() {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: char, mut place: Place) -> Result<Token, SyntaxError> {
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => {
                    return Err(self.error(&format!("the quote `{quote}` is not closed"), place));
                }
                Some('\\') => self.escape(&mut text),
                Some(c) if c == quote => break,
                Some(c) => text.push(c),
            }
        }
        self.after_quote = true;
        self.widen(&mut place);
        Ok(Token { kind: TokenKind::Word, text, is_quoted: true, place })
    }

    fn word(&mut self, mut place: Place) -> Token {
        let mut text = String::new();
        // nginx reads `${name}` in a word as a variable, not as the start of a block.
        let mut after_dollar = false;
        while let Some(&c) = self.rest.peek() {
            if c.is_ascii_whitespace() || c == ';' || (c == '{' && !after_dollar) {
                break;
            }
            after_dollar = c == '$';
            self.bump();
            if c == '\\' {
                self.escape(&mut text);
            } else {
                text.push(c);
            }
        }
        self.widen(&mut place);
        Token { kind: TokenKind::Word, text, is_quoted: false, place }
    }

    /// The character after a backslash: a quote and a backslash lose it, `\t`, `\r` and `\n` are control characters,
    /// and any other keeps it.
    fn escape(&mut self, text: &mut String) {
        match self.bump() {
            Some(c @ ('"' | '\'' | '\\')) => text.push(c),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(c) => text.extend(['\\', c]),
            None => text.push('\\'),
        }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(c)
    }

    fn here(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, column: self.column, width: 1, path: "".into() }
    }

    /// Extends a place to the current position, if that is on the same line.
    fn widen(&self, place: &mut Place) {
        if self.line == place.line {
            place.width = self.column.saturating_sub(place.column).max(1);
        }
    }

    fn token(&self, kind: TokenKind, place: Place) -> Token {
        Token { kind, text: String::new(), is_quoted: false, place }
    }

    fn error(&self, message: &str, place: Place) -> SyntaxError {
        SyntaxError { message: message.to_owned(), place }
    }
}
