//! A panic in a plugin ends here. On the way without one it costs nothing but an inlining barrier.
//!
//! What a panicking plugin was changing may be half changed: the exchange goes no further, and a plugin's
//! own shared state is as safe as its locks are (a poisoned one makes it panic again, and be reported again).

use moongate_sdk::call_caught;

pub use moongate_sdk::Guarded;

/// What `call` returns, or `None` when it panics.
pub(super) fn guard<T>(call: impl FnOnce() -> T) -> Option<T> {
    call_caught(call)
}
