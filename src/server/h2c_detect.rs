//! Detection of HTTP/2 with prior knowledge on listeners without TLS. Its preface differs from every HTTP/1
//! request (RFC 9113 §3.4), so the first differing byte decides. A request shorter than the preface does not
//! wait.

use crate::net::downstream_io::Socket;
use bytes::BytesMut;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol of a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DetectedProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The time limit passed without a decision.
    Undecided,
}

/// Reads until the protocol is known; returns the read bytes, at most the preface.
///
/// # Errors
/// When the client disconnected.
pub(super) async fn read(socket: &mut Socket, time: Duration) -> io::Result<(DetectedProtocol, BytesMut)> {
    read_from(socket, time).await
}

async fn read_from(
    socket: &mut (impl AsyncRead + Unpin),
    time: Duration,
) -> io::Result<(DetectedProtocol, BytesMut)> {
    let deadline = Instant::now() + time;
    let mut early = BytesMut::with_capacity(PREFACE.len());
    loop {
        let left = PREFACE.len() - early.len();
        let mut more = [0; PREFACE.len()];
        let Ok(read) = timeout_at(deadline, socket.read(&mut more[..left])).await else {
            return Ok((DetectedProtocol::Undecided, early));
        };
        let read = read?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        early.extend_from_slice(&more[..read]);
        if !PREFACE.starts_with(&early) {
            return Ok((DetectedProtocol::Http1, early));
        }
        if early.len() == PREFACE.len() {
            return Ok((DetectedProtocol::Http2, early));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use tokio::io::AsyncWriteExt;

    const LONG: Duration = Duration::from_secs(10);

    async fn speaks(pieces: &[&[u8]]) -> (DetectedProtocol, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(64);
        let reading = tokio::spawn(async move { read_from(&mut server, LONG).await.unwrap() });
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let (speaks, early) = reading.await.unwrap();
        (speaks, early.to_vec())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_that_differs_decides() {
        for first in ["G", "PO", "PRO", "PRI /", "PRI * HTTP/1"] {
            assert_eq!(
                speaks(&[first.as_bytes()]).await,
                (DetectedProtocol::Http1, first.as_bytes().to_vec())
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_is_known_however_it_is_cut_and_no_byte_behind_it_is_read() {
        let whole = [PREFACE, b"\0\0\0"].concat();
        assert_eq!(speaks(&[&whole]).await, (DetectedProtocol::Http2, PREFACE.to_vec()));
        let bytes: Vec<_> = PREFACE.chunks(1).collect();
        assert_eq!(speaks(&bytes).await, (DetectedProtocol::Http2, PREFACE.to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_undecided_and_keeps_what_came() {
        assert_eq!(speaks(&[]).await, (DetectedProtocol::Undecided, Vec::new()));
        assert_eq!(speaks(&[b"PRI"]).await, (DetectedProtocol::Undecided, b"PRI".to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_is_an_error() {
        let (client, mut server) = tokio::io::duplex(64);
        drop(client);
        assert!(read_from(&mut server, LONG).await.is_err());
    }
}
