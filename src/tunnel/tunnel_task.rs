//! A tunnel's own task: sends the 101 to the client and relays until the end. The state of the handshake is
//! freed meanwhile.

use super::lingering_close;
use super::raw_relay::{self, RawRelay, RawTunnel};
use super::relay::{self, Relay, Tunnel};
use super::{ABNORMAL, Initiator, Outcome, RawState, Reason, Side, TunnelIo, TunnelState};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// `write_timeout: 0s`: longer than any process runs.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Sends the client its 101, relays, and passes the outcome to `ended` in every case: also if the task is
/// dropped at the end of the process, or panics. If the 101 was already sent, nothing is sent.
///
/// # Panics
/// Outside a tokio runtime.
pub fn launch(tunnel: Tunnel, switching: Vec<u8>, ended: impl FnOnce(&Outcome) + Send + Unpin + 'static) {
    // A plain socket accepts a 101 at once, so the task is made for the relay alone: its size is the memory
    // of an idle tunnel.
    let sent = if switching.is_empty() { Ok(0) } else { tunnel.client.try_send(&switching) };
    match sent {
        Ok(sent) if sent == switching.len() => {
            tokio::spawn(TunnelEnd { relay: Some(relay::run(tunnel)), ended: Some(ended) });
        }
        Ok(sent) => greet_slowly(tunnel, switching, sent, ended),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            greet_slowly(tunnel, switching, 0, ended);
        }
        Err(_) => drop(PendingTunnel::new(tunnel, ended)),
    }
}

/// Continues a tunnel of another process; returns whether the state is one. `ended` gets the outcome as in [`launch`].
///
/// # Panics
/// Outside a tokio runtime.
pub fn continue_from(
    tunnel: Tunnel,
    state: TunnelState,
    ended: impl FnOnce(&Outcome) + Send + Unpin + 'static,
) -> bool {
    let Some(relay) = relay::resume(tunnel, state) else { return false };
    tokio::spawn(TunnelEnd { relay: Some(relay), ended: Some(ended) });
    true
}

/// Relays, and passes the outcome to `ended` as [`launch`] does.
///
/// # Panics
/// Outside a tokio runtime.
pub fn launch_raw(tunnel: RawTunnel, ended: impl FnOnce(&Outcome) + Send + Unpin + 'static) {
    tokio::spawn(TunnelEnd { relay: Some(raw_relay::run(tunnel)), ended: Some(ended) });
}

/// Continues a raw relay of another process.
///
/// # Panics
/// Outside a tokio runtime.
pub fn continue_raw(
    tunnel: RawTunnel,
    state: RawState,
    ended: impl FnOnce(&Outcome) + Send + Unpin + 'static,
) {
    tokio::spawn(TunnelEnd { relay: Some(raw_relay::resume(tunnel, state)), ended: Some(ended) });
}

/// For a client that is not writable, and for sides with buffers of their own.
fn greet_slowly(
    tunnel: Tunnel,
    switching: Vec<u8>,
    sent: usize,
    ended: impl FnOnce(&Outcome) + Send + Unpin + 'static,
) {
    let mut unopened = PendingTunnel::new(tunnel, ended);
    unopened.reason = Reason::Aborted;
    tokio::spawn(async move {
        // Moved as a whole, not field by field: its drop reports the end.
        let mut unopened = unopened;
        let Some(tunnel) = &mut unopened.tunnel else { return };
        let limit = tunnel.policy.write_timeout.unwrap_or(NEVER);
        let greeted = timeout(limit, greet(&mut tunnel.client, &switching[sent..])).await;
        unopened.reason = match greeted {
            Ok(Ok(())) => {
                drop(switching);
                if let (Some(tunnel), ended @ Some(_)) = (unopened.tunnel.take(), unopened.ended.take()) {
                    tokio::spawn(TunnelEnd { relay: Some(relay::run(tunnel)), ended });
                }
                return;
            }
            Ok(Err(_)) => Reason::Reset,
            Err(_) => Reason::WriteTimeout,
        };
    });
}

