//! `$` in values: `$$` is one, `${NAME}` is a variable of the environment.

/// Text as a value writes it: `$` is doubled where it would begin a variable or another `$`.
pub fn escape_dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '$' && matches!(rest.peek(), Some('$' | '{')) {
            out.push('$');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_is_doubled_where_it_would_be_read_otherwise() {
        for (text, escaped) in [("$1", "$1"), ("${1}x", "$${1}x"), ("a$$", "a$$$"), ("$", "$")] {
            assert_eq!(escape_dollars(text), escaped);
        }
    }
}
