//! TLS handshake with a client: completed, or ended with the alert that the standard specifies.
//!
//! The ClientHello is read before the configuration is selected, since it contains the server name and the
//! protocols. A connection with a failed handshake is closed here.

use super::lingering_close;
use crate::net::downstream_io::Socket;
use crate::net::tunnel_io::{Carrier, RecordFollower, TlsConnection};
use crate::runtime::worker_timer::timeout;
use crate::telemetry::quoted;
use crate::tls::{Acceptor, HandshakeFailure, TlsSelection};
use log::{Level, log};
use moongate_sdk::{Tls, log_throttle};
use rustls::ServerConfig;
use rustls::server::Accepted;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_rustls::StartHandshake;

/// nginx's text, which operators know.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 46\r\n\
    Connection: close\r\n\r\nThe plain HTTP request was sent to HTTPS port\n";

/// The alert `unrecognized_name`, fatal (RFC 8446 §6, RFC 6066 §3).
const UNKNOWN_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// The alert `no_application_protocol`, fatal (RFC 7301 §3.2).
const NO_PROTOCOL: &[u8] = &[21, 3, 3, 0, 2, 2, 120];

/// The content type of a record with a handshake message (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// The alert `protocol_version`, fatal (RFC 5246 §7.2.2), after the type and the version of its record: old
/// clients accept only their own version.
const PROTOCOL_VERSION: &[u8] = &[0, 2, 2, 70];
const ALERT: u8 = 21;

/// The length of a connection's bytes up to the version in its ClientHello: the headers of the record and of
/// the message, and the version (RFC 5246 §7.4.1.2).
const TO_VERSION: usize = 5 + 4 + 2;

/// A completed handshake.
pub(super) struct TlsClient {
    /// TLS over the accepted socket.
    pub(super) socket: Socket,
    /// The facts about the TLS connection.
    pub(super) facts: Arc<Tls>,
    /// HTTP/2 was negotiated.
    pub(super) h2: bool,
}

/// A failed handshake, and the bytes to send before the connection is closed.
struct RefusedHandshake {
    cut: HandshakeFailure,
    /// The cause, for the log.
    error: Option<String>,
    word: Option<(Socket, Vec<u8>)>,
}

/// Performs the handshake within the time limit. Failures are counted and logged here.
pub(super) async fn handshake(
    socket: Socket,
    tls: &Acceptor,
    client: SocketAddr,
    limit: Duration,
) -> Option<TlsClient> {
    let refused = match timeout(limit, secure(socket, tls)).await {
        Ok(Ok(secured)) => return secured,
        Ok(Err(refused)) => refused,
        Err(_) => RefusedHandshake { cut: HandshakeFailure::SLOW, error: None, word: None },
    };
    let RefusedHandshake { cut: HandshakeFailure(reason), error, word } = refused;
    tls.metrics.failed(reason);
    const MESSAGE: &str = "TLS handshake failed";
    let listener = &*tls.listener;
    // Every port of the internet gets such handshakes: one line for each reason and a count, and all of them for debugging.
    let is_first = log_throttle::admit(Level::Info, MESSAGE, &[listener, reason]);
    let level = if is_first { Level::Info } else { Level::Debug };
    log!(level, listener, client:%, reason, error = quoted(error.as_deref().unwrap_or_default()); "{MESSAGE}");
    if let Some((socket, word)) = word {
        lingering_close::close(socket, &word).await;
    }
    None
}

