//! A panic in a plugin ends here. On the way without one it costs nothing but an inlining barrier.
//!
//! What a panicking plugin was changing may be half changed: the exchange goes no further, and a plugin's
//! own shared state is as safe as its locks are (a poisoned one makes it panic again, and be reported again).

use moongate_sdk::{CaughtDrop, call_caught};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What `call` returns, or `None` when it panics.
pub(super) fn guard<T>(call: impl FnOnce() -> T) -> Option<T> {
    call_caught(call)
}

/// A future of which every poll is guarded; a panic makes it ready with `None`. Its drop is guarded too: a client that
/// leaves drops what a plugin waits for half-way.
pub struct Guarded<F>(CaughtDrop<F>);

impl<F> Guarded<F> {
    /// Guards this future.
    pub fn new(future: F) -> Self {
        Self(CaughtDrop::new(future))
    }
}

impl<F: Future + Unpin> Future for Guarded<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match guard(|| Pin::new(&mut *self.0).poll(context)) {
            Some(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Some(Poll::Pending) => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
