//! TLS towards clients: a listener's settings as rustls takes them.

use super::store::{Challenges, Slot};
use crate::spec::{Certificate, ListenerTls, TlsVersion};
use moongate_sdk::{Files, Placed, Problem, Problems};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use std::sync::Arc;

/// What a listener offers in ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpn {
    /// `h2`.
    pub h2: bool,
    /// `http/1.1`.
    pub http1: bool,
}

/// A listener's TLS, ready for handshakes.
#[derive(Debug)]
pub struct Acceptor {
    /// What a handshake is made with.
    pub config: Arc<ServerConfig>,
    /// What it is made with for an authority that asks for a proof.
    pub challenges: Arc<Challenges>,
}

impl Acceptor {
    /// Compiles what was written for a listener. `later` is the place of the certificate that the gateway
    /// gets by itself, where it should.
    ///
    /// # Errors
    /// Everything that is wrong with the settings and the files they name, with places.
    pub fn compile(
        written: &Placed<ListenerTls>,
        alpn: Alpn,
        later: Option<Arc<Slot>>,
        challenges: &Arc<Challenges>,
    ) -> Result<Arc<Self>, Problems> {
        let mut problems = Problems::default();
        if written.certificates.is_empty() && written.acme.is_none() {
            problems.push(
                Problem::new("`tls` without a certificate: nobody could connect")
                    .help("name files in `certificates`, or let the gateway get one with `acme`")
                    .at(&written.place),
            );
        }
        let keys: Vec<_> =
            written.certificates.iter().filter_map(|certificate| problems.keep(load(certificate))).collect();
        let versions = match written.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|error| Problem::new(format!("TLS cannot be set up: {error}")).at(&written.place))?;
        let mut config =
            config.with_no_client_auth().with_cert_resolver(Arc::new(Keys { files: keys, later }));
        config.alpn_protocols = [(alpn.h2, &b"h2"[..]), (alpn.http1, b"http/1.1")]
            .into_iter()
            .filter(|(spoken, _)| *spoken)
            .map(|(_, name)| name.to_vec())
            .collect();
        if problems.refuse() {
            return Err(problems);
        }
        Ok(Arc::new(Self { config: Arc::new(config), challenges: Arc::clone(challenges) }))
    }
}

/// The certificates of a listener.
#[derive(Debug)]
struct Keys {
    files: Vec<Arc<CertifiedKey>>,
    later: Option<Arc<Slot>>,
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = |slot: &&Arc<Slot>| {
            let asked = hello.server_name();
            self.files.is_empty() || slot.names().iter().any(|name| asked == Some(name))
        };
        let later = self.later.as_ref().filter(wanted).and_then(|slot| slot.get());
        later.or_else(|| self.files.first().cloned())
    }
}

/// The largest certificate file that is read.
const LARGEST: u64 = 1 << 20;

fn load(written: &Placed<Certificate>) -> Result<Arc<CertifiedKey>, Problems> {
    let files = Files::default();
    let cert = files.read(&written.cert, LARGEST)?;
    let key = files.read(&written.key, LARGEST)?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&cert.bytes).collect::<Result<_, _>>().map_err(|error| {
            Problem::new(format!("no certificate can be read: {error}")).at(&written.cert.place)
        })?;
    let key = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| {
        Problem::new(format!("no private key can be read: {error}")).at(&written.key.place)
    })?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| Problem::new(error.to_string()).at(&written.place))?;
    Ok(Arc::new(certified))
}
