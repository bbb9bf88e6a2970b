//! The start of a request body, kept for a retry.

use bytes::{Bytes, BytesMut};

/// The maximum bytes that are kept.
const MAX_KEPT: usize = 64 << 10;

/// The received parts of a body; none once they exceeded the limit.
#[derive(Debug, Default)]
pub(super) struct RetryBuffer {
    parts: Vec<Bytes>,
    size: usize,
    is_truncated: bool,
}

impl RetryBuffer {
    /// Keeps one more part, without a copy.
    pub(super) fn keep(&mut self, part: &Bytes) {
        if self.is_truncated {
            return;
        }
        self.size += part.len();
        if self.size > MAX_KEPT {
            *self = Self { is_truncated: true, ..Self::default() };
        } else if !part.is_empty() {
            self.parts.push(part.clone());
        }
    }

    /// Returns whether more was received than is kept.
    pub(super) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The kept bytes; `None` without any.
    pub(super) fn kept(&self) -> Option<Bytes> {
        match &self.parts[..] {
            [] => None,
            [one] => Some(one.clone()),
            parts => {
                let mut all = BytesMut::with_capacity(self.size);
                parts.iter().for_each(|part| all.extend_from_slice(part));
                Some(all.freeze())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_whole_or_not_at_all() {
        let mut buffer = RetryBuffer::default();
        assert_eq!((buffer.kept(), buffer.is_truncated()), (None, false));
        buffer.keep(&Bytes::from_static(b"ab"));
        assert_eq!(buffer.kept(), Some(Bytes::from_static(b"ab")));
        buffer.keep(&Bytes::from_static(b"c"));
        assert_eq!(buffer.kept(), Some(Bytes::from_static(b"abc")));
        buffer.keep(&Bytes::from(vec![0; MAX_KEPT - 3]));
        assert!(!buffer.is_truncated());
        buffer.keep(&Bytes::from_static(b"d"));
        assert_eq!((buffer.kept(), buffer.is_truncated()), (None, true));
        buffer.keep(&Bytes::from_static(b"e"));
        assert_eq!((buffer.kept(), buffer.is_truncated()), (None, true));
    }
}
