//! Certificates generated for the tests, and clients that trust them.

use super::LIMIT;
use super::raw::{Response, lossy};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    date_time_ymd,
};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const RSA_KEY: &[u8] = include_bytes!("../../../plugins/jwt/testdata/rsa.pk8");

/// An issuer, with a directory for its certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The type of a key.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sort {
    Ecdsa,
    Rsa,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two issuers with one name would be one issuer whose signatures fail.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("the tests' own issuer {number}"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The file with its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate for those names, in the files `FILE.pem` and `FILE.key`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Pair {
        self.issue_with(file, names, Sort::Ecdsa, |_| ())
    }

    /// As [`Authority::issue`], with a type of key and other changes.
    pub(crate) fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        sort: Sort,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, file);
        change(&mut params);
        let (key, text) = match sort {
            Sort::Ecdsa => {
                let key = KeyPair::generate().unwrap();
                let text = key.serialize_pem();
                (key, text)
            }
            Sort::Rsa => {
                let key = KeyPair::from_pkcs8_der_and_sign_algo(&RSA_KEY.into(), &PKCS_RSA_SHA256).unwrap();
                let text = key.serialize_pem();
                (key, text)
            }
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair { cert: self.path(&format!("{file}.pem")), key: self.path(&format!("{file}.key")) };
        replace(&pair.cert, certificate.pem());
        replace(&pair.key, text);
        pair
    }

    /// As [`Authority::issue`], for years in the past.
    pub(crate) fn issue_expired(&self, file: &str, names: &[&str]) -> Pair {
        self.issue_with(file, names, Sort::Ecdsa, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&[&rustls::version::TLS13, &rustls::version::TLS12], None)
    }

    /// A client with those versions and that certificate.
    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&Pair>,
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_webpki_verifier(verifier.unwrap());
        let mut config = match shows {
            Some(pair) => {
                let chain = CertificateDer::pem_file_iter(&pair.cert).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(64);
        Client { config }
    }
}

/// Replaces a file atomically, as certificate managers do.
pub(crate) fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let draft = path.with_extension("new");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

/// The certificate in a file.
pub(crate) fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&pair.cert).unwrap()
}

/// A client that remembers sessions.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) config: ClientConfig,
}

/// A connection with TLS.
#[derive(Debug)]
pub(crate) struct Secure {
    pub(crate) session: ClientConnection,
    pub(crate) stream: TcpStream,
    ahead: Vec<u8>,
}

/// A failed handshake: the alert, if there was one.
#[derive(Debug)]
pub(crate) struct Cut(pub(crate) io::Error);

impl Cut {
    /// The alert that was received.
    pub(crate) fn alert(&self) -> Option<AlertDescription> {
        match self.0.get_ref()?.downcast_ref()? {
            rustls::Error::AlertReceived(alert) => Some(*alert),
            _ => None,
        }
    }
}

impl Client {
    /// Offers these protocols (ALPN).
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Connects with a handshake for that name.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> Result<Secure, Cut> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        let mut secure = Secure { session, stream, ahead: Vec::new() };
        while secure.session.is_handshaking() {
            secure.session.complete_io(&mut secure.stream).map_err(Cut)?;
        }
        Ok(secure)
    }

    /// A GET on a connection of its own.
    pub(crate) fn get(&self, address: SocketAddr, name: &str, path: &str) -> Result<Response, Cut> {
        self.connect(address, name)?.get(name, path)
    }
}

impl Secure {
    /// A connection after its handshake.
    pub(crate) fn new(session: ClientConnection, stream: TcpStream) -> Self {
        Self { session, stream, ahead: Vec::new() }
    }

    /// A GET; the connection stays open.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Result<Response, Cut> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// A request as written, and its response.
    pub(crate) fn ask(&mut self, request: &str) -> Result<Response, Cut> {
        self.send(request.as_bytes())?;
        self.response()
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let mut stream = rustls::Stream::new(&mut self.session, &mut self.stream);
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(Cut)
    }

    /// Sends close_notify; the connection stays open.
    pub(crate) fn notify_close(&mut self) {
        self.session.send_close_notify();
        self.session.write_tls(&mut self.stream).unwrap();
    }

    /// The next response.
    pub(crate) fn response(&mut self) -> Result<Response, Cut> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = lossy(&self.ahead.drain(..end).collect::<Vec<_>>());
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        let length = response.field("content-length").map_or(0, |length| length.parse().unwrap());
        response.body = self.exactly(length)?;
        Ok(response)
    }

    /// Exactly this many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Cut> {
        while self.ahead.len() < length {
            self.fill()?;
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// The bytes up to the end of the connection, which must have the closing alert.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, Cut> {
        let mut bytes = std::mem::take(&mut self.ahead);
        let mut stream = rustls::Stream::new(&mut self.session, &mut self.stream);
        stream.read_to_end(&mut bytes).map(|_| bytes).map_err(Cut)
    }

    fn fill(&mut self) -> Result<(), Cut> {
        let mut buffer = [0; 16 << 10];
        match rustls::Stream::new(&mut self.session, &mut self.stream).read(&mut buffer).map_err(Cut)? {
            0 => Err(Cut(io::ErrorKind::UnexpectedEof.into())),
            read => {
                self.ahead.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    /// The server's certificate.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.session.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Returns whether the handshake resumed a session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }
}
