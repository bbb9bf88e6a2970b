//! End of the clients of a test, also when the test fails: otherwise it would wait for them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Sets the flag on drop.
pub(crate) struct EndGuard<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
