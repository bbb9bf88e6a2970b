//! Buffers per thread, lent to the reassembler that needs them: an idle tunnel holds none. State that
//! survives a turn, such as the start of a message, stays in its reassembler.

use bytes::BytesMut;
use std::cell::Cell;

/// Buffers above this size in bytes are freed: they served one long message.
const KEPT: usize = 256 << 10;

thread_local! {
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static PAYLOAD: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Calls `work` with an empty output buffer.
pub(in crate::tunnel) fn lend<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // Taken instead of borrowed, like the read buffer.
    let mut out = OUT.take();
    let result = work(&mut out);
    if out.capacity() <= KEPT {
        out.clear();
        OUT.set(out);
    }
    result
}

/// An empty buffer for a message.
pub(super) fn payload() -> BytesMut {
    PAYLOAD.take().unwrap_or_default()
}

/// Returns a buffer.
pub(super) fn give_back(mut payload: BytesMut) {
    if (1..=KEPT).contains(&payload.capacity()) {
        payload.clear();
        PAYLOAD.set(Some(payload));
    }
}
