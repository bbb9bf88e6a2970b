//! Requests to the process by signal.

use tokio::sync::mpsc::UnboundedReceiver;

/// What an operator asks by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: hand over to a new process.
    Upgrade,
    /// SIGTERM or SIGQUIT: let what is under way end, then end.
    Drain,
    /// From the process to itself: the same at once, because another process serves.
    Leave,
    /// SIGINT, or a second SIGTERM: end at once.
    Stop,
}

/// Waits for a signal that says to end at once: SIGINT, or a SIGTERM after the first `expected` ones.
pub(super) async fn again(asks: &mut UnboundedReceiver<Ask>, mut expected: usize) {
    loop {
        match asks.recv().await {
            Some(Ask::Reload | Ask::Leave) => {}
            Some(Ask::Upgrade) => log::warn!("SIGUSR2 ignored during a shutdown"),
            Some(Ask::Drain) if expected > 0 => expected -= 1,
            Some(Ask::Drain | Ask::Stop) | None => return,
        }
    }
}
