//! Tests of fairness: each side is read, however much the other side sends.

use super::*;
use crate::tunnel::Io;
use std::task::ready;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// A connection that uses up tokio's task budget at once, like TLS under load.
struct Spender(DuplexStream);

impl AsyncRead for Spender {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        for _ in 0..200 {
            let _ = pin!(coop::consume_budget()).poll(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Spender {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Io for Spender {
    fn into_records(self: Box<Self>) -> TunnelIo {
        TunnelIo::Boxed(self)
    }
}

fn spender(pipe: DuplexStream) -> TunnelIo {
    TunnelIo::Boxed(Box::new(Spender(pipe)))
}

#[tokio::test]
async fn a_backend_is_read_after_a_client_that_used_up_the_task_budget() {
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, mut backend) = pair().await;
    client.write_all(&question(b"one")).await.unwrap();
    let _relay = tokio::spawn(run(tunnel(spender(near), far, policy(|_| {}))));
    assert_eq!(read(&mut backend, 9).await, question(b"one"));
    for text in [b"two", b"six"] {
        backend.write_all(&answer(text)).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(5), read(&mut client, 5));
        assert_eq!(heard.await.expect("the backend is not heard"), answer(text));
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_goes_on_after_a_client_that_used_up_the_task_s_budget() {
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, _backend) = tokio::io::duplex(1 << 16);
    client.write_all(&question(b"one")).await.unwrap();
    let _relay = tokio::spawn(run(tunnel(spender(near), boxed(far), policy(|_| {}))));
    let pinged = tokio::time::timeout(Duration::from_secs(3600), read_frame(&mut client));
    assert_eq!(pinged.await.expect("no ping arrived").0, 0x89);
}
