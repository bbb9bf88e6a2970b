//! Whose certificates a listener takes from clients.

use super::{certificate_names, pem};
use crate::config::{ClientAuth, ClientAuthMode};
use moongate_config::{Files, Placed, Problem, Problems};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, pki_types::CertificateDer};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Who is trusted, in short. A session may only be resumed where the same clients are trusted as where
/// it began: it is not asked for a certificate again.
pub(super) type TrustDigest = [u8; 32];

/// Where clients are not asked for certificates.
pub(super) const NOBODY_ASKED: TrustDigest = [0; 32];

/// The verifier of clients' certificates, and its mark.
///
/// # Errors
/// When the file cannot be read or holds no issuer, at its place.
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

/// What an operator should know of an issuer.
pub(super) fn doubt(issuer: &CertificateDer<'_>) -> Option<Problem> {
    let parsed = certificate_names::parse(issuer)?;
    let name = certificate_names::name(parsed.subject());
    if parsed.validity().not_after.timestamp() < super::unix_time::now() {
        return Some(Problem::warning(format!("the issuer `{name}` has expired")));
    }
    // One that signed itself is trusted by being listed, whatever it may do.
    (!parsed.is_ca() && parsed.issuer() != parsed.subject()).then(|| {
        Problem::warning(format!("`{name}` is no issuer: it may not sign certificates"))
            .help("a certificate that somebody else signed is not trusted by being listed; list its issuer's")
    })
}
