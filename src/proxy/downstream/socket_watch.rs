//! Detection of a client's disconnect on a socket that is not read.

use std::future::{Future, pending};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Watches a socket without reading: received bytes stay in the socket, and an end after them is detected.
pub(in crate::proxy) struct SocketWatch {
    socket: OwnedFd,
    interest: Interest,
}

/// Ready when the client has left.
pub(in crate::proxy) type DisconnectFuture = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl SocketWatch {
    /// Watches a duplicate of a client's socket. With `finishes`, a half-close is not a disconnect.
    pub(in crate::proxy) fn new(socket: OwnedFd, finishes: bool) -> Self {
        Self { socket, interest: if finishes { Interest::WRITABLE } else { Interest::READABLE } }
    }

    /// Ready when the client has left.
    pub(in crate::proxy) fn gone(self) -> DisconnectFuture {
        Box::pin(async move {
            // Without a watch, the next write detects the disconnect.
            if wait(self).await.is_err() {
                pending::<()>().await;
            }
        })
    }
}

async fn wait(SocketWatch { socket, interest }: SocketWatch) -> io::Result<()> {
    // Also for a Unix socket: only readiness is used, which is registered in the same way.
    let socket = TcpStream::from_std(std::net::TcpStream::from(socket))?;
    loop {
        let ready = socket.ready(interest).await?;
        if ready.is_read_closed() || ready.is_write_closed() {
            return Ok(());
        }
        // Clears the readiness, since nothing is read or written here.
        let _ = socket.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}
