//! Request target of an API call: path segments and query values, percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Display;

/// Everything but the unreserved characters of RFC 3986 §2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path and query of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct RequestTarget(String);

impl RequestTarget {
    /// A path that is sent as it is.
    pub(in crate::cli) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// Adds a segment, encoded.
    #[must_use]
    pub(in crate::cli) fn segment(mut self, segment: &str) -> Self {
        self.0.push('/');
        self.0.extend(utf8_percent_encode(segment, ENCODED));
        self
    }

    /// Adds a query parameter with its value, encoded.
    #[must_use]
    pub(in crate::cli) fn query(mut self, name: &str, value: impl Display) -> Self {
        // Only a query has one: in a segment it is encoded.
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(&value.to_string(), ENCODED));
        self
    }

    /// Adds a query parameter if it has a value.
    #[must_use]
    pub(in crate::cli) fn query_if(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_values_cannot_end_their_place() {
        let target = RequestTarget::new("/api/v1/upstreams").segment("a/b").segment("[::1]:80");
        assert_eq!(target.as_str(), "/api/v1/upstreams/a%2Fb/%5B%3A%3A1%5D%3A80");
        let target = RequestTarget::new("/x").query("filter", "a b&c#d%é").query_if("page", Some(2));
        assert_eq!(target.as_str(), "/x?filter=a%20b%26c%23d%25%C3%A9&page=2");
        assert_eq!(RequestTarget::new("/x").query_if("page", None::<u32>).as_str(), "/x");
    }
}
