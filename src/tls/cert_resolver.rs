//! Certificate resolver: selects a listener's certificate by SNI and signature schemes.

use super::certificate::LoadedCertificate;
use super::dynamic_certs::Slot;
use foldhash::fast::RandomState;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a listener.
#[derive(Debug, Default)]
pub(super) struct CertResolver {
    exact: HashMap<Box<str>, Offer, RandomState>,
    /// By the name after the first label.
    wildcard: HashMap<Box<str>, Offer, RandomState>,
    /// For other names, and without SNI.
    default: Offer,
    /// The slot of the ACME certificate, which has precedence over files for the same name.
    later: Option<Arc<Slot>>,
}

/// Certificates for the same name with keys of different types, in order of preference.
#[derive(Clone, Debug, Default)]
struct Offer(Vec<Arc<CertifiedKey>>);

impl Offer {
    fn choose(&self, verifiable: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        // Without a verifiable key, the first certificate gives the client a precise error.
        self.0.iter().find(|key| key.key.choose_scheme(verifiable).is_some()).or(self.0.first())
    }
}

impl CertResolver {
    /// Of certificates for one name, ECDSA comes before RSA; of the same type, the first one in the
    /// configuration.
    pub(super) fn new(certificates: &[LoadedCertificate], later: Option<Arc<Slot>>) -> Self {
        let mut resolver = Self { later, ..Self::default() };
        let (modern, old): (Vec<_>, Vec<_>) = certificates.iter().partition(|ready| ready.is_modern());
        let default = certificates.first().map(|first| &first.about.names);
        for ready in modern.into_iter().chain(old) {
            for name in &ready.about.names {
                let name = name.to_ascii_lowercase();
                let offer = match name.strip_prefix("*.") {
                    Some(rest) => resolver.wildcard.entry(rest.into()).or_default(),
                    None => resolver.exact.entry(name.into()).or_default(),
                };
                offer.0.push(Arc::clone(&ready.key));
            }
            if Some(&ready.about.names) == default {
                resolver.default.0.push(Arc::clone(&ready.key));
            }
        }
        resolver
    }

    /// Whether there is a certificate for the name. rustls passes names in lower case.
    pub(super) fn knows(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.find(name).is_some() || self.gets(name).is_some())
    }

    /// The slot of an ACME certificate for the name.
    fn gets(&self, name: &str) -> Option<&Arc<Slot>> {
        self.later.as_ref().filter(|slot| slot.names().iter().any(|known| **known == *name))
    }

    /// Finds an exact name, then a wildcard, which stands for one label (RFC 9525 §6.3).
    fn find(&self, name: &str) -> Option<&Offer> {
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        if let Some(key) = name.and_then(|name| self.gets(name)).and_then(|slot| slot.get()) {
            return Some(key);
        }
        let offer = name.and_then(|name| self.find(name)).unwrap_or(&self.default);
        let chosen = offer.choose(hello.signature_schemes()).cloned();
        chosen.or_else(|| self.later.as_ref()?.get())
    }
}