/// A tunnel whose 101 has not been sent. Dropping it ends the tunnel.
struct PendingTunnel<E: FnOnce(&Outcome)> {
    tunnel: Option<Tunnel>,
    ended: Option<E>,
    /// The reason if it is dropped now.
    reason: Reason,
    began: Instant,
}

impl<E: FnOnce(&Outcome)> PendingTunnel<E> {
    fn new(tunnel: Tunnel, ended: E) -> Self {
        Self { tunnel: Some(tunnel), ended: Some(ended), reason: Reason::Reset, began: Instant::now() }
    }
}

impl<E: FnOnce(&Outcome)> Drop for PendingTunnel<E> {
    fn drop(&mut self) {
        let (Some(mut tunnel), Some(ended)) = (self.tunnel.take(), self.ended.take()) else { return };
        let by =
            if self.reason == Reason::Aborted { Initiator::Gateway } else { Initiator::Side(Side::Client) };
        let outcome = Outcome {
            by,
            reason: self.reason,
            code: ABNORMAL,
            messages: [0; 2],
            bytes: [0; 2],
            lifetime: self.began.elapsed(),
            ping_rtt: [None; 2],
        };
        tunnel.counters.ended(&outcome);
        if let Some(inspector) = &mut tunnel.inspector {
            inspector.ended(&outcome);
        }
        drop(tunnel);
        ended(&outcome);
    }
}

async fn greet(client: &mut TunnelIo, switching: &[u8]) -> io::Result<()> {
    client.write_all(switching).await?;
    client.flush().await
}

/// A relay that can be ended from outside.
trait AbortableRelay: Future<Output = Outcome> + Unpin {
    /// Ends it here and now, by no doing of either side.
    fn abort(&mut self) -> Outcome;

    /// The client after the end, if it has not ended its stream although nothing follows.
    fn take_lingering(&mut self) -> Option<TunnelIo> {
        None
    }
}

impl AbortableRelay for Relay {
    fn abort(&mut self) -> Outcome {
        Self::abort(self)
    }

    fn take_lingering(&mut self) -> Option<TunnelIo> {
        Self::take_lingering(self)
    }
}

impl AbortableRelay for RawRelay {
    fn abort(&mut self) -> Outcome {
        Self::abort(self)
    }
}

/// A relay and the receiver of its outcome. Written by hand, because an `async` block would hold the relay
/// twice: as captured and as awaited.
struct TunnelEnd<R: AbortableRelay, E: FnOnce(&Outcome)> {
    relay: Option<R>,
    ended: Option<E>,
}

impl<R: AbortableRelay, E: FnOnce(&Outcome)> TunnelEnd<R, E> {
    /// The tunnel's resources are released before its end is reported.
    fn end(&mut self, outcome: &Outcome) {
        self.relay = None;
        if outcome.reason == Reason::Moved {
            // Its sockets are closed here, and open in the other process.
            self.ended = None;
        }
        if let Some(ended) = self.ended.take() {
            ended(outcome);
        }
    }
}

impl<R: AbortableRelay, E: FnOnce(&Outcome)> Drop for TunnelEnd<R, E> {
    fn drop(&mut self) {
        // The process ends, or the relay panicked.
        let Some(relay) = &mut self.relay else { return };
        let outcome = relay.abort();
        self.end(&outcome);
    }
}

impl<R: AbortableRelay, E: FnOnce(&Outcome) + Unpin> Future for TunnelEnd<R, E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let life = self.get_mut();
        let Some(relay) = &mut life.relay else { return Poll::Ready(()) };
        let outcome = ready!(Pin::new(&mut *relay).poll(cx));
        if let Some(client) = relay.take_lingering().filter(|_| outcome.reason != Reason::Moved) {
            tokio::spawn(lingering_close::close(client));
        }
        life.end(&outcome);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that tokio adds to a task's future: its header, its links and its waker.
    const TASK: usize = 104;

    #[test]
    fn a_tunnel_s_task_fits_the_allocator_s_block_of_896_bytes() {
        // Includes the boxed `Arc` of a tunnel's log entry, as the proxy launches it.
        let size = size_of::<TunnelEnd<Relay, Box<dyn FnOnce(&Outcome)>>>() - size_of::<usize>();
        assert!(size + TASK <= 896, "{size}");
    }
}
