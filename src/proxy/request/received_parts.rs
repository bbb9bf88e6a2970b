//! The parts of a received header that the type of a request header cannot hold.

use crate::proxy::failure::Failure;
use bytes::Bytes;

/// What was received besides method, target, version and fields.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct ReceivedParts {
    /// The size of the header in bytes.
    pub(in crate::proxy) size: usize,
    /// The received target, if the request line has another one.
    pub(in crate::proxy) target: Option<Bytes>,
    /// The request line has no method.
    pub(in crate::proxy) has_no_method: bool,
    /// Why the request is rejected, regardless of later checks: its header is invalid or ambiguous, or the start of
    /// its body is.
    pub(in crate::proxy) refused: Option<Failure>,
}
