//! TLS for clients: a listener's settings as rustls configurations, and the refresh of their files.

use super::cert_resolver::CertResolver;
use super::certificate::{self, About, LoadedCertificate};
use super::dynamic_certs::{Challenges, Slot};
use super::session_tickets::{EphemeralTicketKeys, FleetTicketKeys, Key, Keys, TicketKeyState, Tickets};
use super::{HandshakeFailure, certificate_names, client_trust, transcript};
use crate::config::{ListenerTls, TlsVersion, UnknownSni};
use crate::runtime::shared_secrets::SharedSecrets;
use crate::telemetry::metrics::{LazyHandle, TlsMetrics};
use arc_swap::ArcSwap;
use moongate_config::{Files, Placed, Problem, Problems};
use moongate_sdk::Tls;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::{ServerConfig, ServerConnection, version};
use std::sync::Arc;

/// The ALPN protocols of a listener (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpn {
    /// `h2`.
    pub h2: bool,
    /// `http/1.1`.
    pub http1: bool,
}

/// A listener's TLS configuration.
#[derive(Debug)]
pub struct Acceptor {
    written: Placed<ListenerTls>,
    alpn: Alpn,
    /// The files' content, which a refresh replaces.
    current: ArcSwap<Material>,
    /// The problem found by the last refresh.
    wrong: Mutex<FileProblem>,
    later: Option<Arc<Slot>>,
    challenges: Arc<Challenges>,
    /// The secrets of `ticket_keys` with a store.
    secrets: Option<Arc<SharedSecrets>>,
    /// The listener's name.
    pub listener: Box<str>,
    /// The metrics of handshakes.
    pub metrics: LazyHandle<Arc<TlsMetrics>>,
}

/// The surroundings of an acceptor, beside its settings.
pub struct AcceptorContext<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The acceptor in use there, if any: its sessions can be resumed.
    pub prior: Option<&'a Acceptor>,
    /// The slot of the listener's ACME certificate, if configured.
    pub later: Option<Arc<Slot>>,
    /// The pending ACME challenges.
    pub challenges: &'a Arc<Challenges>,
    /// The secrets of `ticket_keys` with a store.
    pub(crate) secrets: Option<Arc<SharedSecrets>>,
}

/// The TLS configuration for a ClientHello.
#[derive(Debug)]
pub enum TlsSelection {
    /// A handshake with this configuration.
    Served(Arc<ServerConfig>),
    /// A validation handshake of a CA, which carries no data (RFC 8737 §3).
    Proven(Arc<ServerConfig>),
    /// There is no certificate for the requested name, and such names are refused.
    UnknownName,
    /// Without ALPN, the protocol is HTTP/1.1, which the listener does not serve.
    NoProtocol,
}

/// How a ClientHello is passed to rustls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloForm {
    /// As it was received.
    Received,
    /// With an ignored server name.
    IgnoredName,
}

/// The configuration made of a listener's files.
#[derive(Debug)]
struct Material {
    config: Arc<ServerConfig>,
    /// The configuration for [`HelloForm::IgnoredName`].
    ignored_name: Arc<ServerConfig>,
    resolver: Arc<CertResolver>,
    keys: Keys,
    certificates: Vec<LoadedCertificate>,
    files: Files,
}

/// The result of a refresh.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// The files are unchanged, or their problem was already reported.
    Same,
    /// The files changed, and new connections use them; with warnings.
    Changed(Problems),
    /// The files changed and are invalid; the previous ones stay in use.
    Refused(Problems),
}

/// A problem is reported if two refreshes find it: a pair of files is written one after the other.
#[derive(Debug, Default)]
struct FileProblem {
    seen: Option<Problems>,
    reported: bool,
}

