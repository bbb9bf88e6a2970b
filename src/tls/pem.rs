//! PEM files of certificates and keys, with messages about common mistakes.

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
        Ok(_) if has(bytes, "PRIVATE KEY") => {
            Err(Problem::new("the file has a private key and no certificate")
                .help("are `cert` and `key` swapped?"))
        }
        Ok(_) if has(bytes, "CERTIFICATE REQUEST") => {
            Err(Problem::new("the file is a certificate signing request, not a certificate")
                .help("use the certificate that the CA issued for it"))
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
        return Err(Problem::new("the private key is encrypted; the gateway cannot ask for a password")
            .help("decrypt it with `openssl pkey -in FILE -out FILE.plain`, and restrict the permissions of the result"));
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if has(bytes, "CERTIFICATE") => {
            Err(Problem::new("the file has a certificate and no private key")
                .help("are `cert` and `key` swapped?"))
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
    // A certificate or key in DER is a sequence with a length of more than one byte.
    if matches!(bytes, [0x30, 0x81..=0x84, ..]) {
        return Problem::new("the file is DER, not PEM").help(format!("convert it with `{convert}`"));
    }
    Problem::new(format!("the file has no {what}")).help(format!(
        "a PEM file has it between `-----BEGIN {}-----` and the `END` of it",
        what.to_uppercase()
    ))
}

fn broken(what: &str, error: &pem::Error) -> Problem {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end; is the file truncated?".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is invalid".to_owned(),
        pem::Error::Base64Decode(_) => "invalid base64".to_owned(),
        other => other.to_string(),
    };
    Problem::new(format!("the {what} cannot be read: {why}"))
}

/// Whether the file has a section whose name ends with `name`.
fn has(bytes: &[u8], name: &str) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii().strip_prefix(b"-----BEGIN ");
        line.is_some_and(|line| line.strip_suffix(b"-----").unwrap_or(line).ends_with(name.as_bytes()))
    })
}

fn has_line(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == wanted)
}
