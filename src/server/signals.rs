//! Signals, taken in the first line of `main`: the default action of SIGHUP, SIGUSR1 and SIGUSR2 would end the
//! process, and an operator's script may send one the moment it knows the process id.

use log::warn;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What an operator asks by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGQUIT: let what is under way end, then end.
    Drain,
    /// SIGINT, or a second SIGTERM: end at once.
    Stop,
}

/// Signals that were taken and not yet looked at; they wait in here, none is lost.
pub struct Taken(Signals);

impl Taken {
    /// Takes the signals from their default actions.
    ///
    /// # Errors
    /// What the kernel says when it refuses a handler.
    pub fn take() -> io::Result<Self> {
        Signals::new([SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2]).map(Self)
    }

    /// Hands them on, from a thread of their own that lives as long as the process. SIGUSR1 notifies `reopen`, also
    /// while the process drains.
    pub fn watch(mut self, reopen: Arc<Notify>) -> io::Result<UnboundedReceiver<Ask>> {
        let (sender, receiver) = unbounded_channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in self.0.forever() {
                let ask = match signal {
                    SIGHUP => Ask::Reload,
                    SIGINT => Ask::Stop,
                    SIGUSR1 => {
                        reopen.notify_one();
                        continue;
                    }
                    SIGUSR2 => {
                        warn!("SIGUSR2 ignored");
                        continue;
                    }
                    _ => Ask::Drain,
                };
                if sender.send(ask).is_err() {
                    return;
                }
            }
        })?;
        Ok(receiver)
    }
}
