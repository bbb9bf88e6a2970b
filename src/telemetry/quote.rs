//! A text in which a peer may have had a hand, as it can stand in a field of the process's log.

/// Bytes of the text that are told at most. A certificate may have a thousand names, and a line is read by people.
const LONGEST: usize = 400;

/// The text in quotes, cut to 400 bytes, with what would end the field or the line escaped.
pub fn quoted(text: &str) -> String {
    let told = text.floor_char_boundary(LONGEST);
    let rest = if told < text.len() { "…" } else { "" };
    format!("{:?}{rest}", &text[..told])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_s_words_cannot_end_the_field_or_the_line() {
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
