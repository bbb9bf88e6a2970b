//! One certificate with its key: reading from files, and validation.

use super::unix_time::now;
use super::{certificate_names, pem};
use crate::config::Certificate;
use moongate_config::{Files, Place, Placed, Problem, Problems};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use serde::Serialize;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

/// The largest file in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// A certificate in use, as shown by the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// The source: the file as configured.
    pub certificate: String,
    /// The certificate's names.
    pub names: Vec<String>,
    /// The type of the key: `ecdsa`, `rsa` or `ed25519`.
    pub key: &'static str,
    /// The serial number in hexadecimal digits.
    pub serial: String,
    /// The issuer in the format of RFC 4514.
    pub issuer: String,
    /// The first second of validity, in Unix seconds.
    pub not_before: i64,
    /// The last second of validity, in Unix seconds.
    pub not_after: i64,
}

/// A certificate, ready for handshakes.
#[derive(Debug)]
pub(super) struct LoadedCertificate {
    pub(super) about: About,
    pub(super) key: Arc<CertifiedKey>,
}

impl LoadedCertificate {
    /// Whether the key has a type that older clients cannot verify and newer ones prefer.
    pub(super) fn is_modern(&self) -> bool {
        self.about.key != "rsa"
    }

    /// Whether this is the same certificate.
    pub(super) fn is(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.key.cert.first() == chain.first()
    }
}

/// Reads a certificate, its key and its OCSP response. `serving` are those that serve now: an expired
/// one among them must not reject the other changes.
///
/// # Errors
/// Every problem of the files, at the places of their settings.
pub(super) fn load(
    written: &Placed<Certificate>,
    files: &Files,
    serving: &[LoadedCertificate],
    warnings: &mut Problems,
) -> Result<LoadedCertificate, Problems> {
    let mut problems = Problems::default();
    let at = |place: &Place| {
        let place = place.clone();
        move |problem: Problem| Problems::from(problem.at(&place))
    };
    let read = |path: &Placed<String>| files.read(path, LARGEST).map_err(Problems::from);
    let chain =
        read(&written.cert).and_then(|file| pem::certificates(&file.bytes).map_err(at(&written.cert.place)));
    let key = read(&written.key).and_then(|file| pem::key(&file.bytes).map_err(at(&written.key.place)));
    let ocsp = written
        .ocsp
        .as_ref()
        .map(|ocsp| read(ocsp).and_then(|file| response(&file.bytes).map_err(at(&ocsp.place))));
    let (chain, key) = (problems.keep(chain), problems.keep(key));
    let ocsp = ocsp.and_then(|ocsp| problems.keep(ocsp));
    let (Some(chain), Some(key)) = (chain, key) else { return Err(problems) };
    let about = problems.keep(describe(written, &chain, serving, warnings).map_err(at(&written.cert.place)));
    let certified = problems.keep(certify(&written.cert, &written.key, chain, key).map_err(Problems::from));
    match (about, certified) {
        (Some(about), Some(mut certified)) if !problems.refuse() => {
            certified.ocsp = ocsp;
            let key = Arc::new(certified);
            let kind = match key.key.algorithm() {
                SignatureAlgorithm::RSA => "rsa",
                SignatureAlgorithm::ED25519 => "ed25519",
                _ => "ecdsa",
            };
            Ok(LoadedCertificate { about: About { key: kind, ..about }, key })
        }
        _ => Err(problems),
    }
}

/// Combines a certificate and its key; `cert` and `path` are their files.
///
/// # Errors
/// The problem of one of the files, or of both together, at the place of the responsible file.
pub(super) fn certify(
    cert: &Placed<String>,
    path: &Placed<String>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Problem> {
    if chain.first().and_then(certificate_names::parse).is_some_and(|leaf| leaf.version() == X509Version::V1)
    {
        let wrong = "the certificate has X.509 version 1; version 3 with subjectAltName is required";
        return Err(Problem::new(wrong)
            .help("create it with `openssl x509 -req -extfile` or `openssl req -x509 -addext`")
            .at(&cert.place));
    }
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            Problem::new("the private key does not match the certificate")
                .help("compare the public keys with `openssl x509 -pubkey -noout` and `openssl pkey -pubout`")
                .at(&path.place)
        }
        Error::General(why) => Problem::new(format!("the private key cannot be used: {why}"))
            .help("use ECDSA on P-256 or P-384, RSA with at least 2048 bits, or Ed25519")
            .at(&path.place),
        other => Problem::new(format!("the certificate cannot be used: {other}")).at(&cert.place),
    })
}

