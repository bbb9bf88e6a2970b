//! Containment of panics in plugins. Without a panic it costs only an inlining barrier.
//!
//! State that a panicking plugin was changing may be inconsistent. The exchange therefore ends, and a
//! plugin's shared state is protected by its locks (a poisoned one panics again and is reported again).

use moongate_sdk::call_caught;

pub use moongate_sdk::CaughtFuture;

/// Returns the result of `call`, or `None` if it panics.
pub(super) fn guard<T>(call: impl FnOnce() -> T) -> Option<T> {
    call_caught(call)
}
