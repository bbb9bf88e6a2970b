//! Lingering close: end the sending direction, then read for a while what the client still sends, so that the last
//! response is not lost by a reset (RFC 9112 §9.6).

use crate::net::downstream_io::Socket;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A connection that is closed while bytes are unread is reset, and what was written last is lost with it.
const TIME: Duration = Duration::from_secs(1);
const BYTES: usize = 64 << 10;

/// Sends `last` and closes the connection, within a second.
pub(super) async fn close(socket: Socket, last: &[u8]) {
    // Neither a slow client nor one that is gone changes anything: the connection is closed.
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
