//! The certificate of all gateways: ECDSA over P-256, self-signed, valid for this run only.

use crate::Outcome;
use crate::tls::NAME;
use std::fs;
use std::path::{Path, PathBuf};

/// Its files, in PEM.
#[derive(Clone)]
pub(crate) struct Certificate {
    /// The certificate.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy expects them.
    pub(crate) bundle: PathBuf,
}

impl Certificate {
    /// Generates a certificate and writes its files into a directory.
    pub(crate) fn generate(directory: &Path) -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let file = |name: &str, text: String| -> Outcome<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            bundle: file("bundle.pem", format!("{cert}{key}"))?,
            cert: file("cert.pem", cert)?,
            key: file("key.pem", key)?,
        })
    }
}
