//! A tunnel's own task: it greets the client and relays until the end. What served the handshake is
//! freed meanwhile.

use super::relay::{self, Tunnel};
use super::{Leg, Outcome};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// `write_timeout: 0s`: longer than any process lives.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Sends the client its 101, relays, and hands the outcome to `ended`. A client that went away before
/// its 101 had no tunnel: `ended` is dropped then.
///
/// # Panics
/// Outside a tokio runtime.
pub fn launch(mut tunnel: Tunnel, switching: Vec<u8>, ended: impl FnOnce(&Outcome) + Send + 'static) {
    tokio::spawn(async move {
        let limit = tunnel.policy.write_timeout.unwrap_or(NEVER);
        if !matches!(timeout(limit, greet(&mut tunnel.client, &switching)).await, Ok(Ok(()))) {
            return;
        }
        drop(switching);
        ended(&relay::run(tunnel).await);
    });
}

async fn greet(client: &mut Leg, switching: &[u8]) -> std::io::Result<()> {
    client.write_all(switching).await?;
    client.flush().await
}
