//! A session that Pingora's loop and the hooks of `ProxyHttp` share. Each of them borrows it for a while.

use super::session::Session;
use parking_lot::Mutex;
use pingora::{Error, ErrorType, Result};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A session that Pingora's loop and the hooks share.
#[derive(Clone)]
pub(in crate::proxy) struct SharedSession(Arc<Mutex<Option<Session>>>);

/// A borrowed session, which its drop gives back.
pub(in crate::proxy) struct BorrowedSession {
    shared: SharedSession,
    session: Option<Session>,
}

impl SharedSession {
    pub(in crate::proxy) fn new(session: Session) -> Self {
        Self(Arc::new(Mutex::new(Some(session))))
    }

    /// Without a session.
    pub(in crate::proxy) fn empty() -> Self {
        Self(Arc::default())
    }

    /// Borrows the session.
    ///
    /// # Errors
    /// When it is borrowed already, which is excluded.
    pub(in crate::proxy) fn borrow(&self) -> Result<BorrowedSession> {
        match self.0.lock().take() {
            None => Error::e_explain(ErrorType::InternalError, "the session is borrowed"),
            session => Ok(BorrowedSession { shared: self.clone(), session }),
        }
    }

    /// Takes the session back from a loop that has ended.
    pub(in crate::proxy) fn take(&self) -> Option<Session> {
        self.0.lock().take()
    }
}

impl Deref for BorrowedSession {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a borrowed session")
    }
}

impl DerefMut for BorrowedSession {
    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("a borrowed session")
    }
}

impl Drop for BorrowedSession {
    fn drop(&mut self) {
        *self.shared.0.lock() = self.session.take();
    }
}
