//! TLS to backends: an upstream's settings as rustls configurations.

use super::{certificate, certificate_names, client_trust, pem, platform_roots};
use crate::config::UpstreamTls;
use moongate_config::{Files, Placed, Problem, Problems};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An upstream's TLS configuration with its session cache. It is kept over reloads unless the settings or
/// their files change.
pub(crate) struct Client {
    number: u64,
    written: UpstreamTls,
    files: Files,
    http1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    issuers: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
    advice: Vec<Problem>,
}

/// The certificate chain that is presented to backends, and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Client {
    /// Compiles an upstream's settings; returns `prior` if nothing changed.
    ///
    /// # Errors
    /// Every problem of the settings and their files, with places.
    pub(crate) fn compile(
        written: &Placed<UpstreamTls>,
        prior: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Problems> {
        if let Some(prior) = prior.filter(|prior| prior.written == written.value && prior.is_current()) {
            return Ok(Arc::clone(prior));
        }
        let files = Files::default();
        let mut problems = Problems::default();
        check_name(written, &mut problems);
        let issuers = written.ca.as_ref().and_then(|path| problems.keep(certificates(&files, path)));
        problems.0.extend(doubts(written, issuers.as_deref()));
        let shown = prior.and_then(|prior| prior.identity.as_ref());
        let identity = problems.keep(identity(&files, written, shown)).flatten();
        let (identity, doubt) = identity.unzip();
        problems.0.extend(doubt.flatten());
        let roots = match (&written.ca, &issuers) {
            (Some(path), Some(issuers)) => problems.keep(roots(path, issuers)),
            (Some(_), None) => None,
            (None, _) => problems.keep(system(written)),
        };
        let (false, Some(roots)) = (problems.refuse(), roots) else { return Err(problems) };
        let config = configure(written, roots, identity.as_ref())?;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Ok(Arc::new(Self {
            number: NEXT.fetch_add(1, Relaxed),
            written: written.value.clone(),
            files,
            http1: speaking(&config, &[b"http/1.1"]),
            h2: speaking(&config, &[b"h2", b"http/1.1"]),
            issuers,
            identity,
            advice: problems.0,
        }))
    }

    /// Whether the files are unchanged since they were read.
    pub(crate) fn is_current(&self) -> bool {
        self.files.unchanged()
    }

    /// A number that is unique in the process: connections of different configurations are not shared.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Warnings about the settings.
    pub(crate) fn advice(&self) -> &[Problem] {
        &self.advice
    }

    /// The configuration with `http/1.1` in ALPN, after `h2` if that is used.
    pub(crate) fn config(&self, h2: bool) -> &Arc<ClientConfig> {
        if h2 { &self.h2 } else { &self.http1 }
    }

    /// The configured server name.
    pub(crate) fn sni(&self) -> Option<&str> {
        self.written.sni.as_deref().map(String::as_str)
    }

    /// Whether backends' certificates are verified.
    pub(crate) fn verifies(&self) -> bool {
        *self.written.verify
    }

    /// The issuers that are trusted instead of those of the system.
    pub(crate) fn issuers(&self) -> Option<&[CertificateDer<'static>]> {
        self.issuers.as_deref()
    }

    /// The client certificate for backends.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

fn check_name(written: &Placed<UpstreamTls>, problems: &mut Problems) {
    if let Some(sni) = &written.sni
        && ServerName::try_from(sni.as_str()).is_err()
    {
        let problem = Problem::new(format!("`{}` is not a valid server name", sni.value));
        problems.push(problem.help("use a host name such as api.internal, or an IP address").at(&sni.place));
    }
    if !*written.verify {
        let problem = Problem::warning("certificates of backends are not verified");
        let help = "an attacker on the path can read and change all traffic; set `ca` to the issuer of the certificates";
        problems.push(problem.help(help).at(&written.verify.place));
    }
}

fn certificates(files: &Files, path: &Placed<String>) -> Result<Vec<CertificateDer<'static>>, Problems> {
    let file = files.read(path, certificate::LARGEST)?;
    let found = pem::certificates(&file.bytes).map_err(|problem| problem.at(&path.place))?;
    for certificate in &found {
        // rustls would reject an unreadable certificate only later, during a handshake.
        if x509_parser::parse_x509_certificate(certificate).is_err() {
            let problem = Problem::new(format!("`{}` contains an invalid certificate", path.value));
            return Err(problem.at(&path.place).into());
        }
    }
    Ok(found)
}

