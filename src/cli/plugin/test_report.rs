//! Text report of `moongate plugin test`: changed header fields, bodies, messages and log lines by phase.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use moongate_sdk::Reply;
use std::fmt::Write;

/// Characters of a body or message in the report.
const SHOWN: usize = 200;

/// A report under construction: sections, each with a line for every effect of the plugin.
#[derive(Default)]
pub(super) struct Report {
    text: String,
    done: usize,
}

impl Report {
    /// Starts a section.
    pub(super) fn section(&mut self, title: &str) {
        self.print_rest();
        let _ = writeln!(self.text, "{title}");
        self.done = 0;
    }

    /// Adds one effect to the section.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {}", escape_controls(line.as_ref()));
        self.done += 1;
    }

    /// Adds the differences between two headers.
    pub(super) fn fields(&mut self, before: &HeaderMap, after: &HeaderMap) {
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.line(format!("- {name}: {}", join_values(before, name)));
        }
        for name in after.keys() {
            let now = join_values(after, name);
            if !before.contains_key(name) {
                self.line(format!("+ {name}: {now}"));
            } else if join_values(before, name) != now {
                self.line(format!("~ {name}: {} -> {now}", join_values(before, name)));
            }
        }
    }

    /// Adds a changed value.
    pub(super) fn change(&mut self, what: &str, before: &str, after: &str) {
        if before != after {
            self.line(format!("~ {what}: {before} -> {after}"));
        }
    }

    /// Adds a response that the plugin made.
    pub(super) fn reply(&mut self, reply: &Reply) {
        self.line(format!("respond {}", reply.status.as_u16()));
        for name in reply.headers.keys() {
            self.line(format!("  {name}: {}", join_values(&reply.headers, name)));
        }
        if !reply.body.is_empty() {
            self.line(format!("  {}", shown(&reply.body)));
        }
    }

    /// The complete report.
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

/// All values of a field, join_values with commas.
fn join_values(map: &HeaderMap, name: &HeaderName) -> String {
    let values = map.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.collect::<Vec<_>>().join(", ")
}

/// Bytes as quoted text, or their number if they are not UTF-8.
pub(super) fn shown(bytes: &Bytes) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return format!("{} bytes", bytes.len()) };
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… of {} bytes", &text[..end], bytes.len()),
    }
}

/// Replaces control characters: a plugin must not control the terminal.
fn escape_controls(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
