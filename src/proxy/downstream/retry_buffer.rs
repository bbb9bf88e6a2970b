//! The start of a request body, kept for a retry.

use bytes::{Bytes, BytesMut};

/// The maximum bytes that are kept.
const MAX_KEPT: usize = 64 << 10;

/// The received bytes of a body; none once they exceeded the limit. They are copied: a received part may be a small
/// piece of a large buffer, which it would keep.
#[derive(Debug, Default)]
pub(super) struct RetryBuffer {
    kept: BytesMut,
    is_truncated: bool,
}

impl RetryBuffer {
    /// Keeps one more part.
    pub(super) fn keep(&mut self, part: &[u8]) {
        if self.is_truncated {
            return;
        }
        if self.kept.len() + part.len() > MAX_KEPT {
            *self = Self { is_truncated: true, ..Self::default() };
        } else {
            self.kept.extend_from_slice(part);
        }
    }

    /// Returns whether more was received than is kept.
    pub(super) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The kept bytes; `None` without any.
    pub(super) fn kept(&self) -> Option<Bytes> {
        (!self.kept.is_empty()).then(|| self.kept.clone().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_whole_or_not_at_all() {
        let mut buffer = RetryBuffer::default();
        assert_eq!((buffer.kept(), buffer.is_truncated()), (None, false));
        buffer.keep(b"ab");
        buffer.keep(b"c");
        assert_eq!(buffer.kept(), Some(Bytes::from_static(b"abc")));
        buffer.keep(&vec![0; MAX_KEPT - 3]);
        assert!(!buffer.is_truncated());
        buffer.keep(b"d");
        assert_eq!((buffer.kept(), buffer.is_truncated()), (None, true));
        buffer.keep(b"e");
        assert_eq!((buffer.kept(), buffer.is_truncated()), (None, true));
    }

    #[test]
    fn small_parts_of_large_buffers_take_no_more_memory_than_their_bytes() {
        let mut buffer = RetryBuffer::default();
        for _ in 0..1000 {
            let mut part = BytesMut::with_capacity(32 << 10);
            part.extend_from_slice(b"x");
            buffer.keep(&part.freeze());
        }
        assert!(buffer.kept.capacity() < 4 << 10, "{}", buffer.kept.capacity());
    }
}
