//! One attempt at a backend's part of the opening handshake.

use crate::config::UpstreamProtocol;
use crate::proxy::failure::Failure;
use crate::proxy::failure::failed_attempt::FailedAttempt;
use crate::upstream::{Attempts, ProxyAddrs, UpstreamStream};
use crate::websocket::handshake::{self, HandshakeResponse, Request};
use std::time::{Duration, Instant};

/// Sends the handshake to the current endpoint. `limit` covers the connect and the response header. Backends with
/// HTTP/2 over TLS get HTTP/1.1 too, since most of them support WebSockets only there.
pub(in crate::proxy) async fn attempt(
    attempts: &Attempts,
    ends: ProxyAddrs,
    request: &Request,
    limit: Duration,
) -> std::result::Result<(UpstreamStream, HandshakeResponse), FailedAttempt> {
    if attempts.protocol() == Some(UpstreamProtocol::H2c) {
        return Err(Failure::WebSocketOverH2c.into());
    }
    let began = Instant::now();
    let mut stream = attempts.connect_anew(ends, limit).await?;
    let answer = handshake::exchange(&mut stream, request, limit.saturating_sub(began.elapsed())).await?;
    Ok((stream, answer))
}
