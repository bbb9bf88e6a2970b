//! Fault points of a handover: a test names a step and a signal in the environment, and the process raises the signal at
//! that step. Release builds have none.

/// A step of a handover, by the process that reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The old process has started the new one.
    OldStarted,
    /// The old process has passed its listening sockets.
    OldPassed,
    /// The old process knows that the new one is ready.
    OldReady,
    /// The old process has ordered the new one to serve.
    OldOrdered,
    /// The old process knows that the new one serves.
    OldServing,
    /// The old process has stopped a batch of WebSockets.
    OldStopped,
    /// The old process has sent a batch.
    OldSent,
    /// The old process has the confirmation of a batch, and has released it.
    OldReleased,
    /// The new process has its channel.
    NewStarted,
    /// The new process has the listening sockets.
    NewPassed,
    /// The new process has said that it is ready.
    NewReady,
    /// The new process has the order to serve.
    NewOrdered,
    /// The new process has said that it serves.
    NewServing,
    /// The new process has received a batch.
    NewReceived,
    /// The workers of the new process have a batch, which is not confirmed yet.
    NewAdopted,
    /// The new process has confirmed a batch.
    NewConfirmed,
}

#[cfg(not(debug_assertions))]
pub(super) fn reach(_: Step) {}

/// Raises the signal of the environment if it is for this step: for example `SIGKILL NewAdopted 2` at the second batch.
#[cfg(debug_assertions)]
pub(super) fn reach(step: Step) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static FAULT: LazyLock<Option<Fault>> =
        LazyLock::new(|| Fault::parse(&std::env::var("MOONGATE_TEST_HANDOVER_FAULT").ok()?));
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    if let Some(fault) = FAULT.as_ref().filter(|fault| fault.step == format!("{step:?}"))
        && REACHED.fetch_add(1, Relaxed) + 1 == fault.turn
    {
        // A signal to this thread: it does not leave the step before the process is stopped or ended.
        let _ = signal_hook::low_level::raise(fault.signal);
    }
}

#[cfg(debug_assertions)]
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    signal: i32,
    step: String,
    /// The number of the time that the step is reached.
    turn: usize,
}

#[cfg(debug_assertions)]
impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let signal = match words.next()? {
            "SIGKILL" => signal_hook::consts::SIGKILL,
            "SIGSTOP" => signal_hook::consts::SIGSTOP,
            "SIGABRT" => signal_hook::consts::SIGABRT,
            _ => return None,
        };
        let step = words.next()?.to_owned();
        Some(Self { signal, step, turn: words.next().map_or(Some(1), |turn| turn.parse().ok())? })
    }
}
