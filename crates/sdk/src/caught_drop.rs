//! A holder of a plugin's value that catches a panic of its drop.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Holds a value; a panic in its drop ends here. A plugin's state, futures and the plugin itself are dropped by
/// their last owner: a connection's task, or a reload.
pub struct CaughtDrop<T>(Option<T>);

impl<T> CaughtDrop<T> {
    /// Holds this value.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for CaughtDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("the value is there until the drop"),
        }
    }
}

impl<T> DerefMut for CaughtDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("the value is there until the drop"),
        }
    }
}

impl<T> Drop for CaughtDrop<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // The process's panic hook has logged the panic.
        let _ = call_caught(|| drop(value));
    }
}

/// Returns the result of `call`, or `None` if it panics.
pub fn call_caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // A panic's payload may panic too when it is dropped; the payload of that panic is leaked.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

/// A future whose polls and drop catch panics; a panic makes it ready with `None`. A client that disconnects drops
/// a plugin's future half-way.
pub struct CaughtFuture<F>(CaughtDrop<F>);

impl<F> CaughtFuture<F> {
    /// Wraps this future.
    pub fn new(future: F) -> Self {
        Self(CaughtDrop::new(future))
    }
}

impl<F: Future + Unpin> Future for CaughtFuture<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match call_caught(|| Pin::new(&mut *self.0).poll(context)) {
            Some(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Some(Poll::Pending) => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "these tests are about panics")]
    use super::*;

    struct Grenade;

    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("as the test wants");
        }
    }

    #[test]
    fn a_panic_of_a_drop_ends_with_its_holder() {
        drop(CaughtDrop::new(Grenade));
        drop(vec![CaughtDrop::new(Grenade), CaughtDrop::new(Grenade)]);
        let mut held = CaughtDrop::new(1);
        *held += 1;
        assert_eq!(*held, 2);
    }

    #[test]
    fn a_panic_that_carries_a_panic_ends_too() {
        assert_eq!(call_caught(|| 1), Some(1));
        let thrown: Option<()> = call_caught(|| std::panic::panic_any(Grenade));
        assert_eq!(thrown, None);
    }
}