impl Acceptor {
    /// Compiles a listener's settings.
    ///
    /// # Errors
    /// Every problem of the settings and their files, with places. Warnings go to `warnings`.
    pub fn compile(
        written: &Placed<ListenerTls>,
        alpn: Alpn,
        around: AcceptorContext<'_>,
        warnings: &mut Problems,
    ) -> Result<Arc<Self>, Problems> {
        let AcceptorContext { listener, prior, later, challenges, secrets } = around;
        let prior = prior.map(|prior| prior.current.load_full());
        let material =
            Material::load(written, alpn, later.as_ref(), secrets.as_ref(), prior.as_deref(), warnings)?;
        let metrics_label = listener.to_owned();
        Ok(Arc::new(Self {
            written: written.clone(),
            alpn,
            current: ArcSwap::from_pointee(material),
            wrong: Mutex::default(),
            later,
            challenges: Arc::clone(challenges),
            secrets,
            listener: listener.into(),
            metrics: LazyHandle::new(move || TlsMetrics::of(&metrics_label)),
        }))
    }

    /// Selects the configuration for a ClientHello.
    pub fn select_config(&self, hello: &ClientHello<'_>, form: HelloForm) -> TlsSelection {
        if let Some(proof) = self.challenges.handshake(hello) {
            return TlsSelection::Proven(proof);
        }
        let current = self.current.load();
        if self.written.unknown_sni == UnknownSni::Reject && !current.resolver.knows(hello.server_name()) {
            return TlsSelection::UnknownName;
        }
        // If the client offers protocols, rustls decides.
        if !self.alpn.http1 && hello.alpn().is_none() {
            return TlsSelection::NoProtocol;
        }
        TlsSelection::Served(Arc::clone(match form {
            HelloForm::Received => &current.config,
            HelloForm::IgnoredName => &current.ignored_name,
        }))
    }

    /// Whether HTTP/1 is served.
    pub fn speaks_http1(&self) -> bool {
        self.alpn.http1
    }

    /// The facts of a completed handshake.
    ///
    /// # Errors
    /// The client certificate has expired: a resumed session must not outlive it.
    pub fn facts(session: &ServerConnection) -> Result<Tls, HandshakeFailure> {
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let client = shown.map(certificate_names::client_in_time).transpose()?;
        let suite = session.negotiated_cipher_suite();
        Ok(Tls {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: suite.and_then(|suite| suite.suite().as_str()).map_or("", iana),
            server_name: session.server_name().map(Into::into),
            client,
        })
    }

    /// The generated ticket keys, for another process; `None` if files or a store have them.
    pub fn ticket_key_state(&self) -> Option<TicketKeyState> {
        match &self.current.load().keys {
            Keys::Own(own) => Some(own.state()),
            Keys::Files(_) | Keys::Fleet(_) => None,
        }
    }

    /// Continues with the generated ticket keys of another process, unless files or a store have them now.
    pub fn restore_ticket_keys(&self, state: &TicketKeyState) {
        if let Keys::Own(own) = &self.current.load().keys {
            own.restore(state);
        }
    }

    /// The certificates in use.
    pub fn certificates(&self) -> Vec<About> {
        self.current.load().certificates.iter().map(|ready| ready.about.clone()).collect()
    }

    /// Rereads the files and uses changed ones. Blocks on the disk: not for a worker.
    pub fn look(&self) -> RefreshOutcome {
        let current = self.current.load_full();
        if current.files.unchanged() {
            *self.wrong.lock() = FileProblem::default();
            return RefreshOutcome::Same;
        }
        let mut warnings = Problems::default();
        let (later, secrets) = (self.later.as_ref(), self.secrets.as_ref());
        match Material::load(&self.written, self.alpn, later, secrets, Some(&current), &mut warnings) {
            Ok(material) => {
                self.current.store(Arc::new(material));
                *self.wrong.lock() = FileProblem::default();
                self.metrics.rotated();
                RefreshOutcome::Changed(warnings)
            }
            Err(problems) => self.refuse(problems),
        }
    }

    fn refuse(&self, problems: Problems) -> RefreshOutcome {
        let mut wrong = self.wrong.lock();
        if wrong.seen.as_ref() != Some(&problems) {
            *wrong = FileProblem { seen: Some(problems), reported: false };
            return RefreshOutcome::Same;
        }
        if std::mem::replace(&mut wrong.reported, true) {
            return RefreshOutcome::Same;
        }
        self.metrics.not_rotated();
        RefreshOutcome::Refused(problems)
    }
}

