//! Start of a TLS handshake whose server name is no DNS name: the extension is ignored, in the ClientHello and in the one
//! after a HelloRetryRequest.

use crate::net::downstream_io::Socket;
use crate::net::tunnel_io::RecordFollower;
use crate::tls::{HelloProgress, HelloRecords, IgnoredName};
use rustls::server::{Accepted, Acceptor};
use rustls::{Error, HandshakeKind, PeerMisbehaved, ServerConfig, ServerConnection};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A ClientHello with an ignored server name.
pub(super) struct IgnoredNameHello {
    pub(super) name: IgnoredName,
    /// The bytes that were received after its records.
    rest: Vec<u8>,
}

/// A failed handshake: the cause, and the alert to send.
pub(super) type FailedStart = (io::Error, Vec<u8>);

/// Reads a ClientHello again that rustls refused with this error. `None` if the server name was not the reason, or cannot
/// be ignored.
pub(super) fn accept(error: &Error, received: &[u8]) -> Option<(Accepted, IgnoredNameHello)> {
    if *error != Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) {
        return None;
    }
    let mut records = HelloRecords::default();
    if records.push(received) != HelloProgress::Complete {
        return None;
    }
    let name = records.ignore_server_name(None)?;
    let (mut bytes, end) = records.into_parts();
    let rest = bytes.split_off(end);
    let mut acceptor = Acceptor::default();
    let mut unread = &bytes[..];
    while !unread.is_empty() {
        acceptor.read_tls(&mut unread).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some((accepted, IgnoredNameHello { name, rest }));
        }
    }
    None
}

impl IgnoredNameHello {
    /// Starts the handshake. Later messages of the client need no change.
    ///
    /// # Errors
    /// Errors of rustls and of the socket.
    pub(super) async fn start(
        self,
        accepted: Accepted,
        config: Arc<ServerConfig>,
        socket: &mut Socket,
        followed: &mut RecordFollower,
    ) -> Result<ServerConnection, FailedStart> {
        let mut session = accepted.into_connection(config).map_err(|(error, mut alert)| {
            let mut bytes = Vec::new();
            // Writing to a vector cannot fail.
            let _ = alert.write_all(&mut bytes);
            (invalid(error), bytes)
        })?;
        let mut input = self.rest;
        if session.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest) {
            let request = take_output(&mut session);
            let received = retry(socket, followed, &request, input, &self.name).await;
            input = received.map_err(|error| (error, Vec::new()))?;
        }
        read(&mut session, &input)?;
        Ok(session)
    }
}

/// Sends a HelloRetryRequest, and receives up to the end of the second ClientHello, which must repeat the name (RFC 8446
/// §4.1.2): rustls refuses another one.
async fn retry(
    socket: &mut Socket,
    followed: &mut RecordFollower,
    request: &[u8],
    received: Vec<u8>,
    name: &IgnoredName,
) -> io::Result<Vec<u8>> {
    socket.write_all(request).await?;
    let mut records = HelloRecords::default();
    let mut progress = records.push(&received);
    let mut buffer = vec![0; 4096];
    while progress == HelloProgress::Incomplete {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        followed.follow(&buffer[..count]);
        progress = records.push(&buffer[..count]);
    }
    if progress == HelloProgress::Complete {
        records.ignore_server_name(Some(name));
    }
    Ok(records.into_parts().0)
}

/// Passes received bytes to the session.
fn read(session: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), FailedStart> {
    while !bytes.is_empty() {
        // 0: the client has closed, and what follows is ignored.
        if session.read_tls(&mut bytes).map_err(|error| (error, Vec::new()))? == 0 {
            break;
        }
        if let Err(error) = session.process_new_packets() {
            return Err((invalid(error), take_output(session)));
        }
    }
    Ok(())
}

/// The bytes to send.
fn take_output(session: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        // Writing to a vector cannot fail.
        let _ = session.write_tls(&mut bytes);
    }
    bytes
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
