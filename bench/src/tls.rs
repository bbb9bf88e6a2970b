//! TLS on the load's side: one version, one cipher, one group, so that every gateway does the same cryptography.
//! The certificate is not verified: that would be the load's work, which is not measured.

use crate::conn::ReadOutcome;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::ring::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// The server name in the ClientHello and the certificate.
pub(crate) const NAME: &str = "bench.example";

/// The use of a gateway's session tickets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tickets {
    /// Discarded: every handshake is a full one.
    Discard,
    /// Used: every handshake but the first is resumed.
    Reuse,
}

/// TLS 1.3 with AES-128-GCM over X25519, and one protocol in ALPN.
pub(crate) fn client(protocol: &[u8], tickets: Tickets) -> io::Result<Arc<ClientConfig>> {
    let all = ring::default_provider();
    let verifier = AcceptAnyCertificate(all.signature_verification_algorithms);
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..all
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = match tickets {
        Tickets::Discard => Resumption::disabled(),
        Tickets::Reuse => Resumption::store(Arc::new(ClientSessionMemoryCache::new(1))),
    };
    Ok(Arc::new(config))
}

/// The TLS state of one connection. The socket is passed to each call.
pub(crate) struct Session(ClientConnection);

impl Session {
    /// Sends nothing yet.
    pub(crate) fn new(config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        connection.set_buffer_limit(None);
        Ok(Self(connection))
    }

    /// Sends as much as the socket takes and buffers the rest; sends everything during the handshake.
    pub(crate) fn send(&mut self, stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        self.0.writer().write_all(bytes)?;
        self.flush(stream).map(|_| ())
    }

    /// Sends buffered bytes; true if none are left.
    pub(crate) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(&mut stream) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Reads plaintext of the peer, and continues the handshake.
    pub(crate) fn read(&mut self, mut stream: &TcpStream, into: &mut [u8]) -> io::Result<ReadOutcome> {
        loop {
            match self.0.reader().read(into) {
                Ok(0) => return read_eof(stream, into),
                Ok(length) => return Ok(ReadOutcome::Data(length)),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(ReadOutcome::Eof),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            match self.0.read_tls(&mut stream) {
                Ok(_) => {
                    self.0.process_new_packets().map_err(io::Error::other)?;
                    self.flush(stream)?;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained(0)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether the handshake was resumed from a ticket; `None` during the handshake.
    pub(crate) fn resumed(&self) -> Option<bool> {
        self.0.handshake_kind().map(|kind| kind == HandshakeKind::Resumed)
    }
}

/// After close_notify only the end of the connection counts: the side that closes first keeps the port in
/// TIME_WAIT.
fn read_eof(mut stream: &TcpStream, into: &mut [u8]) -> io::Result<ReadOutcome> {
    match stream.read(into) {
        Ok(0) => Ok(ReadOutcome::Eof),
        Ok(_) => Err(io::Error::other("bytes after close_notify")),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(ReadOutcome::Drained(0))
        }
        Err(e) => Err(e),
    }
}

/// Accepts any certificate.
#[derive(Debug)]
struct AcceptAnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
