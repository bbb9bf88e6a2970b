//! Handshakes whose ClientHello was changed by `client_hello`: the transcript has the ClientHello as the client sent it, in
//! hashes and under the signature of a client certificate. Otherwise both sides would derive different keys.

use super::client_hello::{self, SERVER_NAME};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CipherSuiteCommon, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};
use std::sync::{Arc, LazyLock};

/// The provider for these handshakes.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = ring::default_provider();
        provider.cipher_suites = provider.cipher_suites.into_iter().map(suite).collect();
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// The verifier for these handshakes.
pub(super) fn verifier(verifier: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(TranscriptVerifier(verifier))
}

/// The cipher suite with a [`TranscriptHash`]. rustls takes suites of static lifetime; one provider is made in a process.
fn suite(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            let Tls12CipherSuite { ref common, prf_provider, kx, sign, aead_alg } = *suite;
            let common = with_transcript_hash(common);
            let suite = Tls12CipherSuite { common, prf_provider, kx, sign, aead_alg };
            SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))
        }
        SupportedCipherSuite::Tls13(suite) => {
            let Tls13CipherSuite { ref common, hkdf_provider, aead_alg, quic } = *suite;
            let common = with_transcript_hash(common);
            let suite = Tls13CipherSuite { common, hkdf_provider, aead_alg, quic };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
        }
    }
}

fn with_transcript_hash(common: &CipherSuiteCommon) -> CipherSuiteCommon {
    let CipherSuiteCommon { suite, hash_provider, confidentiality_limit } = *common;
    let hash_provider = Box::leak(Box::new(TranscriptHash(hash_provider)));
    CipherSuiteCommon { suite, hash_provider, confidentiality_limit }
}

/// The hash function of a transcript. rustls adds each message as a whole, or as its beginning for a binder, except messages
/// before the choice of the function, of which a server has one.
struct TranscriptHash(&'static dyn Hash);

impl Hash for TranscriptHash {
    fn start(&self) -> Box<dyn Context> {
        Box::new(TranscriptContext(self.0.start()))
    }

    // Not of the transcript: the context of an exporter (RFC 8446 §7.5).
    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct TranscriptContext(Box<dyn Context>);

impl Context for TranscriptContext {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }

    fn update(&mut self, data: &[u8]) {
        for part in as_received(data) {
            self.0.update(part);
        }
    }
}

/// The message as the client sent it, in three parts.
fn as_received(message: &[u8]) -> [&[u8]; 3] {
    match client_hello::replaced_type(message) {
        Some(at) => [&message[..at], &SERVER_NAME, &message[at + SERVER_NAME.len()..]],
        None => [message, &[], &[]],
    }
}

/// A verifier of client certificates. A signature of TLS 1.2 covers the messages themselves (RFC 5246 §7.4.8), one of TLS 1.3
/// their hash.
#[derive(Debug)]
struct TranscriptVerifier(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for TranscriptVerifier {
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(&as_received(message).concat(), cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}
