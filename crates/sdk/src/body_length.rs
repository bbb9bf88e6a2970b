//! Body length of a request, from its head (RFC 9112 §6.3).

use http::{HeaderMap, header};

/// The length of a request's body, as far as the head defines it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    #[default]
    Empty,
    /// This many bytes.
    Exactly(u64),
    /// There may be a body; its end marks its length.
    Unknown,
}

impl BodyLength {
    /// The length in an HTTP/1 head. An invalid Content-Length, which the gateway rejects, is unknown.
    #[must_use]
    pub fn of_http1(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Self::Unknown;
        }
        match headers.get(header::CONTENT_LENGTH) {
            None => Self::Empty,
            Some(length) => match length.to_str().ok().and_then(|length| length.parse().ok()) {
                Some(0) => Self::Empty,
                Some(length) => Self::Exactly(length),
                None => Self::Unknown,
            },
        }
    }

    /// The number of bytes; `None` if the head does not define it.
    #[must_use]
    pub fn known(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Exactly(length) => Some(length),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_coding_hides_the_length_and_none_is_no_body() {
        for (fields, length) in [
            (&[][..], BodyLength::Empty),
            (&[("content-length", "0")], BodyLength::Empty),
            (&[("content-length", "7")], BodyLength::Exactly(7)),
            (&[("content-length", "many")], BodyLength::Unknown),
            (&[("transfer-encoding", "chunked")], BodyLength::Unknown),
            (&[("content-length", "7"), ("transfer-encoding", "chunked")], BodyLength::Unknown),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(BodyLength::of_http1(&headers), length, "{fields:?}");
        }
    }
}
