//! Handles to series that are registered at their first use.
//!
//! Compiling a configuration creates handles and registers nothing, so that a configuration that is checked or
//! refused leaves no series. The commit of a generation registers its handles while the previous generation
//! still holds the same series, so that their counts continue.

use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

/// A handle that is made by its first use or by [`LazyHandle::register`].
pub struct LazyHandle<H>(LazyLock<H, Box<dyn FnOnce() -> H + Send>>);

impl<H> LazyHandle<H> {
    /// A handle that `register` will make.
    pub fn new(register: impl FnOnce() -> H + Send + 'static) -> Self {
        Self(LazyLock::new(Box::new(register)))
    }

    /// Makes the handle, if nothing has used it yet.
    pub fn register(&self) {
        LazyLock::force(&self.0);
    }
}

impl<H> Deref for LazyHandle<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: fmt::Debug> fmt::Debug for LazyHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::LazyHandle;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn a_handle_is_made_once_and_not_before_its_use() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let handle = LazyHandle::new(move || counter.fetch_add(1, Relaxed));
        assert_eq!(made.load(Relaxed), 0);
        handle.register();
        assert_eq!((*handle, made.load(Relaxed)), (0, 1));
    }
}
