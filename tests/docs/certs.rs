//! The files below `certs/` that pages and examples name. The pages do not show them, and a key does not
//! belong in a repository, so they are generated.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::fs;
use std::path::Path;

/// Certificates, each with a key.
const CERTIFICATES: [&str; 4] = ["site", "site-rsa", "other", "client"];

/// Writes them to the subdirectory `certs` of a directory.
pub(crate) fn write(folder: &Path) {
    let certs = folder.join("certs");
    fs::create_dir_all(&certs).unwrap();
    for name in CERTIFICATES {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![format!("{name}.example")]).unwrap().self_signed(&key).unwrap();
        fs::write(certs.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(certs.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let mut issuer = CertificateParams::new(Vec::new()).unwrap();
    issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(certs.join("ca.pem"), issuer.self_signed(&KeyPair::generate().unwrap()).unwrap().pem())
        .unwrap();
    // The status `successful`, without a response that is read here.
    fs::write(certs.join("site.ocsp"), [0x30, 5, 0x0a, 1, 0, 5, 0]).unwrap();
    for (seed, name) in (1..).zip(["tickets-new.key", "tickets-old.key"]) {
        fs::write(certs.join(name), (0..80).map(|byte: u8| byte ^ seed).collect::<Vec<_>>()).unwrap();
    }
}
