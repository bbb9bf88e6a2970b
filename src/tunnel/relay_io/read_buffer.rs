//! One read buffer per thread, lent to the running tunnel. Its content does not survive a poll: unwritten
//! bytes are copied to the tunnel's write buffer.

use crate::websocket::frame::MAX_WITHHELD;
use std::cell::Cell;

/// The read size, after the space for withheld bytes. Large enough for few system calls in bulk traffic,
/// small enough for the L2 cache.
pub(in crate::tunnel) const SCRATCH: usize = MAX_WITHHELD + (64 << 10);

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Calls `work` with the thread's buffer.
pub(in crate::tunnel) fn lend<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken instead of borrowed: if a connection polls another relay inside its read, that relay gets a new
    // buffer instead of a panic.
    let mut buffer = SPARE.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let result = work(&mut buffer);
    SPARE.set(Some(buffer));
    result
}
