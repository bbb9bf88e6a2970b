//! When an authority wants a certificate renewed (RFC 9773): it may be about to revoke it, or spread its work.

use super::account;
use super::job::Job;
use instant_acme::CertificateIdentifier;
use log::debug;
use rustls::pki_types::Der;
use std::time::Duration;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// When the certificate that is served is to be renewed, in seconds since 1970, and when to ask again; `None`
/// where the authority does not say. It is a hint: that it cannot be had is no failure.
pub(super) async fn wanted(job: &Job) -> Option<(u64, Duration)> {
    let served = job.slot().get()?;
    let certificate = identifier(served.cert.first()?)?;
    let account = match account::known(&job.settings).await {
        Ok(account) => account?,
        Err(failure) => {
            debug!(certificate = job.settings.id().as_str(), error = failure.detail.as_str(); "no time of renewal");
            return None;
        }
    };
    match account.renewal_info(&certificate).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            let start = u64::try_from(window.start.unix_timestamp()).ok()?;
            let end = u64::try_from(window.end.unix_timestamp()).ok()?;
            // RFC 9773 §4.2: any moment of it, so that not all come at once.
            Some((fastrand::u64(start..=end.max(start)), again))
        }
        Err(error) => {
            debug!(certificate = job.settings.id().as_str(), error:%; "no time of renewal");
            None
        }
    }
}

/// What the authority calls it (RFC 9773 §4.1).
fn identifier(certificate: &[u8]) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let issuer = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
        _ => None,
    })?;
    let (issuer, serial) = (Der::from_slice(issuer.0), Der::from_slice(parsed.raw_serial()));
    Some(CertificateIdentifier::new(issuer, serial).into_owned())
}