/// Reads a certificate's description; `key` is still unknown.
fn describe(
    written: &Certificate,
    chain: &[CertificateDer<'_>],
    serving: &[LoadedCertificate],
    warnings: &mut Problems,
) -> Result<About, Problem> {
    let unreadable = || Problem::new("the certificate is not valid X.509");
    let parsed: Vec<_> =
        chain.iter().map(certificate_names::parse).collect::<Option<_>>().ok_or_else(unreadable)?;
    let leaf = parsed.first().ok_or_else(unreadable)?;
    let mut warn = |problem: Problem| warnings.push(problem.at(&written.cert.place));
    let kept = serving.iter().any(|ready| ready.is(chain));
    if let Some(doubt) = in_time(leaf, kept)? {
        warn(doubt);
    }
    let names = certificate_names::alternative(leaf);
    // Older versions cannot have names, and are refused for their version.
    if names.is_empty() && leaf.version() == X509Version::V3 {
        warn(
            Problem::warning("the certificate has no names; clients will reject it")
                .help("add subjectAltName entries; clients ignore the common name"),
        );
    }
    if let Some(at) = parsed.windows(2).position(|pair| pair[0].issuer() != pair[1].subject()) {
        let (this, next) =
            (certificate_names::name(parsed[at].issuer()), certificate_names::name(parsed[at + 1].subject()));
        warn(
            Problem::warning(format!(
                "the chain is out of order: certificate {} is issued by `{this}`, but `{next}` follows",
                at + 1
            ))
            .help("put the issuer of each certificate after it; some clients cannot verify another order"),
        );
    }
    Ok(About {
        certificate: written.cert.value.clone(),
        names,
        key: "",
        serial: certificate_names::serial(leaf),
        issuer: certificate_names::name(leaf.issuer()),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    })
}

/// Checks that a certificate is valid now. For a certificate in use, the problem is a warning.
///
/// # Errors
/// The certificate is not valid now; without a place.
pub(super) fn in_time(certificate: &X509Certificate<'_>, in_use: bool) -> Result<Option<Problem>, Problem> {
    let (now, valid) = (now(), certificate.validity());
    let problem = if valid.not_after.timestamp() < now {
        Problem::new(format!("the certificate expired at {}", valid.not_after))
    } else if valid.not_before.timestamp() > now {
        Problem::new(format!("the certificate is not valid before {}", valid.not_before))
            .help("if that time is past, correct the clock of this machine")
    } else {
        return Ok(None);
    };
    match in_use {
        true => Ok(Some(
            Problem::warning(problem.message).help("the certificate stays in use until it is replaced"),
        )),
        false => Err(problem),
    }
}

/// Checks that an OCSP response can be stapled: DER, with the status successful (RFC 6960 §4.2.1).
fn response(bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let body = match bytes {
        [0x30, 0x81, length, body @ ..] if body.len() == usize::from(*length) => body,
        [0x30, 0x82, high, low, body @ ..]
            if body.len() == usize::from(u16::from_be_bytes([*high, *low])) =>
        {
            body
        }
        [0x30, length @ ..=0x7f, body @ ..] if body.len() == usize::from(*length) => body,
        _ => {
            return Err(Problem::new("the file has no OCSP response in DER")
                .help("create one with `openssl ocsp -respout FILE`"));
        }
    };
    match body {
        [0x0a, 1, 0, ..] => Ok(bytes.to_vec()),
        [0x0a, 1, status, ..] => {
            Err(Problem::new(format!("the OCSP response is an error, with status {status}")))
        }
        _ => Err(Problem::new("the file has no OCSP response")),
    }
}
