//! Signal handling, installed in the first line of `main`. The default action of SIGHUP, SIGUSR1 and SIGUSR2
//! would end the process, and a script may send one as soon as it knows the process ID.
//!
//! Until a gateway serves, SIGINT, SIGTERM and SIGQUIT end the process by their default actions. In a command
//! that does not serve, all others do too.

use super::request_sender::RequestSender;
use super::signal_request::Ask;
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::io;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The receiver of signals.
enum Phase {
    /// None yet. Signals that would not end the process are stored here.
    Starting(Vec<i32>),
    /// A command that does not serve: every signal has its default action, except the given ones, which the command
    /// receives.
    Command(Vec<i32>, UnboundedSender<EndSignal>),
    /// A gateway.
    Serving(Serving),
}

struct Serving {
    requests: RequestSender,
    reopen: Arc<Notify>,
}

/// A signal that ends the process, received by a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndSignal(i32);

impl EndSignal {
    /// Ends the process by the signal's default action, so that the parent sees the signal as the cause.
    pub fn end_process(self) {
        default_action(self.0);
    }
}

/// Installed signal handlers.
pub struct SignalReceiver(Arc<Mutex<Phase>>);

impl SignalReceiver {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The kernel's error when it refuses a handler or a thread.
    pub fn take() -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2])?;
        let phase = Arc::new(Mutex::new(Phase::Starting(Vec::new())));
        let taken = Self(Arc::clone(&phase));
        // The thread lives as long as the process.
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                phase.lock().handle(signal);
            }
        })?;
        Ok(taken)
    }

    /// Restores the default action of every signal, for a command that does not serve.
    pub fn release(self) {
        self.release_except(&[]);
    }

    /// Forwards SIGINT, for a command that ends itself then; every other signal has its default action.
    pub fn forward_interrupt(self) -> UnboundedReceiver<EndSignal> {
        self.release_except(&[SIGINT])
    }

    /// Forwards the signals that end a process, for a command that must restore the terminal before.
    pub fn forward_end(self) -> UnboundedReceiver<EndSignal> {
        self.release_except(&[SIGINT, SIGTERM, SIGQUIT, SIGHUP])
    }

    fn release_except(self, forwarded: &[i32]) -> UnboundedReceiver<EndSignal> {
        let (signals, receiver) = unbounded_channel();
        let mut phase = self.0.lock();
        let before = std::mem::replace(&mut *phase, Phase::Command(forwarded.to_vec(), signals));
        if let Phase::Starting(waiting) = before {
            waiting.into_iter().for_each(|signal| phase.handle(signal));
        }
        receiver
    }

    /// Forwards the signals. SIGUSR1 notifies `reopen`, also during a shutdown.
    pub(super) fn watch(self, reopen: Arc<Notify>, requests: RequestSender) {
        let mut phase = self.0.lock();
        let serving = Phase::Serving(Serving { requests, reopen });
        let before = std::mem::replace(&mut *phase, serving);
        if let Phase::Starting(waiting) = before {
            waiting.into_iter().for_each(|signal| phase.handle(signal));
        }
    }
}

impl Phase {
    fn handle(&mut self, signal: i32) {
        match self {
            Self::Starting(waiting) if matches!(signal, SIGHUP | SIGUSR1 | SIGUSR2) => waiting.push(signal),
            // The receiver is gone only when the process already ends.
            Self::Command(forwarded, signals)
                if forwarded.contains(&signal) && signals.send(EndSignal(signal)).is_ok() => {}
            Self::Starting(_) | Self::Command(..) => default_action(signal),
            Self::Serving(serving) => serving.handle(signal),
        }
    }
}

impl Serving {
    fn handle(&mut self, signal: i32) {
        let ask = match signal {
            SIGHUP => Ask::Reload,
            SIGUSR1 => return self.reopen.notify_one(),
            SIGUSR2 => Ask::Upgrade,
            SIGINT => Ask::Stop,
            _ => Ask::Drain,
        };
        self.requests.ask(ask);
    }
}

fn default_action(signal: i32) {
    // Fails only for invalid signal numbers.
    let _ = emulate_default_handler(signal);
}
