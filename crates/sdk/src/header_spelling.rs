//! Spellings of a field name that a backend cannot distinguish. CGI (RFC 3875 §4.1.18) and its successors (WSGI,
//! PHP, FastCGI) replace every character other than a letter or a digit by `_`. `X-User`, `X_User` and `X.User` are
//! one variable to them.

/// Whether two names, in lower case, are one to such a backend.
#[must_use]
pub fn is_same_spelling(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'_' };
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_that_is_no_letter_or_digit_is_the_same() {
        for other in ["x_user_1", "x.user-1", "x-user~1", "x!user|1"] {
            assert!(is_same_spelling("x-user-1", other), "{other}");
        }
        for other in ["x-user-2", "x--user-1", "xuser-1", "x-user-1-", "xauser-1"] {
            assert!(!is_same_spelling("x-user-1", other), "{other}");
        }
    }
}
