//! Signals, taken in the first line of `main`: the default action of SIGHUP, SIGUSR1 and SIGUSR2 would end the
//! process, and an operator's script may send one the moment it knows the process id.
//!
//! Until a gateway serves, SIGINT, SIGTERM and SIGQUIT end the process by their default actions, whatever it waits for;
//! in a command that serves nothing, all others do too.

use super::shutdown_deadline::Deadline;
use super::signal_request::Ask;
use log::warn;
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::io;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Who follows signals now.
enum Phase {
    /// Nobody yet. Signals that would not end the process wait in here, none is lost.
    Starting(Vec<i32>),
    /// A command that serves nothing: every signal has its default action.
    Command,
    /// A gateway.
    Serving(Serving),
}

struct Serving {
    asks: UnboundedSender<Ask>,
    reopen: Arc<Notify>,
    deadline: Deadline,
}

/// Signals that were taken from their default actions.
pub struct SignalReceiver(Arc<Mutex<Phase>>);

impl SignalReceiver {
    /// Takes the signals from their default actions.
    ///
    /// # Errors
    /// What the kernel says when it refuses a handler, or a thread.
    pub fn take() -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2])?;
        let phase = Arc::new(Mutex::new(Phase::Starting(Vec::new())));
        let taken = Self(Arc::clone(&phase));
        // It lives as long as the process.
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                phase.lock().handle(signal);
            }
        })?;
        Ok(taken)
    }

    /// Gives every signal its default action back: the command serves nothing, and should end on any of them.
    pub fn release(self) {
        let before = std::mem::replace(&mut *self.0.lock(), Phase::Command);
        if let Phase::Starting(waiting) = before {
            waiting.into_iter().for_each(default_action);
        }
    }

    /// Hands them on. SIGUSR1 notifies `reopen`, also while the process drains. `deadline` sees to it that the process
    /// ends in time.
    pub(super) fn watch(self, reopen: Arc<Notify>, deadline: Deadline) -> UnboundedReceiver<Ask> {
        let (asks, receiver) = unbounded_channel();
        let mut phase = self.0.lock();
        let serving = Phase::Serving(Serving { asks, reopen, deadline });
        let before = std::mem::replace(&mut *phase, serving);
        if let Phase::Starting(waiting) = before {
            waiting.into_iter().for_each(|signal| phase.handle(signal));
        }
        receiver
    }
}

impl Phase {
    fn handle(&mut self, signal: i32) {
        match self {
            Self::Starting(waiting) if matches!(signal, SIGHUP | SIGUSR1 | SIGUSR2) => waiting.push(signal),
            Self::Starting(_) | Self::Command => default_action(signal),
            Self::Serving(serving) => serving.handle(signal),
        }
    }
}

impl Serving {
    fn handle(&mut self, signal: i32) {
        let ask = match signal {
            SIGHUP => Ask::Reload,
            SIGUSR1 => return self.reopen.notify_one(),
            SIGUSR2 => return warn!("SIGUSR2 ignored"),
            SIGINT => Ask::Stop,
            _ => Ask::Drain,
        };
        self.deadline.asked(ask);
        // Who no longer listens is ending already.
        let _ = self.asks.send(ask);
    }
}

fn default_action(signal: i32) {
    // It fails for numbers that are no signal.
    let _ = emulate_default_handler(signal);
}
