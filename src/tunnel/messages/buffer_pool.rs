//! One pair of buffers a thread, lent to whichever stage has something to put together: a tunnel between two messages
//! holds none. What outlives a turn, the start of a message, stays with its stage.

use bytes::BytesMut;
use std::cell::Cell;

/// Buffers that grew beyond this are given back to the allocator, in bytes: they served one long message.
const KEPT: usize = 256 << 10;

thread_local! {
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static PAYLOAD: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Runs `work` with an empty buffer for what goes out.
pub(in crate::tunnel) fn lend<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // Taken out rather than borrowed, as the read buffer is.
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

/// Takes one back that is not needed any more.
pub(super) fn give_back(mut payload: BytesMut) {
    if (1..=KEPT).contains(&payload.capacity()) {
        payload.clear();
        PAYLOAD.set(Some(payload));
    }
}
