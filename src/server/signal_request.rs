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
    /// SIGINT, or a second SIGTERM: end at once.
    Stop,
}

/// Waits for a signal that says to end.
pub(super) async fn again(asks: &mut UnboundedReceiver<Ask>) {
    loop {
        match asks.recv().await {
            Some(Ask::Reload) => {}
            Some(Ask::Upgrade) => log::warn!("SIGUSR2 ignored during a shutdown"),
            Some(Ask::Drain | Ask::Stop) | None => return,
        }
    }
}
