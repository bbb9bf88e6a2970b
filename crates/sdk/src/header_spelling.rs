//! Spellings of a field name that a backend cannot distinguish. CGI (RFC 3875 §4.1.18) and its successors (WSGI,
//! PHP, FastCGI) replace every character other than a letter or a digit by `_`. `X-User`, `X_User` and `X.User` are
//! one variable to them.

use crate::Fields;
use http::HeaderName;

/// Whether two names, in lower case, are the same to such a backend.
#[must_use]
pub fn is_same_spelling(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'_' };
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

/// Removes the other spellings of `name`; `name` itself stays.
pub(crate) fn remove_other_spellings(fields: &mut dyn Fields, name: &HeaderName) {
    let is_other = |other: &&HeaderName| *other != name && is_same_spelling(other.as_str(), name.as_str());
    // Almost no request has one, so the list does not allocate.
    let others: Vec<_> = fields.map().keys().filter(is_other).cloned().collect();
    for other in &others {
        fields.remove(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn every_character_that_is_no_letter_or_digit_is_the_same() {
        for other in ["x_user_1", "x.user-1", "x-user~1", "x!user|1"] {
            assert!(is_same_spelling("x-user-1", other), "{other}");
        }
        for other in ["x-user-2", "x--user-1", "xuser-1", "x-user-1-", "xauser-1"] {
            assert!(!is_same_spelling("x-user-1", other), "{other}");
        }
    }

    #[test]
    fn the_name_itself_stays() {
        let mut fields = HeaderMap::new();
        for name in ["x-user", "x_user", "x.user", "x-users"] {
            fields.append(name, HeaderValue::from_static("1"));
        }
        remove_other_spellings(&mut fields, &HeaderName::from_static("x-user"));
        let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-user", "x-users"]);
    }
}
