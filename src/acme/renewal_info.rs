//! ACME renewal information (RFC 9773): the CA's suggested time of renewal, for example before a revocation.

use super::account;
use super::job::Job;
use instant_acme::CertificateIdentifier;
use log::debug;
use rustls::pki_types::Der;
use std::time::Duration;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The suggested renewal time of the certificate in Unix seconds, and the wait until the next query; `None`
/// if the CA has none. It is a hint: an error here is not a failed attempt.
pub(super) async fn wanted(job: &Job) -> Option<(u64, Duration)> {
    let served = job.slot().get()?;
    let certificate = identifier(served.cert.first()?)?;
    let account = match account::known(&job.settings).await {
        Ok(account) => account?,
        Err(failure) => {
            debug!(certificate = job.settings.id().as_str(), error = failure.detail.as_str(); "renewal information not received");
            return None;
        }
    };
    match account.renewal_info(&certificate).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            let start = u64::try_from(window.start.unix_timestamp()).ok()?;
            let end = u64::try_from(window.end.unix_timestamp()).ok()?;
            // RFC 9773 §4.2: a random time in the window, to spread the load.
            Some((fastrand::u64(start..=end.max(start)), again))
        }
        Err(error) => {
            debug!(certificate = job.settings.id().as_str(), error:%; "renewal information not received");
            None
        }
    }
}

/// The certificate's identifier (RFC 9773 §4.1).
fn identifier(certificate: &[u8]) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let issuer = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
        _ => None,
    })?;
    let (issuer, serial) = (Der::from_slice(issuer.0), Der::from_slice(parsed.raw_serial()));
    Some(CertificateIdentifier::new(issuer, serial).into_owned())
}
