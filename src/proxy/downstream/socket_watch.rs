//! A watch on a socket of which nothing is read, for the departure of its client.

use std::future::{Future, pending};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Watches a socket of which nothing is read: what came is left there, and the end behind it is found.
pub(in crate::proxy) struct SocketWatch {
    socket: OwnedFd,
    interest: Interest,
}

/// Ready when the client has left.
pub(in crate::proxy) type DisconnectFuture = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl SocketWatch {
    /// For the other handle of a client's socket; `finishes`: the end of its direction alone is no departure.
    pub(in crate::proxy) fn new(socket: OwnedFd, finishes: bool) -> Self {
        Self { socket, interest: if finishes { Interest::WRITABLE } else { Interest::READABLE } }
    }

    /// Ready when the client has left.
    pub(in crate::proxy) fn gone(self) -> DisconnectFuture {
        Box::pin(async move {
            // Without a watch the client is noticed when its response is written.
            if wait(self).await.is_err() {
                pending::<()>().await;
            }
        })
    }
}

async fn wait(SocketWatch { socket, interest }: SocketWatch) -> io::Result<()> {
    // Also a Unix socket: it is only waited for, and every one is registered alike.
    let socket = TcpStream::from_std(std::net::TcpStream::from(socket))?;
    loop {
        let ready = socket.ready(interest).await?;
        if ready.is_read_closed() || ready.is_write_closed() {
            return Ok(());
        }
        // Nothing is read or written here, so the runtime is told to wait for the next event.
        let _ = socket.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}
