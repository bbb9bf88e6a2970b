//! TLS handshake with a client: completed, or ended with the alert that the standard specifies.
//!
//! The ClientHello is read before the configuration is selected, since it contains the server name and the
//! protocols. A connection with a failed handshake is closed here.

use super::lingering_close;
use super::tls_ignored_name::{self, IgnoredNameHello};
use crate::net::downstream_io::Socket;
use crate::net::tunnel_io::{Carrier, RecordFollower, TlsConnection};
use crate::runtime::worker_timer::timeout;
use crate::telemetry::quoted;
use crate::tls::{Acceptor, HandshakeFailure, HelloForm, TlsSelection};
use log::{Level, log};
use moongate_sdk::{Tls, log_throttle};
use rustls::ServerConfig;
use rustls::server::Accepted;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_rustls::{FallibleAccept, StartHandshake, TlsAcceptor};

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

/// A received ClientHello.
struct ReceivedHello {
    accepted: Accepted,
    records: RecordFollower,
    ignored_name: Option<IgnoredNameHello>,
}

/// A failed handshake, and the bytes to send before the connection is closed.
struct RefusedHandshake {
    cut: HandshakeFailure,
    /// The cause, for the log.
    error: Option<String>,
    word: Option<(Socket, Vec<u8>)>,
}

impl RefusedHandshake {
    /// For an error of the socket or of rustls.
    fn of_io(error: &io::Error) -> Self {
        Self { cut: HandshakeFailure::of_io(error), error: Some(error.to_string()), word: None }
    }
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
    let ReceivedHello { accepted, records, ignored_name } = match hello(&mut socket).await {
        Ok(hello) => hello,
        Err((cut, error, word)) => return Err(RefusedHandshake { cut, error, word: Some((socket, word)) }),
    };
    let refuse =
        |cut, word: &[u8], socket| RefusedHandshake { cut, error: None, word: Some((socket, word.to_vec())) };
    let form = if ignored_name.is_some() { HelloForm::IgnoredName } else { HelloForm::Received };
    let config = match tls.select_config(&accepted.client_hello(), form) {
        TlsSelection::Served(config) => config,
        TlsSelection::Proven(proof) => {
            prove(StartHandshake::from_parts(accepted, Carrier::new(socket, records)), proof).await;
            return Ok(None);
        }
        TlsSelection::UnknownName => {
            let ignored = ignored_name.as_ref().and_then(|hello| hello.name.host_name());
            let error = Some(match accepted.client_hello().server_name().or(ignored.as_deref()) {
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
    let rest = match ignored_name {
        None => {
            let carrier = Carrier::new(socket, records);
            Box::pin(StartHandshake::from_parts(accepted, carrier).into_stream(config).into_fallible())
        }
        Some(hello) => Box::pin(start_without_name(hello, accepted, config, socket, records)).await?,
    };
    let stream = rest.await.map_err(|(error, carrier)| RefusedHandshake {
        // The alert was sent with the error.
        word: Some((carrier.into_socket(), Vec::new())),
        ..RefusedHandshake::of_io(&error)
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

/// Starts a handshake whose server name is ignored. The result performs the rest.
async fn start_without_name(
    hello: IgnoredNameHello,
    accepted: Accepted,
    config: Arc<ServerConfig>,
    mut socket: Socket,
    mut records: RecordFollower,
) -> Result<Pin<Box<FallibleAccept<Carrier<Socket>>>>, RefusedHandshake> {
    match hello.start(accepted, Arc::clone(&config), &mut socket, &mut records).await {
        Ok(session) => {
            let carrier = Carrier::new(socket, records);
            let accept = TlsAcceptor::from(config).accept_with(carrier, |unused| *unused = session);
            Ok(Box::pin(accept.into_fallible()))
        }
        Err((error, alert)) => {
            Err(RefusedHandshake { word: Some((socket, alert)), ..RefusedHandshake::of_io(&error) })
        }
    }
}

/// Performs the handshake of a tls-alpn-01 validation, and nothing else.
async fn prove(begun: StartHandshake<Carrier<Socket>>, proof: Arc<ServerConfig>) {
    if let Ok(mut proven) = Box::pin(begun.into_stream(proof)).await {
        // The CA has seen the certificate.
        let _ = proven.shutdown().await;
    }
}

/// Reads the ClientHello, and follows its records; otherwise returns the failure and the alert.
async fn hello(socket: &mut Socket) -> Result<ReceivedHello, (HandshakeFailure, Option<String>, Vec<u8>)> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut reading = HelloRecorder { socket, received: Vec::new(), records: RecordFollower::default() };
    loop {
        let left = |error: io::Error| (HandshakeFailure::CLOSED, Some(error.to_string()), Vec::new());
        std::future::poll_fn(|cx| reading.socket.poll_readable(cx)).await.map_err(left)?;
        match acceptor.read_tls(&mut reading) {
            Ok(0) => return Err((HandshakeFailure::CLOSED, None, Vec::new())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(left(error)),
        }
        let first = reading.received.first().copied().unwrap_or_default();
        if first != HANDSHAKE && first.is_ascii_uppercase() {
            return Err((HandshakeFailure::PLAIN, None, PLAIN.to_vec()));
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(ReceivedHello { accepted, records: reading.records, ignored_name: None });
            }
            Ok(None) => {}
            Err((error, mut alert)) => {
                if let Some((accepted, hello)) = tls_ignored_name::accept(&error, &reading.received) {
                    return Ok(ReceivedHello {
                        accepted,
                        records: reading.records,
                        ignored_name: Some(hello),
                    });
                }
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

/// Reads from the socket, records the bytes, and follows the records. rustls limits the bytes of a ClientHello to 64 KiB.
struct HelloRecorder<'a> {
    socket: &'a mut Socket,
    received: Vec<u8>,
    records: RecordFollower,
}

impl HelloRecorder<'_> {
    /// The version of a client older than TLS 1.2.
    fn old(&self) -> Option<[u8; 2]> {
        let version = *self.received.get(TO_VERSION - 2..)?.first_chunk()?;
        (version < [3, 3]).then_some(version)
    }
}

impl Read for HelloRecorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.try_read(buffer)?;
        self.records.follow(&buffer[..read]);
        self.received.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}
