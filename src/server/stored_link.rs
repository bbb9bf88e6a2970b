//! Link between a process that another one started and the service manager: a pair of sockets, of which the service manager
//! stores one. The next process of the service, which gets the stored one, ends the link as soon as it serves; the service
//! manager ends it when it stores nothing any more.

use super::service_manager::{SocketKeeper, keeps_sockets, remove_descriptors, store_descriptor};
use log::warn;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The name of the stored socket.
pub(super) const LINK_NAME: &str = "moongate-handover";

/// The shortest wait that a socket can have as its limit.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The end that the new process gets. Dropping it takes the other one from the store.
pub(super) struct NewLink {
    end: Option<UnixStream>,
}

impl NewLink {
    /// Stores one end of a new link; without a service manager that stores sockets there is none.
    pub(super) fn store() -> Self {
        if keeps_sockets() == SocketKeeper::None {
            return Self { end: None };
        }
        let end = UnixStream::pair().map(|(own, stored)| {
            store_descriptor(LINK_NAME, stored.as_fd());
            own
        });
        // Without a link the new process drains as soon as it has lost the old one.
        let end = end.inspect_err(|error| warn!(error:%; "no link between service manager and new process"));
        Self { end: end.ok() }
    }

    /// The end to pass.
    pub(super) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Leaves the other end in the store, for the next process of the service.
    pub(super) fn keep(mut self) {
        self.end = None;
    }
}

impl Drop for NewLink {
    fn drop(&mut self) {
        if self.end.is_some() {
            remove_descriptors(LINK_NAME);
        }
    }
}

/// The end of a new process.
#[derive(Debug)]
pub(super) struct ReceivedLink(UnixStream);

impl ReceivedLink {
    /// The passed descriptor; `None` if it is no socket that can be waited for.
    pub(super) fn of(descriptor: OwnedFd) -> Option<Self> {
        let socket = UnixStream::from(descriptor);
        socket.set_nonblocking(false).ok().map(|()| Self(socket))
    }

    /// Waits until the next process of the service serves, or the service manager stores nothing any more; at the longest for
    /// `limit`.
    pub(super) fn wait(&mut self, limit: Option<Duration>) {
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero())
                || self.0.set_read_timeout(left.map(|left| left.max(SHORTEST_WAIT))).is_err()
            {
                return;
            }
            match self.0.read(&mut [0]) {
                // Nothing is written to it.
                Ok(1..) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                    ) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

/// Takes the other end from the store: this process is the main one of the service.
pub(super) fn remove() {
    if keeps_sockets() == SocketKeeper::ServiceManager {
        remove_descriptors(LINK_NAME);
    }
}

/// Ends links that the service manager passed to this process, which serves.
pub(super) fn end_links(links: &[UnixStream]) {
    if links.is_empty() {
        return;
    }
    remove_descriptors(LINK_NAME);
    for link in links {
        // The other end may be gone.
        let _ = link.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_link_ends_with_the_last_copy_of_its_other_end_or_by_a_shutdown_of_one() {
        let pair = || {
            let (own, other) = UnixStream::pair().unwrap();
            (ReceivedLink::of(own.into()).unwrap(), other)
        };
        let (mut link, other) = pair();
        let copy = other.try_clone().unwrap();
        drop(other);
        link.wait(Some(Duration::from_millis(20)));
        drop(copy);
        link.wait(None);
        let (mut link, other) = pair();
        let _copy = other.try_clone().unwrap();
        end_links(&[other]);
        link.wait(None);
    }
}
