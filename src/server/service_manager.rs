//! Notifications to the service manager (systemd), if it started the process: states, and the sockets that it keeps
//! while the process restarts or after a crash (`FileDescriptorStoreMax=`).

use super::bind::BoundListener;
use log::warn;
use sd_notify::NotifyState;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The name of the sockets in the store. They are told apart by their addresses.
pub(super) const STORED_NAME: &str = "moongate";

/// The maximum number of descriptors in one message (unix(7)) is 253.
const MOST_IN_MESSAGE: usize = 200;

/// What keeps the sockets of a process that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketKeeper {
    /// They end with the process.
    None,
    /// The service manager, for the next process.
    ServiceManager,
    /// The new process of a handover.
    NextProcess,
}

/// Sends states.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(false, states);
}

/// Returns what keeps the sockets when the process ends.
pub(super) fn keeps_sockets() -> SocketKeeper {
    match most_stored() {
        0 => SocketKeeper::None,
        _ => SocketKeeper::ServiceManager,
    }
}

/// The number of descriptors that the service manager stores: systemd sets `FDSTORE` to it.
fn most_stored() -> usize {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return 0;
    }
    std::env::var("FDSTORE").ok().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Stores a descriptor under a name.
pub(super) fn store_descriptor(name: &str, descriptor: BorrowedFd<'_>) {
    send(name, &[descriptor]);
}

/// Takes the descriptors with a name from the store.
pub(super) fn remove_descriptors(name: &str) {
    notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// Stores these sockets in place of all earlier ones.
pub(super) fn store_sockets(sockets: &[Arc<BoundListener>]) {
    if keeps_sockets() == SocketKeeper::None {
        return;
    }
    // One more links a process of a restart or an upgrade.
    let (needed, most) = (sockets.len() + 1, most_stored());
    if needed > most {
        warn!(needed, most; "service manager stores too few sockets (FileDescriptorStoreMax=): connects are refused during a restart");
    }
    remove_descriptors(STORED_NAME);
    let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    send(STORED_NAME, &descriptors);
}

fn send(name: &str, descriptors: &[BorrowedFd<'_>]) {
    for some in descriptors.chunks(MOST_IN_MESSAGE) {
        if let Err(error) =
            sd_notify::notify_with_fds(false, &[NotifyState::FdStore, NotifyState::FdName(name)], some)
        {
            warn!(error:%; "sockets not stored by the service manager");
        }
    }
}
