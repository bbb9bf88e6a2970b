//! A TLS client whose server name may be any bytes. rustls sends DNS names only: a DNS name of the same length is replaced in
//! its records, its transcript and under its signatures, independently of how the gateway reads such names.

use crate::support::LIMIT;
use crate::support::certs::{Cut, Pair, Secure};
use crate::tls::Anything;
use rustls::client::ResolvesClientCert;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CipherSuiteCommon, ClientConfig, ClientConnection, Error, NamedGroup, SignatureAlgorithm,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite, Tls13CipherSuite,
};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// The names on the wire.
#[derive(Debug)]
struct Names {
    /// A DNS name.
    placeholder: String,
    name: Vec<u8>,
    /// The name after a HelloRetryRequest, if it differs: a handshake that must fail, so it is in no transcript.
    retried: Option<Vec<u8>>,
}

impl Names {
    /// The bytes with this name in place of the first or only extension.
    fn replace(&self, bytes: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        let pattern = extension(self.placeholder.as_bytes());
        let at = bytes.windows(pattern.len()).position(|window| window == pattern)?;
        let mut changed = bytes.to_vec();
        changed[at..at + pattern.len()].copy_from_slice(&extension(name));
        Some(changed)
    }

    /// Messages as they are sent.
    fn sent(&self, messages: &[u8]) -> Vec<u8> {
        self.replace(messages, &self.name).unwrap_or_else(|| messages.to_vec())
    }
}

/// The extension server_name with one host name (RFC 6066 §3).
fn extension(name: &[u8]) -> Vec<u8> {
    let length = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let lengths = [length(name.len() + 5), length(name.len() + 3)].concat();
    [&[0, 0], &lengths[..], &[0], &length(name.len()), name].concat()
}

/// Whether the key share is of a group that the gateway has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyShare {
    Usable,
    /// The gateway sends a HelloRetryRequest.
    Unusable,
}

pub(super) struct AnyNameClient {
    pub(super) config: ClientConfig,
    names: Arc<Names>,
}

impl AnyNameClient {
    pub(super) fn new(name: &[u8], version: &'static SupportedProtocolVersion, share: KeyShare) -> Self {
        Self::with(name, None, version, share, None)
    }

    /// With another name after a HelloRetryRequest, or a client certificate.
    pub(super) fn with(
        name: &[u8],
        retried: Option<&[u8]>,
        version: &'static SupportedProtocolVersion,
        share: KeyShare,
        shows: Option<&Pair>,
    ) -> Self {
        let mut placeholder = "x".repeat(name.len());
        for at in (50..name.len().saturating_sub(1)).step_by(50) {
            placeholder.replace_range(at..=at, ".");
        }
        let retried = retried.map(<[u8]>::to_vec);
        let names = Arc::new(Names { placeholder, name: name.to_vec(), retried });
        let provider = provider(&names, share);
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything::of(&schemes)));
        let config = match shows {
            Some(pair) => config.with_client_cert_resolver(Arc::new(Resolver(certified(pair, &names)))),
            None => config.with_no_client_auth(),
        };
        Self { config, names }
    }

    pub(super) fn connect(&self, address: SocketAddr) -> Result<Secure, Cut> {
        self.connect_in_pieces(address, |bytes| vec![bytes])
    }

    /// Connects, and writes each flight of the handshake in these pieces.
    pub(super) fn connect_in_pieces(
        &self,
        address: SocketAddr,
        pieces: impl Fn(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> Result<Secure, Cut> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let name = ServerName::try_from(self.names.placeholder.clone()).unwrap();
        let mut session = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        let mut is_retry = false;
        loop {
            let mut flight = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut flight).unwrap();
            }
            let name = self.names.retried.as_ref().filter(|_| is_retry).unwrap_or(&self.names.name);
            for piece in pieces(self.names.replace(&flight, name).unwrap_or(flight)) {
                stream.write_all(&piece).map_err(Cut)?;
            }
            is_retry = true;
            if !session.is_handshaking() {
                return Ok(Secure::new(session, stream));
            }
            if session.read_tls(&mut stream).map_err(Cut)? == 0 {
                return Err(Cut(io::ErrorKind::UnexpectedEof.into()));
            }
            session
                .process_new_packets()
                .map_err(|error| Cut(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        }
    }
}

fn provider(names: &Arc<Names>, share: KeyShare) -> CryptoProvider {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: Box::leak(Box::new(NamedHash(common.hash_provider, Arc::clone(names)))),
        confidentiality_limit: common.confidentiality_limit,
    };
    let suite = |suite: SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                ..*suite
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                ..*suite
            })))
        }
    };
    let mut provider = ring::default_provider();
    provider.cipher_suites = provider.cipher_suites.into_iter().map(suite).collect();
    if share == KeyShare::Unusable {
        provider.kx_groups.insert(0, &UnusableGroup);
    }
    provider
}

struct NamedHash(&'static dyn Hash, Arc<Names>);

impl Hash for NamedHash {
    fn start(&self) -> Box<dyn Context> {
        Box::new(NamedContext(self.0.start(), Arc::clone(&self.1)))
    }

    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

struct NamedContext(Box<dyn Context>, Arc<Names>);

impl Context for NamedContext {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.fork(), Arc::clone(&self.1)))
    }

    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(&self.1.sent(data));
    }
}

/// X25519 under the name of a group that the gateway does not have.
#[derive(Debug)]
struct UnusableGroup;

impl SupportedKxGroup for UnusableGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(UnusableShare(ring::kx_group::X25519.start()?)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X448
    }
}

struct UnusableShare(Box<dyn ActiveKeyExchange>);

impl ActiveKeyExchange for UnusableShare {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        self.0.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        self.0.pub_key()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X448
    }
}

fn certified(pair: &Pair, names: &Arc<Names>) -> Arc<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(&pair.cert).unwrap().collect::<Result<_, _>>().unwrap();
    let key = ring::sign::any_supported_type(&PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap();
    Arc::new(CertifiedKey::new(chain, Arc::new(NamedKey(key, Arc::clone(names)))))
}

#[derive(Debug)]
struct Resolver(Arc<CertifiedKey>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Signs the messages as they were sent, with TLS 1.2.
#[derive(Debug)]
struct NamedKey(Arc<dyn SigningKey>, Arc<Names>);

impl SigningKey for NamedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(NamedSigner(self.0.choose_scheme(offered)?, Arc::clone(&self.1))))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct NamedSigner(Box<dyn Signer>, Arc<Names>);

impl Signer for NamedSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(&self.1.sent(message))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}
