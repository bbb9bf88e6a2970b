//! Time limit for the SETTINGS frame of a backend with HTTP/2 without TLS, which every server sends first
//! (RFC 9113 §3.4). Pingora's client does not wait for it. Without the limit, a hung process would receive
//! calls for as long as its kernel accepts connections. With TLS the handshake has its limit in the
//! connector.

use super::dial::PlainStream;
use pingora::protocols::l4::ext::get_tcp_info;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// Shuts the connection down if its peer sends nothing within `limit`, which fails the requests on it.
///
/// # Errors
/// When no file descriptor is left to watch it.
pub(super) fn expect(plain: &PlainStream, limit: Duration) -> io::Result<()> {
    let watch = again(plain)?;
    tokio::spawn(async move {
        if tokio::time::timeout(limit, readable(&watch)).await.is_err() {
            end_unless_spoken(&watch);
        }
    });
    Ok(())
}

/// Duplicates the connection's descriptor: readiness is reported to each descriptor separately.
fn again(plain: &PlainStream) -> io::Result<PlainStream> {
    Ok(match plain {
        PlainStream::Tcp(stream) => {
            PlainStream::Tcp(TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())?)
        }
        PlainStream::Unix(stream) => {
            PlainStream::Unix(UnixStream::from_std(stream.as_fd().try_clone_to_owned()?.into())?)
        }
    })
}

async fn readable(plain: &PlainStream) -> io::Result<()> {
    match plain {
        PlainStream::Tcp(stream) => stream.readable().await,
        PlainStream::Unix(stream) => stream.readable().await,
    }
}

fn end_unless_spoken(plain: &PlainStream) {
    let socket = match plain {
        // The kernel's counter is read, since a readiness event may be lost to the other reader.
        PlainStream::Tcp(stream)
            if get_tcp_info(stream.as_raw_fd()).is_ok_and(|info| info.tcpi_bytes_received > 0) =>
        {
            return;
        }
        PlainStream::Tcp(stream) => socket2::SockRef::from(stream),
        PlainStream::Unix(stream) => socket2::SockRef::from(stream),
    };
    // Fails only if the connection is already closed.
    let _ = socket.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::upstream::Address;
    use crate::upstream::dial::dial;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    const LIMIT: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_silent_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mute.sock");
        let _unix = UnixListener::bind(&path).unwrap();
        for to in [Address::Tcp(listener.local_addr().unwrap()), Address::Unix(path)] {
            let mut plain = dial(&to, LIMIT).await.unwrap();
            expect(&plain, SHORT).unwrap();
            let end = tokio::time::timeout(LIMIT, plain.read(&mut [0])).await.unwrap();
            assert_eq!(end.unwrap(), 0, "{to:?}");
        }
    }

    #[tokio::test]
    async fn a_kind_without_settings_is_one_word() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plain = dial(&Address::Tcp(listener.local_addr().unwrap()), LIMIT).await.unwrap();
        expect(&plain, SHORT).unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        other.write_all(b"1").await.unwrap();
        assert_eq!(plain.read(&mut [0]).await.unwrap(), 1);
        // The pause after SETTINGS is longer than the limit and closes nothing.
        assert!(tokio::time::timeout(SHORT * 4, plain.read(&mut [0])).await.is_err());
        other.write_all(b"2").await.unwrap();
        assert_eq!(plain.read(&mut [0]).await.unwrap(), 1);
    }
}
