//! What a plugin did, in words: heads compared, bodies and messages shown.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use moongate_sdk::Reply;
use std::fmt::Write;

/// How much of a body or a message is shown, in characters.
const SHOWN: usize = 200;

/// The report on its way: sections with a line for each thing that was done.
#[derive(Default)]
pub(super) struct Report {
    text: String,
    done: usize,
}

impl Report {
    /// Begins a section.
    pub(super) fn section(&mut self, title: &str) {
        self.print_rest();
        let _ = writeln!(self.text, "{title}");
        self.done = 0;
    }

    /// One thing that was done.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {}", harmless(line.as_ref()));
        self.done += 1;
    }

    /// What changed between two heads.
    pub(super) fn fields(&mut self, before: &HeaderMap, after: &HeaderMap) {
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.line(format!("- {name}: {}", joined(before, name)));
        }
        for name in after.keys() {
            let now = joined(after, name);
            if !before.contains_key(name) {
                self.line(format!("+ {name}: {now}"));
            } else if joined(before, name) != now {
                self.line(format!("~ {name}: {} -> {now}", joined(before, name)));
            }
        }
    }

    /// Something that was one thing and is now another.
    pub(super) fn change(&mut self, what: &str, before: &str, after: &str) {
        if before != after {
            self.line(format!("~ {what}: {before} -> {after}"));
        }
    }

    /// An answer of the plugin's own.
    pub(super) fn reply(&mut self, reply: &Reply) {
        self.line(format!("respond {}", reply.status.as_u16()));
        for name in reply.headers.keys() {
            self.line(format!("  {name}: {}", joined(&reply.headers, name)));
        }
        if !reply.body.is_empty() {
            self.line(format!("  {}", shown(&reply.body)));
        }
    }

    /// The report as it is printed.
    pub(super) fn finish(mut self) -> String {
        self.print_rest();
        self.text
    }

    fn print_rest(&mut self) {
        if self.done == 0 && !self.text.is_empty() {
            self.text.push_str("  nothing\n");
        }
    }
}

/// All values of a field.
fn joined(map: &HeaderMap, name: &HeaderName) -> String {
    let values = map.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.collect::<Vec<_>>().join(", ")
}

/// Bytes as a text in quotes, or as their number.
pub(super) fn shown(bytes: &Bytes) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return format!("{} bytes", bytes.len()) };
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… of {} bytes", &text[..end], bytes.len()),
    }
}

/// Without control characters: a plugin must not steer the terminal it is shown on.
fn harmless(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
