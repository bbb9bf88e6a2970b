//! One attempt at a backend's part of the opening handshake.

use crate::config::UpstreamProtocol;
use crate::proxy::failure::Failure;
use crate::proxy::failure::failed_attempt::FailedAttempt;
use crate::upstream::{Attempts, ProxyAddrs, UpstreamStream};
use crate::websocket::handshake::{Exchange, HandshakeResponse, NextResponse, Request};
use std::time::{Duration, Instant};

/// A handshake that was sent to an endpoint.
pub(in crate::proxy) struct HandshakeAttempt {
    stream: UpstreamStream,
    exchange: Exchange,
}

impl HandshakeAttempt {
    /// Sends the handshake to the current endpoint. `limit` covers the connect and the response header. Backends with
    /// HTTP/2 over TLS get HTTP/1.1 too, since most of them support WebSockets only there.
    pub(in crate::proxy) async fn begin(
        attempts: &Attempts,
        ends: ProxyAddrs,
        request: &Request,
        limit: Duration,
    ) -> std::result::Result<Self, FailedAttempt> {
        if attempts.protocol() == Some(UpstreamProtocol::H2c) {
            return Err(Failure::WebSocketOverH2c.into());
        }
        let began = Instant::now();
        let mut stream = attempts.connect_anew(ends, limit).await?;
        let left = limit.saturating_sub(began.elapsed());
        let exchange = Exchange::send(&mut stream, request, left).await?;
        Ok(Self { stream, exchange })
    }

    /// The next response, and interim ones before it.
    pub(in crate::proxy) async fn next(
        &mut self,
        request: &Request,
    ) -> std::result::Result<NextResponse, FailedAttempt> {
        Ok(self.exchange.next(&mut self.stream, request).await?)
    }

    /// The connection after the final response.
    pub(in crate::proxy) fn into_stream(self) -> UpstreamStream {
        self.stream
    }
}

/// Sends the handshake, and waits for its response. Interim ones are for no client: it has its 101.
pub(in crate::proxy) async fn attempt(
    attempts: &Attempts,
    ends: ProxyAddrs,
    request: &Request,
    limit: Duration,
) -> std::result::Result<(UpstreamStream, HandshakeResponse), FailedAttempt> {
    let mut attempt = HandshakeAttempt::begin(attempts, ends, request, limit).await?;
    loop {
        if let NextResponse::Final(response) = attempt.next(request).await? {
            return Ok((attempt.into_stream(), response));
        }
    }
}
