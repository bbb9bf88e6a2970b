//! What an acceptor learns after the configuration was compiled: certificates that come later than it, and
//! the proofs that an authority asks for (RFC 8555 §8.3, RFC 8737).
//!
//! Who gets the certificates and which proofs are wanted is not known here. Every read is one short lock
//! that writers hold for a moment, a few times in months.

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The protocol of a handshake that proves that a name is ours, and carries nothing else (RFC 8737 §4).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The place of a certificate that comes later, and is replaced while the gateway serves.
#[derive(Debug)]
pub struct Slot {
    names: Box<[Box<str>]>,
    key: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Slot {
    /// An empty one for these names, in lower case.
    pub fn new(names: impl IntoIterator<Item = Box<str>>) -> Self {
        Self { names: names.into_iter().collect(), key: RwLock::default() }
    }

    /// The names that the certificate is for; known before it is there.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The certificate with its key, once there is one.
    pub fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.key.read().clone()
    }

    /// Serves this one from now on. Connections that are open keep theirs.
    pub fn put(&self, key: Arc<CertifiedKey>) {
        *self.key.write() = Some(key);
    }
}

/// The proofs that authorities may ask for now. A process has one set, shared by all its listeners and kept
/// over reloads.
#[derive(Debug, Default)]
pub struct Challenges {
    /// What a handshake for a name is made with.
    handshakes: RwLock<HashMap<Box<str>, Arc<ServerConfig>>>,
    /// What a request for a token is answered.
    answers: RwLock<HashMap<Box<str>, Arc<str>>>,
}

/// The proof is shown while this lives.
#[derive(Debug)]
#[must_use]
pub struct Shown {
    challenges: Arc<Challenges>,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    Handshake(Box<str>),
    Answer(Box<str>),
}

impl Challenges {
    /// What to make a client's handshake with when it asks for a proof and for nothing else: it offers
    /// `acme-tls/1` alone and a name that is being proven. Such a connection is closed behind its handshake.
    /// `None` for everybody else, who is to be met by the listener's own certificates; one that asks for a
    /// proof of another name fails there, for it offers no protocol that is spoken.
    pub fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
            return None;
        }
        self.handshakes.read().get(&*hello.server_name()?.to_ascii_lowercase()).cloned()
    }

    /// What a request for this token is answered (RFC 8555 §8.3).
    pub fn answer(&self, token: &str) -> Option<Arc<str>> {
        self.answers.read().get(token).cloned()
    }

    /// Shows a certificate to whoever asks for a proof of `name`.
    ///
    /// # Errors
    /// When rustls cannot take the certificate.
    pub fn show_handshake(
        self: &Arc<Self>,
        name: &str,
        key: Arc<CertifiedKey>,
    ) -> Result<Shown, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)?;
        // RFC 8737 §3: the authority shows no certificate, whatever the listener asks of others.
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(Single(key)));
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        config.send_tls13_tickets = 0;
        let name: Box<str> = name.to_ascii_lowercase().into();
        self.handshakes.write().insert(name.clone(), Arc::new(config));
        Ok(Shown { challenges: Arc::clone(self), proof: Proof::Handshake(name) })
    }

    /// Answers requests for `token`.
    pub fn show_answer(self: &Arc<Self>, token: &str, answer: &str) -> Shown {
        self.answers.write().insert(token.into(), answer.into());
        Shown { challenges: Arc::clone(self), proof: Proof::Answer(token.into()) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        match &self.proof {
            Proof::Handshake(name) => drop(self.challenges.handshakes.write().remove(name)),
            Proof::Answer(token) => drop(self.challenges.answers.write().remove(token)),
        }
    }
}

/// One certificate, whoever asks.
#[derive(Debug)]
struct Single(Arc<CertifiedKey>);

impl ResolvesServerCert for Single {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_for_as_long_as_it_is_shown() {
        let challenges = Arc::<Challenges>::default();
        let shown = challenges.show_answer("token", "token.thumb");
        assert_eq!(challenges.answer("token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.answer("other"), None);
        drop(shown);
        assert_eq!(challenges.answer("token"), None);
    }
}
