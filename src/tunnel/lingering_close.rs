//! Lingering close of a client after both Close frames: its input is read and discarded until it ends its stream. Some
//! libraries send a second Close frame, or close late; a closed socket would reset their connection, and they report an error
//! after a clean close.

use super::{TunnelIo, relay_io};
use crate::runtime::worker_timer;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;

/// The limits of a client that does not end its stream.
const TIME: Duration = Duration::from_secs(1);
const BYTES: usize = 64 << 10;

/// Ends the client's stream, and waits within the limits for it to end its own.
pub(super) async fn close(mut client: TunnelIo) {
    let (mut is_shut, mut left) = (false, BYTES);
    let ended = poll_fn(|cx| poll_end(&mut client, &mut is_shut, &mut left, cx));
    // At the limit the connection is closed nevertheless.
    let _ = worker_timer::timeout(TIME, ended).await;
}

fn poll_end(client: &mut TunnelIo, is_shut: &mut bool, left: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    if !*is_shut {
        if ready!(Pin::new(&mut *client).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        *is_shut = true;
    }
    relay_io::lend(|scratch| {
        loop {
            match ready!(client.poll_receive(cx, scratch)) {
                Ok(read @ 1..) if read <= *left => *left -= read,
                _ => return Poll::Ready(()),
            }
        }
    })
}
