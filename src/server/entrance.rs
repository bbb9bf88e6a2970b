//! What comes before a connection's first request: TLS, and which HTTP it is going to speak.

use super::preface::Speaks;
use super::worker::House;
use super::{http1, http2, preface};
use crate::proxy::{Arrival, Connection, Socket};
use crate::snapshot::Greeting;
use crate::tls::Acceptor;
use bytes::BytesMut;
use moongate_sdk::Tls;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

/// Takes a connection in and serves it to its end.
pub(super) async fn enter(
    socket: Socket,
    mut arrival: Arrival,
    greeting: Arc<Greeting>,
    house: House,
    permit: Option<OwnedSemaphorePermit>,
) {
    let mut house = house;
    let mut socket = socket;
    let mut early = BytesMut::new();
    let mut h2 = greeting.h2c;
    if let Some(tls) = &greeting.tls {
        let limit = house.limits.time;
        let Ok(Some((secured, facts, chosen))) = timeout(limit, secure(socket, tls)).await else { return };
        socket = secured;
        arrival.tls = Some(facts);
        h2 = chosen;
    } else if greeting.h2c && greeting.http1 {
        let Ok((speaks, read)) = preface::read(&mut socket, house.limits.time).await else { return };
        early = read;
        h2 = speaks == Speaks::Http2;
        if speaks == Speaks::Undecided {
            if early.is_empty() {
                return;
            }
            // Its time is over: HTTP/1 says so at once.
            house.limits.time = Duration::ZERO;
        }
    }
    if h2 {
        http2::serve(socket, early, arrival, house).await;
        drop(permit);
    } else {
        let connection = Connection::new(socket, early, arrival, house.limits);
        http1::serve(Box::new(connection), house, permit).await;
    }
}

/// Shakes hands. The last of the three is whether HTTP/2 was chosen.
async fn secure(socket: Socket, tls: &Acceptor) -> Option<(Socket, Arc<Tls>, bool)> {
    let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await.ok()?;
    if let Some(proof) = tls.challenges.handshake(&begun.client_hello()) {
        // RFC 8737 §3: the handshake is all that an authority wants.
        let mut proven = begun.into_stream(proof).await.ok()?;
        let _ = proven.shutdown().await;
        return None;
    }
    let stream = begun.into_stream(Arc::clone(&tls.config)).await.ok()?;
    let session = stream.get_ref().1;
    let facts = Tls {
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or_default(),
        server_name: session.server_name().map(Into::into),
        client: None,
    };
    let h2 = session.alpn_protocol() == Some(b"h2");
    Some((Socket::Tls(Box::new(stream)), Arc::new(facts), h2))
}
