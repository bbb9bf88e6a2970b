//! Quoting of peer-influenced text in a field of the process log.

/// The limit in bytes. A certificate may have a thousand names, and a line must stay readable.
const LONGEST: usize = 400;

/// The text in quotes, cut to 400 bytes, with line feeds and controls escaped.
pub(crate) fn quoted(text: &str) -> String {
    let shown = text.floor_char_boundary(LONGEST);
    let rest = if shown < text.len() { "…" } else { "" };
    format!("{:?}{rest}", &text[..shown])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_cannot_end_the_field_or_the_line() {
        assert_eq!(quoted("no \"a\" here"), "\"no \\\"a\\\" here\"");
        assert_eq!(quoted("a\nERROR b\u{1b}[2J\u{202e}"), "\"a\\nERROR b\\u{1b}[2J\\u{202e}\"");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(quoted(&"a".repeat(LONGEST)), format!("{:?}", "a".repeat(LONGEST)));
        let cut = quoted(&format!("a{}", "ä".repeat(LONGEST)));
        assert_eq!(cut, format!("{:?}…", format!("a{}", "ä".repeat((LONGEST - 1) / 2))));
    }
}
