//! The header field `tracestate` (W3C Trace Context §3.3): entries of other tracing systems, passed on as received.
//! A field that violates the syntax is discarded.

use http::{HeaderMap, HeaderName};

/// The field of other systems' entries.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The maximum number of entries (§3.3.1.1).
const MOST_ENTRIES: usize = 32;

/// The maximum length of a key, of a key's tenant and system parts, and of a value.
const LONGEST_KEY: usize = 256;
const LONGEST_TENANT: usize = 241;
const LONGEST_SYSTEM: usize = 14;
const LONGEST_VALUE: usize = 256;

/// The fields `tracestate` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TraceState {
    /// No field.
    Absent,
    /// Valid entries, combined in their order (§3.3.1.5).
    Valid(Box<str>),
    /// A violation of the syntax.
    Invalid,
}

impl TraceState {
    /// Reads the fields of a request.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut combined = String::new();
        let mut entries = 0;
        for value in fields.get_all(TRACESTATE) {
            let Ok(value) = value.to_str() else { return Self::Invalid };
            // Empty entries are allowed.
            for entry in
                value.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|e| !e.is_empty())
            {
                entries += 1;
                if entries > MOST_ENTRIES || !is_entry(entry) {
                    return Self::Invalid;
                }
                if entries > 1 {
                    combined.push(',');
                }
                combined.push_str(entry);
            }
        }
        if entries == 0 { Self::Absent } else { Self::Valid(combined.into()) }
    }
}

fn is_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else { return false };
    // The value was trimmed: it does not end with a space.
    let has_value = (1..=LONGEST_VALUE).contains(&value.len());
    has_value && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=') && is_key(key)
}

fn is_key(key: &str) -> bool {
    match key.split_once('@') {
        None => is_name(key, LONGEST_KEY),
        Some((tenant, system)) => is_name(tenant, LONGEST_TENANT) && is_name(system, LONGEST_SYSTEM),
    }
}

fn is_name(name: &str, longest: usize) -> bool {
    let is_start = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |byte: u8| is_start(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/');
    name.len() <= longest && name.bytes().next().is_some_and(is_start) && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use http::HeaderValue;

    fn state(values: &[&str]) -> TraceState {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(TRACESTATE, HeaderValue::from_str(value).unwrap());
        }
        TraceState::of(&fields)
    }

    #[test]
    fn valid_fields_are_combined_in_order() {
        let combined = state(&["rojo=00f067aa0ba902b7, a@b=x y", "", " ,congo=t61rcWkgMzE"]);
        assert_eq!(combined, TraceState::Valid("rojo=00f067aa0ba902b7,a@b=x y,congo=t61rcWkgMzE".into()));
        assert_eq!(state(&[]), TraceState::Absent);
        assert_eq!(state(&["", " , "]), TraceState::Absent);
        let full = (0..32).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert!(matches!(state(&[&full]), TraceState::Valid(_)));
        assert_eq!(state(&[&full, "one=more"]), TraceState::Invalid);
    }

    #[test]
    fn a_violation_of_the_syntax_is_invalid() {
        let long = |letter: &str, length: usize| letter.repeat(length);
        for bad in [
            "foo",
            "=1",
            "foo=",
            "Foo=1",
            "foo bar=1",
            "foo=1=2",
            "foo@=1",
            "@foo=1",
            "a@b@c=1",
            &format!("{}=1", long("z", 257)),
            &format!("a@{}=1", long("z", 15)),
            &format!("a={}", long("z", 257)),
        ] {
            assert_eq!(state(&[bad]), TraceState::Invalid, "{bad}");
        }
        for good in [&format!("{}=1", long("z", 256)), &format!("a={}", long("z", 256)), "1a-_*/@sys=~"] {
            assert!(matches!(state(&[good]), TraceState::Valid(_)), "{good}");
        }
    }
}
