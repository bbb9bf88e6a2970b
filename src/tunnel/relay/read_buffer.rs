//! One read buffer a thread, lent to whichever tunnel is running there. Nothing of it outlives a
//! poll: what could not be written is copied into the tunnel's own backlog.

use crate::websocket::frame::MAX_WITHHELD;
use std::cell::Cell;

/// What is read at once, behind room for what a follower withholds. Large enough that bulk traffic needs few system calls, small enough to stay in the second cache.
pub(super) const SCRATCH: usize = MAX_WITHHELD + (64 << 10);

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffer.
pub(super) fn lend<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out rather than borrowed: should a leg ever poll another relay inside its own read, that
    // one gets a buffer of its own instead of a panic.
    let mut buffer = SPARE.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let result = work(&mut buffer);
    SPARE.set(Some(buffer));
    result
}
