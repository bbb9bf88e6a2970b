//! Root certificates of the platform, read once for the process.
//!
//! rustls configurations share one store. Each connector of Pingora loads a file, two for each worker. They load a copy
//! in memory instead of the platform's files, of which a Debian system has 150. The copy lacks the certificates that rustls rejects, because Pingora panics on one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};

struct PlatformRoots {
    store: Arc<RootCertStore>,
    /// Why no certificate was read.
    error: Option<String>,
    /// The certificates of `store`, or [`placeholder`], as PEM; `None` where the system has no files in memory.
    copy: Option<File>,
}

impl PlatformRoots {
    fn get() -> &'static Self {
        static ROOTS: OnceLock<PlatformRoots> = OnceLock::new();
        ROOTS.get_or_init(|| match rustls_native_certs::load_native_certs() {
            Ok(found) => Self::of(found),
            Err(error) => Self { error: Some(error.to_string()), ..Self::of(Vec::new()) },
        })
    }

    fn of(found: Vec<CertificateDer<'static>>) -> Self {
        let (mut store, mut pem) = (RootCertStore::empty(), String::new());
        for certificate in found {
            let text = STANDARD.encode(&certificate);
            // A broken certificate must not disable the others.
            if store.add(certificate).is_ok() {
                pem.extend(["-----BEGIN CERTIFICATE-----\n", &text, "\n-----END CERTIFICATE-----\n"]);
            }
        }
        if store.is_empty() {
            pem = placeholder().unwrap_or_default();
        }
        Self { store: Arc::new(store), error: None, copy: file_in_memory(pem.as_bytes()).ok() }
    }
}

/// A certificate that verifies no other, since its key is dropped. Without any certificate, Pingora fails
/// every handshake whose peer sets no `ca`, also with `verify: false`.
fn placeholder() -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    Ok(rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?.pem())
}

/// The root certificates as a store.
///
/// # Errors
/// Why there is none.
pub(crate) fn store() -> Result<Arc<RootCertStore>, &'static str> {
    let roots = PlatformRoots::get();
    if roots.store.is_empty() {
        return Err(roots.error.as_deref().unwrap_or("none found"));
    }
    Ok(Arc::clone(&roots.store))
}

/// The root certificates as a file for Pingora's connectors. `None` makes each connector read the platform's
/// files.
pub(crate) fn ca_file() -> Option<String> {
    let roots = PlatformRoots::get();
    if let Some(error) = &roots.error {
        log::warn!(error = error.as_str(); "system root certificates not read");
    }
    let path = path_of(roots.copy.as_ref()?);
    // `/proc` may not be mounted.
    File::open(&path).is_ok().then_some(path)
}

#[cfg(target_os = "linux")]
fn file_in_memory(bytes: &[u8]) -> io::Result<File> {
    use std::io::Write;
    let file = rustix::fs::memfd_create("root-certificates", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn file_in_memory(_: &[u8]) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A path that opens the file from its beginning.
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::tls::pem;

    #[test]
    fn the_copy_has_the_certificates_of_the_store() {
        let certificate = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
            params.self_signed(&key).unwrap().der().clone()
        };
        let (one, other) = (certificate(), certificate());
        let broken = CertificateDer::from(b"no certificate".to_vec());
        let roots = PlatformRoots::of(vec![one.clone(), broken, other.clone()]);
        assert_eq!(roots.store.len(), 2);
        let path = path_of(roots.copy.as_ref().unwrap());
        for _ in 0..2 {
            let copy = std::fs::read(&path).unwrap();
            assert_eq!(pem::certificates(&copy).unwrap(), [one.clone(), other.clone()]);
        }
    }

    #[test]
    fn without_certificates_the_copy_has_one_that_is_not_in_the_store() {
        let roots = PlatformRoots::of(Vec::new());
        assert!(roots.store.is_empty());
        let copy = std::fs::read(path_of(roots.copy.as_ref().unwrap())).unwrap();
        assert_eq!(pem::certificates(&copy).unwrap().len(), 1);
    }

    #[test]
    fn all_connectors_load_the_same_file() {
        let path = ca_file().expect("a file in memory");
        assert_eq!(ca_file().as_ref(), Some(&path));
        let copy = std::fs::read(&path).unwrap();
        let certificates = copy.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"-----BEGIN"));
        assert_eq!(certificates.count(), store().map_or(1, |store| store.len()));
    }
}
