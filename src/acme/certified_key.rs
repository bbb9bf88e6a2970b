//! A certificate with its key, read from one PEM text.

use super::certificate_state::Validity;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate that can be used in handshakes.
#[derive(Debug)]
pub(super) struct KeyedCertificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
    /// The certificate's names, in lower case.
    pub(super) names: Vec<String>,
}

impl KeyedCertificate {
    /// Reads a key and the chain of its certificate from PEM.
    ///
    /// # Errors
    /// A sentence about the problem: unreadable, or the key does not match the certificate.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| unreadable(&error))?;
        let leaf = chain.first().ok_or("no certificate found")?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| unreadable(&error))?;
        let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
        let validity = Validity {
            from: seconds(parsed.validity().not_before.timestamp()),
            until: seconds(parsed.validity().not_after.timestamp()),
        };
        let names = names(&parsed);
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| unreadable(&error))?;
        Ok(Self { key: Arc::new(key), validity, names })
    }

    /// Whether the certificate covers all of these names.
    pub(super) fn covers(&self, names: &[Box<str>]) -> bool {
        self.shares(names) == names.len()
    }
    /// The number of these names that the certificate covers.
    pub(super) fn shares(&self, names: &[Box<str>]) -> usize {
        names.iter().filter(|name| self.names.iter().any(|own| **own == ***name)).count()
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    alternative.value.general_names.iter().filter_map(dns).collect()
}
