//! What a PEM file holds, or in an operator's words why it does not hold what it should.

use moongate_config::Problem;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a file, in its order; at least one.
///
/// # Errors
/// A problem without a place.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if has(bytes, "PRIVATE KEY") => Err(Problem::new("there is a private key, and no certificate")
            .help("`cert` and `key` may have been mistaken for each other")),
        Ok(_) if has(bytes, "CERTIFICATE REQUEST") => {
            Err(Problem::new("this is a request for a certificate, not a certificate")
                .help("the authority that it was sent to answers with the certificate"))
        }
        Ok(_) => Err(none("certificate", bytes, "openssl x509 -inform der -in FILE -out FILE.pem")),
        Err(error) => Err(broken("certificate", &error)),
    }
}

/// The first private key of a file.
///
/// # Errors
/// A problem without a place.
pub(super) fn key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    if has(bytes, "ENCRYPTED PRIVATE KEY") || has_line(bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Problem::new("the private key is encrypted, and there is nobody to type its password")
            .help("`openssl pkey -in FILE -out FILE.plain` takes the password away; mind who may read the result"));
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if has(bytes, "CERTIFICATE") => {
            Err(Problem::new("there is a certificate, and no private key")
                .help("`cert` and `key` may have been mistaken for each other"))
        }
        Err(pem::Error::NoItemsFound) => {
            Err(none("private key", bytes, "openssl pkey -inform der -in FILE -out FILE.pem"))
        }
        Err(error) => Err(broken("private key", &error)),
    }
}

fn none(what: &str, bytes: &[u8], convert: &str) -> Problem {
    if bytes.trim_ascii().is_empty() {
        return Problem::new("the file is empty");
    }
    // Every certificate and key in DER is a sequence whose length takes more than one byte.
    if matches!(bytes, [0x30, 0x81..=0x84, ..]) {
        return Problem::new("the file is in DER, and PEM is wanted")
            .help(format!("`{convert}` converts it"));
    }
    Problem::new(format!("there is no {what} in the file")).help(format!(
        "a PEM file has it between `-----BEGIN {}-----` and the `END` of it",
        what.to_uppercase()
    ))
}

fn broken(what: &str, error: &pem::Error) -> Problem {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end: the file may be cut off".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is broken".to_owned(),
        pem::Error::Base64Decode(_) => "it is no base64".to_owned(),
        other => other.to_string(),
    };
    Problem::new(format!("the {what} cannot be read: {why}"))
}

/// Whether a section of that name, or one that ends so, begins in the file.
fn has(bytes: &[u8], name: &str) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii().strip_prefix(b"-----BEGIN ");
        line.is_some_and(|line| line.strip_suffix(b"-----").unwrap_or(line).ends_with(name.as_bytes()))
    })
}

fn has_line(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == wanted)
}
