//! Trust in client certificates: a listener's verifier and its digest.

use super::{certificate_names, pem};
use crate::config::{ClientAuth, ClientAuthMode};
use moongate_config::{Files, Placed, Problem, Problems};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, pki_types::CertificateDer};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A digest of the trusted issuers. A session is resumed only with the same digest, because it is not asked
/// for a certificate again.
pub(super) type TrustDigest = [u8; 32];

/// The digest without client certificates.
pub(super) const NO_CLIENT_CERTIFICATES: TrustDigest = [0; 32];

/// The verifier of client certificates, and its digest.
///
/// # Errors
/// The file cannot be read or has no issuers; at its place.
pub(super) fn load(
    written: &Placed<ClientAuth>,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    warnings: &mut Problems,
) -> Result<(Arc<dyn ClientCertVerifier>, TrustDigest), Problem> {
    let place = &written.ca.place;
    let file = files.read(&written.ca, super::certificate::LARGEST)?;
    let issuers = pem::certificates(&file.bytes).map_err(|problem| problem.at(place))?;
    for issuer in &issuers {
        warnings.0.extend(doubt(issuer).map(|problem| problem.at(place)));
    }
    let mut roots = RootCertStore::empty();
    for issuer in &issuers {
        let added = roots.add(issuer.clone());
        added.map_err(|error| Problem::new(format!("an issuer cannot be trusted: {error}")).at(place))?;
    }
    let mark = mark(written.mode, issuers);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match written.mode {
        ClientAuthMode::Require => builder,
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build();
    let verifier =
        verifier.map_err(|error| Problem::new(format!("clients cannot be verified: {error}")).at(place))?;
    Ok((verifier, mark))
}

fn mark(mode: ClientAuthMode, mut issuers: Vec<CertificateDer<'_>>) -> TrustDigest {
    issuers.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    let mut digest = Sha256::new();
    digest.update([match mode {
        ClientAuthMode::Require => 1,
        ClientAuthMode::Optional => 2,
    }]);
    for issuer in &issuers {
        digest.update(Sha256::digest(issuer));
    }
    digest.finalize().into()
}

/// A warning about an issuer.
pub(super) fn doubt(issuer: &CertificateDer<'_>) -> Option<Problem> {
    let parsed = certificate_names::parse(issuer)?;
    let name = certificate_names::name(parsed.subject());
    if parsed.validity().not_after.timestamp() < super::unix_time::now() {
        return Some(Problem::warning(format!("the issuer `{name}` has expired")));
    }
    // A self-signed certificate is trusted if listed, whatever its constraints.
    (!parsed.is_ca() && parsed.issuer() != parsed.subject()).then(|| {
        Problem::warning(format!("`{name}` is not a CA certificate; it cannot issue certificates"))
            .help("list the certificate of its issuer instead")
    })
}
