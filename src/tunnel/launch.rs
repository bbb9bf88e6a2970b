//! A tunnel's own task: it greets the client and relays until the end. What served the handshake is
//! freed meanwhile.

use super::relay::{self, Relay, Tunnel};
use super::{Leg, Outcome};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// `write_timeout: 0s`: longer than any process lives.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Sends the client its 101, relays, and hands the outcome to `ended`. A client that went away before
/// its 101 had no tunnel: `ended` is dropped then. One that has its answer already is sent nothing.
///
/// # Panics
/// Outside a tokio runtime.
pub fn launch(tunnel: Tunnel, switching: Vec<u8>, ended: impl FnOnce(&Outcome) + Send + Unpin + 'static) {
    // A plain socket behind a request takes a 101 whole, so the task is made for the relay alone: it is
    // the memory of an idle tunnel.
    let sent = if switching.is_empty() { Ok(0) } else { tunnel.client.try_send(&switching) };
    match sent {
        Ok(sent) if sent == switching.len() => {
            tokio::spawn(Life { relay: Some(relay::run(tunnel)), ended: Some(ended) });
        }
        Ok(sent) => greet_slowly(tunnel, switching, sent, ended),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            greet_slowly(tunnel, switching, 0, ended);
        }
        Err(_) => {}
    }
}

/// For a client that has to be waited for, and for legs that have buffers of their own.
fn greet_slowly(
    mut tunnel: Tunnel,
    switching: Vec<u8>,
    sent: usize,
    ended: impl FnOnce(&Outcome) + Send + Unpin + 'static,
) {
    tokio::spawn(async move {
        let limit = tunnel.policy.write_timeout.unwrap_or(NEVER);
        if !matches!(timeout(limit, greet(&mut tunnel.client, &switching[sent..])).await, Ok(Ok(()))) {
            return;
        }
        drop(switching);
        tokio::spawn(Life { relay: Some(relay::run(tunnel)), ended: Some(ended) });
    });
}

async fn greet(client: &mut Leg, switching: &[u8]) -> io::Result<()> {
    client.write_all(switching).await?;
    client.flush().await
}

/// A relay, and who is told how it ended. Written out because an `async` block would hold the relay
/// twice: as what it was given and as what it waits for.
struct Life<E> {
    relay: Option<Relay>,
    ended: Option<E>,
}

impl<E: FnOnce(&Outcome) + Unpin> Future for Life<E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let life = self.get_mut();
        let Some(relay) = &mut life.relay else { return Poll::Ready(()) };
        let outcome = ready!(Pin::new(relay).poll(cx));
        // What the tunnel held is given back before anybody hears of its end.
        life.relay = None;
        if let Some(ended) = life.ended.take() {
            ended(&outcome);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tokio adds to a task's future: its header, its links and its waker.
    const TASK: usize = 104;

    #[test]
    fn a_tunnel_s_task_fits_the_allocator_s_block_of_896_bytes() {
        // With the boxed `Arc` that a tunnel's log line lives in, as the proxy launches it.
        let told = size_of::<Life<Box<()>>>();
        assert!(told + TASK <= 896, "{told}");
    }
}