async fn secure(mut socket: Socket, tls: &Acceptor) -> Result<Option<TlsClient>, RefusedHandshake> {
    let (accepted, records) = match hello(&mut socket).await {
        Ok(hello) => hello,
        Err((cut, error, word)) => return Err(RefusedHandshake { cut, error, word: Some((socket, word)) }),
    };
    let refuse =
        |cut, word: &[u8], socket| RefusedHandshake { cut, error: None, word: Some((socket, word.to_vec())) };
    let config = match tls.select_config(&accepted.client_hello()) {
        TlsSelection::Served(config) => config,
        TlsSelection::Proven(proof) => {
            prove(StartHandshake::from_parts(accepted, Carrier::new(socket, records)), proof).await;
            return Ok(None);
        }
        TlsSelection::UnknownName => {
            let error = Some(match accepted.client_hello().server_name() {
                Some(name) => format!("no certificate for {name}"),
                None => "no server name (SNI)".to_owned(),
            });
            return Err(RefusedHandshake {
                error,
                ..refuse(HandshakeFailure::UNKNOWN_NAME, UNKNOWN_NAME, socket)
            });
        }
        TlsSelection::NoProtocol => return Err(refuse(HandshakeFailure::NO_PROTOCOL, NO_PROTOCOL, socket)),
    };
    // Boxed, so that the connection's task does not reserve its size for the rest of its life.
    let carrier = Carrier::new(socket, records);
    let rest = Box::pin(StartHandshake::from_parts(accepted, carrier).into_stream(config).into_fallible());
    let stream = rest.await.map_err(|(error, carrier)| RefusedHandshake {
        cut: HandshakeFailure::of_io(&error),
        error: Some(error.to_string()),
        // The alert was sent with the error.
        word: Some((carrier.into_socket(), Vec::new())),
    })?;
    let session = stream.get_ref().1;
    let facts = Acceptor::facts(session).map_err(|cut| RefusedHandshake { cut, error: None, word: None })?;
    let h2 = session.alpn_protocol() == Some(b"h2") || !tls.speaks_http1();
    tls.metrics
        .record_handshake(facts.version, session.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
    Ok(Some(TlsClient {
        socket: Socket::Tls(Box::new(TlsConnection::new(stream))),
        facts: Arc::new(facts),
        h2,
    }))
}

/// Performs the handshake of a tls-alpn-01 validation, and nothing else.
async fn prove(begun: StartHandshake<Carrier<Socket>>, proof: Arc<ServerConfig>) {
    if let Ok(mut proven) = Box::pin(begun.into_stream(proof)).await {
        // The CA has seen the certificate.
        let _ = proven.shutdown().await;
    }
}

/// Reads the ClientHello, and follows its records; otherwise returns the failure and the alert.
async fn hello(
    socket: &mut Socket,
) -> Result<(Accepted, RecordFollower), (HandshakeFailure, Option<String>, Vec<u8>)> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut reading =
        PrefixRecorder { socket, start: [0; TO_VERSION], seen: 0, records: RecordFollower::default() };
    loop {
        let left = |error: io::Error| (HandshakeFailure::CLOSED, Some(error.to_string()), Vec::new());
        std::future::poll_fn(|cx| reading.socket.poll_readable(cx)).await.map_err(left)?;
        match acceptor.read_tls(&mut reading) {
            Ok(0) => return Err((HandshakeFailure::CLOSED, None, Vec::new())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(left(error)),
        }
        let first = reading.start[0];
        if first != HANDSHAKE && first.is_ascii_uppercase() {
            return Err((HandshakeFailure::PLAIN, None, PLAIN.to_vec()));
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok((accepted, reading.records)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                // rustls reports a missing TLS 1.2 extension before an unsupported version.
                if let (Some([major, minor]), rustls::Error::PeerIncompatible(_)) = (reading.old(), &error) {
                    let word = [&[ALERT, major, minor][..], PROTOCOL_VERSION].concat();
                    return Err((HandshakeFailure::OLD, Some("TLS 1.1 or older".to_owned()), word));
                }
                let mut word = Vec::new();
                // Writing to a vector cannot fail.
                let _ = alert.write_all(&mut word);
                return Err((HandshakeFailure::of(&error), Some(error.to_string()), word));
            }
        }
    }
}

/// Reads from the socket, records the first bytes, and follows the records.
struct PrefixRecorder<'a> {
    socket: &'a mut Socket,
    start: [u8; TO_VERSION],
    seen: usize,
    records: RecordFollower,
}

impl PrefixRecorder<'_> {
    /// The version of a client older than TLS 1.2.
    fn old(&self) -> Option<[u8; 2]> {
        let version = [self.start[TO_VERSION - 2], self.start[TO_VERSION - 1]];
        (self.seen == TO_VERSION && version < [3, 3]).then_some(version)
    }
}

impl Read for PrefixRecorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.try_read(buffer)?;
        self.records.follow(&buffer[..read]);
        let more = read.min(TO_VERSION - self.seen);
        self.start[self.seen..][..more].copy_from_slice(&buffer[..more]);
        self.seen += more;
        Ok(read)
    }
}
