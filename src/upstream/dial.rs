//! Dialing of an address within a time limit. The errors are distinguished so that the proxy can decide
//! whether to try another endpoint.

use super::Address;
use super::passive_health::Reason;
use crate::runtime::worker_timer;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// A connection could not be established.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address refused the connection.
    #[error("connection refused")]
    Refused,
    /// The time limit passed.
    #[error("connect timed out")]
    TimedOut,
    /// This machine ran out of descriptors, ports or memory; the endpoint is not at fault.
    #[error("no resources for a connection: {0}")]
    Exhausted(io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The backend of an upstream with HTTP/2 accepts no HTTP/1.1 (ALPN, RFC 7301 §3.2).
    #[error("the backend has no HTTP/1.1")]
    NoHttp1,
    /// The certificate is not trusted or has another name.
    #[error("certificate rejected: {0}")]
    Certificate(rustls::Error),
    /// Any other error, for example: unreachable, reset, permission denied.
    #[error("connect failed: {0}")]
    Other(io::Error),
}

impl DialError {
    /// The reason token of the failure.
    pub const fn token(&self) -> &'static str {
        match self {
            Self::Exhausted(_) => "no_resources",
            Self::Certificate(_) => "tls_certificate",
            Self::Refused | Self::Other(_) => Reason::Refused.as_str(),
            Self::TimedOut => Reason::ConnectTimeout.as_str(),
            Self::Handshake(_) | Self::NoHttp1 => Reason::Tls.as_str(),
        }
    }

    /// The reason for passive health, if the endpoint is at fault.
    pub const fn fault(&self) -> Option<Reason> {
        match self {
            Self::Exhausted(_) | Self::NoHttp1 => None,
            Self::Refused | Self::Other(_) => Some(Reason::Refused),
            Self::TimedOut => Some(Reason::ConnectTimeout),
            Self::Handshake(_) | Self::Certificate(_) => Some(Reason::Tls),
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            // A Unix socket without a file refuses connections too.
            (io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _) => Self::Refused,
            (io::ErrorKind::TimedOut, _) => Self::TimedOut,
            (io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory, _) => Self::Exhausted(error),
            (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)) => Self::Exhausted(error),
            _ => Self::Other(error),
        }
    }
}

/// A connection without TLS.
#[derive(Debug)]
pub enum PlainStream {
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Connects to `target` within `limit`. TCP connections get `TCP_NODELAY`, so that no frame waits for the
/// acknowledgement of the one before it.
///
/// # Errors
/// [`DialError`], within `limit` in every case.
pub async fn dial(target: &Address, limit: Duration) -> Result<PlainStream, DialError> {
    worker_timer::timeout(limit, connect(target)).await.unwrap_or(Err(DialError::TimedOut))
}

/// Connects without a time limit.
pub(super) async fn connect(target: &Address) -> Result<PlainStream, DialError> {
    Ok(match target {
        Address::Tcp(address) => PlainStream::Tcp(tcp(*address).await?),
        Address::Unix(path) => PlainStream::Unix(UnixStream::connect(path).await?),
    })
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

impl AsyncRead for PlainStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use tokio::net::{TcpListener, UnixListener};

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_connection_has_no_nagle() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = dial(&Address::Tcp(listener.local_addr().unwrap()), LIMIT).await.unwrap();
        assert!(matches!(plain, PlainStream::Tcp(stream) if stream.nodelay().unwrap()));
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = dial(&Address::Tcp(address), LIMIT).await.unwrap_err();
        assert!(matches!(error, DialError::Refused), "{error:?}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_dialled_and_a_missing_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ws.sock");
        let error = dial(&Address::Unix(path.clone()), LIMIT).await.unwrap_err();
        assert!(matches!(error, DialError::Refused), "{error:?}");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(dial(&Address::Unix(path), LIMIT).await.unwrap(), PlainStream::Unix(_)));
    }

    #[tokio::test]
    async fn a_full_backlog_times_out() {
        // A backlog of one, filled: the kernel drops further SYNs, so only the limit ends the wait.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let target = Address::Tcp(listener.local_addr().unwrap());
        let mut held = Vec::new();
        for _ in 0..16 {
            match dial(&target, Duration::from_millis(50)).await {
                Ok(plain) => held.push(plain),
                Err(error) => {
                    assert!(matches!(error, DialError::TimedOut), "{error:?}");
                    return;
                }
            }
        }
        panic!("the backlog never filled");
    }
}