/// Warnings about the issuers in `ca`.
fn doubts(written: &UpstreamTls, issuers: Option<&[CertificateDer<'_>]>) -> Vec<Problem> {
    let (Some(path), Some(issuers)) = (&written.ca, issuers) else { return Vec::new() };
    issuers.iter().filter_map(client_trust::doubt).map(|doubt| doubt.at(&path.place)).collect()
}

/// The client certificate with its warnings; `shown` is the present one.
fn identity(
    files: &Files,
    written: &Placed<UpstreamTls>,
    shown: Option<&Identity>,
) -> Result<Option<(Identity, Option<Problem>)>, Problems> {
    let (cert, path) = match (&written.cert, &written.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        (Some(cert), None) => {
            let problem = Problem::new("`cert` needs `key`");
            return Err(problem.help("set `key` to the file of its private key").at(&cert.place).into());
        }
        (None, Some(key)) => {
            let problem = Problem::new("`key` needs `cert`");
            return Err(problem.help("set `cert` to the file of its certificate").at(&key.place).into());
        }
    };
    let mut problems = Problems::default();
    let chain = problems.keep(certificates(files, cert));
    let key =
        problems.keep(files.read(path, certificate::LARGEST).map_err(Problems::from).and_then(|file| {
            pem::key(&file.bytes).map_err(|problem| Problems::from(problem.at(&path.place)))
        }));
    let (Some(chain), Some(key)) = (chain, key) else { return Err(problems) };
    let in_use = shown.is_some_and(|shown| shown.chain.first() == chain.first());
    let in_time =
        chain.first().and_then(certificate_names::parse).map(|leaf| certificate::in_time(&leaf, in_use));
    let in_time = in_time.unwrap_or(Ok(None)).map_err(|problem| problem.at(&cert.place).into());
    let doubt = problems.keep(in_time).flatten().map(|doubt| doubt.at(&cert.place));
    let fits = certificate::certify(cert, path, chain.clone(), key.clone_key());
    problems.keep(fits.map_err(Problems::from));
    if problems.refuse() { Err(problems) } else { Ok(Some((Identity { chain, key }, doubt))) }
}

fn roots(path: &Placed<String>, issuers: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, Problems> {
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots.add(issuer.clone()).map_err(|error| {
            let problem = Problem::new(format!("an issuer in `{}` cannot be trusted: {error}", path.value));
            Problems::from(problem.at(&path.place))
        })?;
    }
    Ok(Arc::new(roots))
}

/// The trusted issuers of the system.
fn system(written: &Placed<UpstreamTls>) -> Result<Arc<RootCertStore>, Problems> {
    if !*written.verify {
        return Ok(Arc::new(RootCertStore::empty()));
    }
    platform_roots::store().map_err(|error| {
        let problem = Problem::new(format!("system root certificates not read: {error}"));
        let help =
            "install root certificates (Debian: ca-certificates), or set `ca` to a file of trusted issuers";
        problem.help(help).at(&written.place).into()
    })
}

fn configure(
    written: &Placed<UpstreamTls>,
    roots: Arc<RootCertStore>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, Problems> {
    let wrong = |error: Error| {
        Problems::from(Problem::new(format!("TLS cannot be set up: {error}")).at(&written.place))
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let builder = if *written.verify {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = verifier.map_err(|error| wrong(Error::General(error.to_string())))?;
        builder.with_webpki_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
    };
    match identity {
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(wrong)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// A copy with these ALPN protocols and its own session cache: a session of h2 cannot be resumed with
/// http/1.1.
fn speaking(config: &ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = rustls::client::Resumption::default();
    // WebSockets move to another process with their keys.
    config.enable_secret_extraction = true;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Accepts every certificate; the handshake still proves possession of its key.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
