//! Tests of the relay: on real sockets where sockets matter, with a paused clock where time does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod bytes;
mod chaos;
mod clocks;
mod ends;
mod failover;
mod limits;
mod messages;
mod peers;
mod taps;
mod tls;
mod turns;

use super::*;
use crate::config::WebSocket;
use crate::telemetry::metrics::{EndpointMetrics, RouteMetrics, TunnelMetrics};
use crate::tunnel::{Initiator, Reason, Registry, TunnelKey};
use crate::websocket::frame::{ControlFrame, Mask};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const KEY: [u8; 4] = [1, 2, 3, 4];

fn policy(change: impl FnOnce(&mut WebSocket)) -> Arc<Policy> {
    let mut written = WebSocket::default();
    change(&mut written);
    Arc::new(Policy::new(&written, None).unwrap())
}

/// Counters of a route with this name.
fn counters(route: &str) -> Counters {
    let (route, endpoint) = (RouteMetrics::of(route), EndpointMetrics::of("test", "test"));
    Counters::new(TunnelMetrics::open(&route, &endpoint))
}

/// The key of a tunnel of the route `chat` at this endpoint.
fn tunnel_key(endpoint: u64) -> TunnelKey {
    TunnelKey {
        endpoint,
        route: "chat".into(),
        route_version: 1,
        generation: 1,
        listener: "".into(),
        protocol: None,
        origin: None,
        drain_part: None,
        connection: None,
    }
}

fn tunnel(client: impl Into<TunnelIo>, backend: impl Into<TunnelIo>, policy: Arc<Policy>) -> Tunnel {
    Tunnel {
        client: client.into(),
        backend: backend.into(),
        client_early: Bytes::new(),
        backend_early: Bytes::new(),
        extensions: Extensions::None,
        policy,
        client_key: None,
        counters: counters("test"),
        member: Arc::<Registry>::default().join(tunnel_key(1)),
        guard: Box::new(()),
        redial: None,
        inspector: None,
        recheck: None,
    }
}

fn boxed(pipe: DuplexStream) -> TunnelIo {
    TunnelIo::Boxed(Box::new(pipe))
}

/// A connected pair of TCP sockets.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (a, b) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (a.unwrap(), b.unwrap().0)
}

/// A client, a backend, and a relay between them over real sockets.
async fn sockets() -> (TcpStream, TcpStream, JoinHandle<Outcome>) {
    let (client, near) = pair().await;
    let (far, backend) = pair().await;
    (client, backend, tokio::spawn(run(tunnel(near, far, policy(|_| {})))))
}

/// The same over pipes of 64 KiB, for tests of time and order.
fn pipes(change: impl FnOnce(&mut WebSocket)) -> (DuplexStream, DuplexStream, JoinHandle<Outcome>) {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, backend) = tokio::io::duplex(1 << 16);
    (client, backend, tokio::spawn(run(tunnel(boxed(near), boxed(far), policy(change)))))
}

/// One frame; `first` is FIN, reserved bits and opcode.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        short @ ..=125 => frame.push(bit | short as u8),
        long @ ..=0xffff => {
            frame.push(bit | 126);
            frame.extend((long as u16).to_be_bytes());
        }
        huge => {
            frame.push(bit | 127);
            frame.extend((huge as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A text message of a client.
fn question(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload, Some(KEY))
}

/// A text message of a backend.
fn answer(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload, None)
}

/// A client's Close frame.
fn leave(code: u16) -> Vec<u8> {
    ControlFrame::close(code, "", Mask::With(KEY)).as_bytes().to_vec()
}

/// A backend's Close frame.
fn dismiss(code: u16) -> Vec<u8> {
    ControlFrame::close(code, "", Mask::Off).as_bytes().to_vec()
}

async fn read(from: &mut (impl AsyncReadExt + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// One frame with its payload unmasked: first byte and payload.
async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> (u8, Vec<u8>) {
    let head = read(from, 2).await;
    let length = match head[1] & 0x7f {
        126 => u16::from_be_bytes(read(from, 2).await.try_into().unwrap()) as usize,
        127 => u64::from_be_bytes(read(from, 8).await.try_into().unwrap()) as usize,
        short => short as usize,
    };
    let key = if head[1] & 0x80 == 0 { vec![0; 4] } else { read(from, 4).await };
    let payload = read(from, length).await;
    (head[0], payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect())
}

/// The code of the next Close frame.
async fn read_close(from: &mut (impl AsyncReadExt + Unpin)) -> u16 {
    let (first, payload) = read_frame(from).await;
    assert_eq!(first, 0x88, "{payload:?}");
    u16::from_be_bytes([payload[0], payload[1]])
}

async fn read_end(from: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}
