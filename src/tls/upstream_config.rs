//! TLS towards backends: an upstream's settings as rustls takes them.

use super::{certificate, certificate_names, client_trust, pem};
use crate::config::UpstreamTls;
use moongate_config::{Files, Placed, Problem, Problems};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// An upstream's TLS, ready for handshakes. Sessions are resumed as long as it lives: it is kept over
/// reloads that change neither the settings nor what their files say.
pub struct Client {
    number: u64,
    written: UpstreamTls,
    files: Files,
    http1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    issuers: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
    advice: Vec<Problem>,
}

/// A certificate that is shown to backends, with the ones behind it, and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate first.
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
    /// Compiles what was written for an upstream; `prior` itself while nothing changed.
    ///
    /// # Errors
    /// Everything that is wrong with the settings and the files they name, with places.
    pub fn compile(written: &Placed<UpstreamTls>, prior: Option<&Arc<Self>>) -> Result<Arc<Self>, Problems> {
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

    /// Whether its files say what they said when they were read.
    pub fn is_current(&self) -> bool {
        self.files.unchanged()
    }

    /// Tells it from every other one of this process: connections made by two of them are not the same.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What an operator should know about the settings, though they are taken.
    pub fn advice(&self) -> &[Problem] {
        &self.advice
    }

    /// For a handshake that offers `http/1.1` in ALPN, and `h2` before it when that is spoken.
    pub fn config(&self, h2: bool) -> &Arc<ClientConfig> {
        if h2 { &self.h2 } else { &self.http1 }
    }

    /// The name that was written for the backends.
    pub fn sni(&self) -> Option<&str> {
        self.written.sni.as_deref().map(String::as_str)
    }

    /// Whether backends' certificates are verified.
    pub fn verifies(&self) -> bool {
        self.written.verify
    }

    /// The issuers that are trusted in place of the system's.
    pub fn issuers(&self) -> Option<&[CertificateDer<'static>]> {
        self.issuers.as_deref()
    }

    /// What is shown to backends.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

fn check_name(written: &Placed<UpstreamTls>, problems: &mut Problems) {
    if let Some(sni) = &written.sni
        && ServerName::try_from(sni.as_str()).is_err()
    {
        let problem = Problem::new(format!("`{}` is no name that a certificate could have", sni.value));
        problems.push(problem.help("write a host name, as in api.internal, or an IP address").at(&sni.place));
    }
    if !written.verify {
        let problem = Problem::warning("backends' certificates are not verified");
        let help = "anybody in between can read and change everything; `ca` names the issuer to trust";
        problems.push(problem.help(help).at(&written.place));
    }
}

fn certificates(files: &Files, path: &Placed<String>) -> Result<Vec<CertificateDer<'static>>, Problems> {
    let file = files.read(path, certificate::LARGEST)?;
    let found = pem::certificates(&file.bytes).map_err(|problem| problem.at(&path.place))?;
    for certificate in &found {
        // What the engine could not read would end the process.
        if x509_parser::parse_x509_certificate(certificate).is_err() {
            let problem = Problem::new(format!("`{}` has a certificate that cannot be read", path.value));
            return Err(problem.at(&path.place).into());
        }
    }
    Ok(found)
}

/// What an operator should know of the issuers in `ca`.
fn doubts(written: &UpstreamTls, issuers: Option<&[CertificateDer<'_>]>) -> Vec<Problem> {
    let (Some(path), Some(issuers)) = (&written.ca, issuers) else { return Vec::new() };
    issuers.iter().filter_map(client_trust::doubt).map(|doubt| doubt.at(&path.place)).collect()
}

/// What is shown to backends, and what is doubtful about it; `shown` is what they are shown now.
fn identity(
    files: &Files,
    written: &Placed<UpstreamTls>,
    shown: Option<&Identity>,
) -> Result<Option<(Identity, Option<Problem>)>, Problems> {
    let (cert, path) = match (&written.cert, &written.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(None),
        (Some(cert), None) => {
            let problem = Problem::new("`cert` without `key`");
            return Err(problem.help("write the file of its private key as `key`").at(&cert.place).into());
        }
        (None, Some(key)) => {
            let problem = Problem::new("`key` without `cert`");
            return Err(problem.help("write the file of its certificate as `cert`").at(&key.place).into());
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

/// The issuers that the system trusts, read once.
fn system(written: &Placed<UpstreamTls>) -> Result<Arc<RootCertStore>, Problems> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    if !written.verify {
        return Ok(Arc::new(RootCertStore::empty()));
    }
    let read = || {
        let found = rustls_native_certs::load_native_certs().map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        // One that is broken is no reason to trust none.
        let (taken, _) = roots.add_parsable_certificates(found);
        if taken == 0 { Err("there is none".to_owned()) } else { Ok(Arc::new(roots)) }
    };
    match ROOTS.get_or_init(read) {
        Ok(roots) => Ok(Arc::clone(roots)),
        Err(error) => {
            let problem = Problem::new(format!("the system's root certificates cannot be read: {error}"));
            let help = "install them (Debian: ca-certificates), or name the issuers to trust as `ca`";
            Err(problem.help(help).at(&written.place).into())
        }
    }
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
    let builder = if written.verify {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = verifier.map_err(|error| wrong(Error::General(error.to_string())))?;
        builder.with_webpki_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    match identity {
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(wrong)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The same with what it offers in ALPN. Sessions are its own: one of h2 is nothing to http/1.1.
fn speaking(config: &ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = rustls::client::Resumption::default();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Takes every certificate; whoever has it must still show that its key is theirs.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
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
