//! TLS towards clients: a listener's settings as rustls takes them, and looking at their files again.

use super::cert_resolver::CertResolver;
use super::certificate::{self, About, Ready};
use super::dynamic_certs::{Challenges, Slot};
use super::session_tickets::{EphemeralTicketKeys, Key, Keys, Tickets};
use super::{HandshakeFailure, certificate_names, client_trust};
use crate::config::{ListenerTls, TlsVersion, UnknownSni};
use crate::telemetry::metrics::TlsMetrics;
use arc_swap::ArcSwap;
use moongate_config::{Files, Placed, Problem, Problems};
use moongate_sdk::Tls;
use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::{ServerConfig, ServerConnection, version};
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
    written: Placed<ListenerTls>,
    alpn: Alpn,
    /// What the files said; the one thing that changes when they do.
    current: ArcSwap<Material>,
    /// What was wrong with the files when they were looked at last.
    wrong: Mutex<FileProblem>,
    later: Option<Arc<Slot>>,
    challenges: Arc<Challenges>,
    /// The listener's name.
    pub listener: Box<str>,
    /// What handshakes count.
    pub metrics: Arc<TlsMetrics>,
}

/// What an acceptor needs to know beside what was written.
pub struct AcceptorContext<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// What serves there now, if something does: its clients can resume their sessions.
    pub prior: Option<&'a Acceptor>,
    /// The place of the certificate that the gateway gets by itself, where it should.
    pub later: Option<Arc<Slot>>,
    /// The proofs that authorities may ask for.
    pub challenges: &'a Arc<Challenges>,
}

/// How a client is met that begins its handshake.
#[derive(Debug)]
pub enum TlsSelection {
    /// The handshake is made with this.
    Served(Arc<ServerConfig>),
    /// It is an authority that asks for a proof: the handshake is all that it wants (RFC 8737 §3).
    Proven(Arc<ServerConfig>),
    /// Nobody is there for the name it wants.
    UnknownName,
    /// It does not say what it speaks, which means HTTP/1.1, and that is not spoken.
    NoProtocol,
}

/// What is made of a listener's files.
#[derive(Debug)]
struct Material {
    config: Arc<ServerConfig>,
    shelf: Arc<CertResolver>,
    keys: Keys,
    certificates: Vec<Ready>,
    files: Files,
}

/// What looking at the files again found.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// They say what they said, or what is wrong with them was told.
    Same,
    /// They changed, and new connections are served by them. What is doubtful comes along.
    Changed(Problems),
    /// They changed, and something is wrong with them: what served before serves on.
    Refused(Problems),
}

/// A pair of files is written one after the other: what is wrong is told when it was seen twice.
#[derive(Debug, Default)]
struct FileProblem {
    seen: Option<Problems>,
    told: bool,
}

impl Acceptor {
    /// Compiles what was written for a listener.
    ///
    /// # Errors
    /// Everything that is wrong with the settings and the files they name, with places. Warnings go into
    /// `warnings`.
    pub fn compile(
        written: &Placed<ListenerTls>,
        alpn: Alpn,
        around: AcceptorContext<'_>,
        warnings: &mut Problems,
    ) -> Result<Arc<Self>, Problems> {
        let AcceptorContext { listener, prior, later, challenges } = around;
        let prior = prior.map(|prior| prior.current.load_full());
        let material = Material::load(written, alpn, later.as_ref(), prior.as_deref(), warnings)?;
        Ok(Arc::new(Self {
            written: written.clone(),
            alpn,
            current: ArcSwap::from_pointee(material),
            wrong: Mutex::default(),
            later,
            challenges: Arc::clone(challenges),
            listener: listener.into(),
            metrics: TlsMetrics::of(listener),
        }))
    }

    /// How a client is met that begins so.
    pub fn select_config(&self, hello: &ClientHello<'_>) -> TlsSelection {
        if let Some(proof) = self.challenges.handshake(hello) {
            return TlsSelection::Proven(proof);
        }
        let current = self.current.load();
        if self.written.unknown_sni == UnknownSni::Reject && !current.shelf.knows(hello.server_name()) {
            return TlsSelection::UnknownName;
        }
        // Of one that offers protocols rustls judges.
        if !self.alpn.http1 && hello.alpn().is_none() {
            return TlsSelection::NoProtocol;
        }
        TlsSelection::Served(Arc::clone(&current.config))
    }

    /// Whether HTTP/1 is spoken.
    pub fn speaks_http1(&self) -> bool {
        self.alpn.http1
    }

    /// What is told of a connection whose handshake is made.
    ///
    /// # Errors
    /// When its client is not the one it was: a session that was resumed does not outlive the client's
    /// certificate.
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

    /// The certificates that serve now.
    pub fn certificates(&self) -> Vec<About> {
        self.current.load().certificates.iter().map(|ready| ready.about.clone()).collect()
    }

    /// Looks whether the files changed, and takes what they say now. Reads files: not for a worker.
    pub fn look(&self) -> RefreshOutcome {
        let current = self.current.load_full();
        if current.files.unchanged() {
            *self.wrong.lock() = FileProblem::default();
            return RefreshOutcome::Same;
        }
        let mut warnings = Problems::default();
        match Material::load(&self.written, self.alpn, self.later.as_ref(), Some(&current), &mut warnings) {
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
            *wrong = FileProblem { seen: Some(problems), told: false };
            return RefreshOutcome::Same;
        }
        if std::mem::replace(&mut wrong.told, true) {
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
            let problem =
                Problem::new("`tls` without a certificate: nobody could connect").at(&written.place);
            problems
                .push(problem.help("name files in `certificates`, or let the gateway get one with `acme`"));
        }
        let keys = problems.keep(ticket_keys(written, &files, prior));
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
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| Problem::new(format!("TLS cannot be set up: {error}")).at(&written.place))?;
        let (config, mark) = match trust.flatten() {
            Some((verifier, mark)) => (config.with_client_cert_verifier(verifier), mark),
            None => (config.with_no_client_auth(), client_trust::NOBODY_ASKED),
        };
        let shelf = Arc::new(CertResolver::new(&certificates, later.cloned()));
        let mut config = config.with_cert_resolver(Arc::clone(&shelf) as _);
        config.alpn_protocols = alpn.names();
        config.ticketer = Arc::new(Tickets::new(keys.clone(), mark));
        // Sessions are in their tickets. A store would be memory that clients fill.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), shelf, keys, certificates, files })
    }
}

impl Alpn {
    fn names(self) -> Vec<Vec<u8>> {
        // A client that offers `http/1.0` alone is served HTTP/1 too.
        let known = [(self.h2, &b"h2"[..]), (self.http1, b"http/1.1"), (self.http1, b"http/1.0")];
        known.into_iter().filter(|(spoken, _)| *spoken).map(|(_, name)| name.to_vec()).collect()
    }
}

/// The name of a cipher suite in IANA's registry: rustls marks those of TLS 1.3 with it.
fn iana(name: &'static str) -> &'static str {
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

/// The keys of the files, or of our own: those that serve already, so that a reload makes nobody shake
/// hands anew.
fn ticket_keys(written: &ListenerTls, files: &Files, prior: Option<&Material>) -> Result<Keys, Problems> {
    if written.ticket_keys.is_empty() {
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
        .iter()
        .filter_map(|path| problems.keep(read(path).map(Arc::new).map_err(Problems::from)))
        .collect();
    if problems.refuse() { Err(problems) } else { Ok(Keys::Files(keys.into())) }
}
