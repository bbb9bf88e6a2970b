//! Text of clients and backends as a terminal may show it.

use std::borrow::Cow;

/// The text with controls and invisible formatting characters escaped: they could move the cursor, change the
/// title, or reorder a line.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Controls (C0, DEL, C1), line separators, zero-width and bidirectional formatting.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert_eq!(printable("plain é 😀 \\n \"q\""), "plain é 😀 \\n \"q\"");
        assert_eq!(printable("a\r\nb\tc"), "a\\r\\nb\\tc");
        assert_eq!(printable("\u{1b}]0;title\u{7}"), "\\u{1b}]0;title\\u{7}");
        assert_eq!(
            printable("\u{9b}2J\u{7f}\u{202e}\u{2066}\u{feff}"),
            "\\u{9b}2J\\u{7f}\\u{202e}\\u{2066}\\u{feff}"
        );
    }
}
