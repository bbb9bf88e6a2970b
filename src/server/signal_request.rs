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

/// Asks this process as SIGTERM does.
pub(super) fn ask_to_drain() {
    // Fails only for invalid signal numbers.
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
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