impl Material {
    fn load(
        written: &Placed<ListenerTls>,
        alpn: Alpn,
        later: Option<&Arc<Slot>>,
        secrets: Option<&Arc<SharedSecrets>>,
        prior: Option<&Self>,
        warnings: &mut Problems,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let files = Files::default();
        let serving = prior.map_or(&[][..], |prior| &prior.certificates);
        let certificates: Vec<_> = written
            .certificates
            .iter()
            .filter_map(|one| problems.keep(certificate::load(one, &files, serving, warnings)))
            .collect();
        if written.certificates.is_empty() && written.acme.is_none() {
            let problem = Problem::new("`tls` has no certificate; no client can connect").at(&written.place);
            problems.push(problem.help("set files in `certificates`, or configure `acme`"));
        }
        let keys = problems.keep(ticket_keys(written, &files, secrets, prior));
        let provider = Arc::new(ring::default_provider());
        let trust = written
            .client_auth
            .as_ref()
            .map(|auth| client_trust::load(auth, &files, &provider, warnings).map_err(Problems::from));
        let trust = trust.map(|trust| problems.keep(trust));
        let (Some(keys), false) = (keys, problems.refuse()) else { return Err(problems) };
        let versions = match written.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let (verifier, mark) = match trust.flatten() {
            Some((verifier, mark)) => (Some(verifier), mark),
            None => (None, client_trust::NO_CLIENT_CERTIFICATES),
        };
        let resolver = Arc::new(CertResolver::new(&certificates, later.cloned()));
        let tickets = Arc::new(Tickets::new(keys.clone(), mark));
        let build = |provider: Arc<CryptoProvider>, verifier: Option<Arc<dyn ClientCertVerifier>>| {
            let config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .map_err(|error| Problem::new(format!("TLS cannot be set up: {error}")).at(&written.place))?;
            let config = match verifier {
                Some(verifier) => config.with_client_cert_verifier(verifier),
                None => config.with_no_client_auth(),
            };
            let mut config = config.with_cert_resolver(Arc::clone(&resolver) as _);
            config.alpn_protocols = alpn.names();
            // WebSockets move to another process with their keys.
            config.enable_secret_extraction = true;
            config.ticketer = Arc::clone(&tickets) as _;
            // Sessions are in tickets. A session store would be memory that clients can fill.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            Ok::<_, Problem>(Arc::new(config))
        };
        let ignored_name = build(transcript::provider(), verifier.clone().map(transcript::verifier))?;
        let config = build(provider, verifier)?;
        Ok(Self { config, ignored_name, resolver, keys, certificates, files })
    }
}

impl Alpn {
    fn names(self) -> Vec<Vec<u8>> {
        // A client that offers only `http/1.0` uses HTTP/1 too.
        let known = [(self.h2, &b"h2"[..]), (self.http1, b"http/1.1"), (self.http1, b"http/1.0")];
        known.into_iter().filter(|(spoken, _)| *spoken).map(|(_, name)| name.to_vec()).collect()
    }
}

/// A cipher suite's name in the IANA registry: rustls prefixes those of TLS 1.3.
fn iana(name: &'static str) -> &'static str {
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

/// The keys of a store or of the files, or generated keys: those in use, so that sessions can be resumed after a reload.
fn ticket_keys(
    written: &ListenerTls,
    files: &Files,
    secrets: Option<&Arc<SharedSecrets>>,
    prior: Option<&Material>,
) -> Result<Keys, Problems> {
    if let Some(secrets) = secrets {
        return Ok(Keys::Fleet(Arc::new(FleetTicketKeys::new(Arc::clone(secrets)))));
    }
    if written.ticket_keys.files().is_empty() {
        return Ok(match prior.map(|prior| &prior.keys) {
            Some(Keys::Own(own)) => Keys::Own(Arc::clone(own)),
            _ => Keys::Own(Arc::new(EphemeralTicketKeys::new())),
        });
    }
    let mut problems = Problems::default();
    let read = |path: &Placed<String>| {
        let file = files.read(path, certificate::LARGEST)?;
        Key::of_file(&file.bytes).map_err(|problem| problem.at(&path.place))
    };
    let keys: Vec<_> = written
        .ticket_keys
        .files()
        .iter()
        .filter_map(|path| problems.keep(read(path).map(Arc::new).map_err(Problems::from)))
        .collect();
    if problems.refuse() { Err(problems) } else { Ok(Keys::Files(keys.into())) }
}
