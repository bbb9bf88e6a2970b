//! One certificate with its key, read from its files and looked at from all sides.

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

/// The largest file that is read.
pub(super) const LARGEST: u64 = 1 << 20;

/// A certificate that serves, as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Where it is from: the file as the operator wrote it.
    pub certificate: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// The kind of its key: `ecdsa`, `rsa` or `ed25519`.
    pub key: &'static str,
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// Its issuer, as RFC 4514 writes it.
    pub issuer: String,
    /// The first second of its life, since 1970.
    pub not_before: i64,
    /// The last one.
    pub not_after: i64,
}

/// A certificate, ready for handshakes.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) about: About,
    pub(super) key: Arc<CertifiedKey>,
}

impl Ready {
    /// Whether it has a key that older clients cannot verify and younger ones like better.
    pub(super) fn is_modern(&self) -> bool {
        self.about.key != "rsa"
    }

    /// Whether it is the same certificate.
    pub(super) fn is(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.key.cert.first() == chain.first()
    }
}

/// Reads a certificate, its key and its OCSP response. `serving` are those that serve now: an expired
/// one among them is no reason to refuse what else changed.
///
/// # Errors
/// Everything that is wrong with the files, at the places that name them.
pub(super) fn load(
    written: &Placed<Certificate>,
    files: &Files,
    serving: &[Ready],
    warnings: &mut Problems,
) -> Result<Ready, Problems> {
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
            Ok(Ready { about: About { key: kind, ..about }, key })
        }
        _ => Err(problems),
    }
}

/// Puts a certificate and its key together; `cert` and `path` are the files they are from.
///
/// # Errors
/// What one of the two, or both together, cannot be used for, at the file that is to blame.
pub(super) fn certify(
    cert: &Placed<String>,
    path: &Placed<String>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Problem> {
    if chain.first().and_then(certificate_names::parse).is_some_and(|leaf| leaf.version() == X509Version::V1)
    {
        let wrong = "the certificate is of X.509 version 1; version 3 with subjectAltName is needed";
        return Err(Problem::new(wrong)
            .help("`openssl x509 -req` makes version 3 with `-extfile`, and `openssl req -x509` does with `-addext`")
            .at(&cert.place));
    }
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            Problem::new("the private key does not fit the certificate")
                .help("one of the two files is of another time or another name; `openssl x509 -pubkey -noout` and `openssl pkey -pubout` show both public keys")
                .at(&path.place)
        }
        Error::General(why) => Problem::new(format!("the private key cannot be used: {why}"))
            .help("ECDSA on P-256 and P-384, RSA from 2048 bits, and Ed25519 can")
            .at(&path.place),
        other => Problem::new(format!("the certificate cannot be used: {other}")).at(&cert.place),
    })
}

/// What a certificate says of itself; `key` is not known yet.
fn describe(
    written: &Certificate,
    chain: &[CertificateDer<'_>],
    serving: &[Ready],
    warnings: &mut Problems,
) -> Result<About, Problem> {
    let unreadable = || Problem::new("the certificate cannot be read: it is no X.509");
    let parsed: Vec<_> =
        chain.iter().map(certificate_names::parse).collect::<Option<_>>().ok_or_else(unreadable)?;
    let leaf = parsed.first().ok_or_else(unreadable)?;
    let mut warn = |problem: Problem| warnings.push(problem.at(&written.cert.place));
    let kept = serving.iter().any(|ready| ready.is(chain));
    if let Some(doubt) = in_time(leaf, kept)? {
        warn(doubt);
    }
    let names = certificate_names::alternative(leaf);
    // One of an older version cannot have any, and is refused for that.
    if names.is_empty() && leaf.version() == X509Version::V3 {
        warn(Problem::warning("the certificate is for no name: nobody is given it by name, and clients do not take it")
            .help("names are alternative names (SAN); the common name of the subject has not counted since 2017"));
    }
    if let Some(at) = parsed.windows(2).position(|pair| pair[0].issuer() != pair[1].subject()) {
        let (this, next) =
            (certificate_names::name(parsed[at].issuer()), certificate_names::name(parsed[at + 1].subject()));
        warn(Problem::warning(format!("the chain is out of order: certificate {} is by `{this}`, and behind it is `{next}`", at + 1))
            .help("each certificate is followed by that of its issuer; some clients cannot verify another order"));
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

/// Looks whether a certificate is valid now. For one that is in use already it is advice when it is not.
///
/// # Errors
/// When it is not valid, without a place.
pub(super) fn in_time(certificate: &X509Certificate<'_>, in_use: bool) -> Result<Option<Problem>, Problem> {
    let (now, valid) = (now(), certificate.validity());
    let problem = if valid.not_after.timestamp() < now {
        Problem::new(format!("the certificate expired: it was valid until {}", valid.not_after))
    } else if valid.not_before.timestamp() > now {
        Problem::new(format!("the certificate is not valid yet: it will be from {}", valid.not_before))
            .help("if that is past, this machine's clock is wrong")
    } else {
        return Ok(None);
    };
    match in_use {
        true => Ok(Some(Problem::warning(problem.message).help("it is in use already, and so it stays"))),
        false => Err(problem),
    }
}

/// An OCSP response that can be stapled: DER, and an answer (RFC 6960 §4.2.1).
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
            return Err(Problem::new("there is no OCSP response in DER in the file")
                .help("`openssl ocsp -respout FILE` writes one"));
        }
    };
    match body {
        [0x0a, 1, 0, ..] => Ok(bytes.to_vec()),
        [0x0a, 1, status, ..] => {
            Err(Problem::new(format!("the OCSP response is a refusal, with status {status}")))
        }
        _ => Err(Problem::new("there is no OCSP response in the file")),
    }
}
