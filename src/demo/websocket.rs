//! WebSockets of a demo backend: handshake, a first message, an echo.
//!
//! Frames are handled by tungstenite, not by the gateway's frame code: a backend with the same code would have the
//! same mistakes.

use super::Backend;
use super::request::{Request, RequestError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// RFC 6455 §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The path of health checks: their WebSockets are frequent and not counted.
const PROBE_PATH: &str = "/health";
/// The largest message that is echoed.
const MESSAGE_LIMIT: usize = 16 << 20;
/// Allocated at once per socket: with the default of 128 KiB, a thousand idle sockets take 128 MiB.
const READ_BUFFER: usize = 4 << 10;

/// Checks a handshake (RFC 6455 §4.2.1) and writes the 101.
pub(super) fn accept(request: &Request, backend: &str) -> Result<Vec<u8>, RequestError> {
    if request.method != "GET" {
        return Err(RequestError(405, "Method Not Allowed"));
    }
    if request.field("sec-websocket-version") != Some("13") {
        return Err(RequestError(426, "Upgrade Required"));
    }
    let Some(key) = request.field("sec-websocket-key").filter(|key| sixteen_bytes(key)) else {
        return Err(RequestError(400, "Bad Request"));
    };
    let accept = BASE64_STANDARD.encode(Sha1::digest(format!("{key}{ACCEPT_SUFFIX}")));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nX-Backend: {backend}\r\n\r\n"
    );
    Ok(head.into_bytes())
}

fn sixteen_bytes(key: &str) -> bool {
    BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// Sends the first message, then echoes every text and binary message, until either side closes.
pub(super) async fn echo(stream: TcpStream, early: Vec<u8>, path: &str, backend: &Backend) {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = READ_BUFFER;
    config.write_buffer_size = 0;
    config.max_message_size = Some(MESSAGE_LIMIT);
    config.max_frame_size = Some(MESSAGE_LIMIT);
    let mut socket = WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;

    let counted = (path != PROBE_PATH).then(|| CountedWrites::open(backend));
    let n = counted.as_ref().map_or(0, |counted| counted.n);
    let protocols = json!({ "backend": backend.name, "n": n, "path": path });
    if socket.send(Message::text(protocols.to_string())).await.is_err() {
        return;
    }
    // `next` replies to pings and Close frames.
    while let Some(Ok(message)) = socket.next().await {
        let data = matches!(message, Message::Text(_) | Message::Binary(_));
        if data && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Counts a WebSocket as open until it is dropped.
struct CountedWrites<'a> {
    open: &'a AtomicU64,
    n: u64,
}

impl<'a> CountedWrites<'a> {
    fn open(backend: &'a Backend) -> Self {
        backend.open.fetch_add(1, Ordering::Relaxed);
        Self { open: &backend.open, n: backend.opened.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for CountedWrites<'_> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
