//! Certificates that change while an acceptor is in use: slots for ACME certificates, and pending challenges
//! (RFC 8555 §8.3, RFC 8737).
//!
//! Reads take one short lock; writes are rare.

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The ALPN protocol of a validation handshake, which carries no data (RFC 8737 §4).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// A slot for a certificate that arrives after the start, and that is replaced at runtime.
#[derive(Debug)]
pub struct Slot {
    names: Box<[Box<str>]>,
    key: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Slot {
    /// An empty slot for these names, in lower case.
    pub fn new(names: impl IntoIterator<Item = Box<str>>) -> Self {
        Self { names: names.into_iter().collect(), key: RwLock::default() }
    }

    /// The names of the certificate, also before it exists.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The certificate with its key, if there is one.
    pub fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.key.read().clone()
    }

    /// Puts this certificate in use. Open connections keep theirs.
    pub fn put(&self, key: Arc<CertifiedKey>) {
        *self.key.write() = Some(key);
    }
}

/// Pending challenges of ACME authorizations. A process has one set, shared by all listeners and kept over
/// reloads.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Configurations of validation handshakes, by name.
    handshakes: RwLock<HashMap<Box<str>, Arc<ServerConfig>>>,
    /// Responses by token.
    responses: RwLock<HashMap<Box<str>, Arc<str>>>,
}

/// A guard: the challenge gets responses until the guard is dropped.
#[derive(Debug)]
#[must_use]
pub struct ChallengeGuard {
    challenges: Arc<Challenges>,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    Handshake(Box<str>),
    Response(Box<str>),
}

impl Challenges {
    /// The configuration of a validation handshake: the client offers only `acme-tls/1` and a name with a
    /// pending challenge. The connection is closed after the handshake. `None` for other clients, which use
    /// the listener's certificates; a validation of another name fails there, because no common protocol is
    /// offered.
    pub fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
            return None;
        }
        self.handshakes.read().get(&*hello.server_name()?.to_ascii_lowercase()).cloned()
    }

    /// The response to a request for this token (RFC 8555 §8.3).
    pub fn answer(&self, token: &str) -> Option<Arc<str>> {
        self.responses.read().get(token).cloned()
    }

    /// Presents a certificate in validation handshakes for `name`.
    ///
    /// # Errors
    /// rustls does not accept the certificate.
    pub fn show_handshake(
        self: &Arc<Self>,
        name: &str,
        key: Arc<CertifiedKey>,
    ) -> Result<ChallengeGuard, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)?;
        // RFC 8737 §3: the CA has no client certificate, even if the listener requires one.
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertificate(key)));
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        config.send_tls13_tickets = 0;
        let name: Box<str> = name.to_ascii_lowercase().into();
        self.handshakes.write().insert(name.clone(), Arc::new(config));
        Ok(ChallengeGuard { challenges: Arc::clone(self), proof: Proof::Handshake(name) })
    }

    /// Responds to requests for `token`.
    pub fn show_answer(self: &Arc<Self>, token: &str, answer: &str) -> ChallengeGuard {
        self.responses.write().insert(token.into(), answer.into());
        ChallengeGuard { challenges: Arc::clone(self), proof: Proof::Response(token.into()) }
    }
}

impl Drop for ChallengeGuard {
    fn drop(&mut self) {
        match &self.proof {
            Proof::Handshake(name) => drop(self.challenges.handshakes.write().remove(name)),
            Proof::Response(token) => drop(self.challenges.responses.write().remove(token)),
        }
    }
}

/// A resolver with one certificate for all clients.
#[derive(Debug)]
struct SingleCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for SingleCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_exists_while_its_guard_lives() {
        let challenges = Arc::<Challenges>::default();
        let shown = challenges.show_answer("token", "token.thumb");
        assert_eq!(challenges.answer("token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.answer("other"), None);
        drop(shown);
        assert_eq!(challenges.answer("token"), None);
    }
}
