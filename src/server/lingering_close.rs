//! Lingering close: half-close, then read and discard what the client still sends, so that a reset does not
//! destroy the last response (RFC 9112 §9.6).

use crate::net::downstream_io::Socket;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A connection that is closed with unread bytes is reset, and the last response is lost.
const TIME: Duration = Duration::from_secs(1);
const BYTES: usize = 64 << 10;

/// Sends `last` and closes the connection, within a second.
pub(super) async fn close(socket: Socket, last: &[u8]) {
    // Errors and timeouts are ignored: the connection is closed in either case.
    let _ = timeout(TIME, linger(socket, last)).await;
}

async fn linger(mut socket: Socket, last: &[u8]) -> io::Result<()> {
    socket.write_all(last).await?;
    socket.shutdown().await?;
    let mut unread = vec![0; 4096];
    let mut left = BYTES;
    loop {
        match socket.read(&mut unread).await? {
            0 => return Ok(()),
            read => left = left.checked_sub(read).ok_or(io::ErrorKind::InvalidData)?,
        }
    }
}
