//! The protocols of a listener: PROXY protocol, TLS and HTTP versions.

use super::ProxyProtocolSources;
use super::listen_address::Address;
use crate::acme;
use crate::config::{self, ListenerTls, Protocol};
use crate::limit::Stores;
use crate::runtime::shared_secrets::SharedSecrets;
use crate::tls::{Acceptor, AcceptorContext, Alpn};
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;

/// The protocols of a listener, if they are not plain HTTP/1.
#[derive(Debug)]
pub struct ListenerProtocols {
    /// The sources whose connections begin with a PROXY header, if any.
    pub proxy_protocol_sources: Option<ProxyProtocolSources>,
    /// TLS, if configured.
    pub tls: Option<Arc<Acceptor>>,
    /// Whether HTTP/1 is accepted.
    pub http1: bool,
    /// Whether HTTP/2 without TLS is accepted (RFC 9113 §3.3).
    pub h2c: bool,
}

impl ListenerProtocols {
    /// Compiles the protocols of a listener; `None` for plain HTTP/1. `prior` are those of the same listener
    /// before a reload.
    ///
    /// # Errors
    /// Every problem of the settings, with its place. Warnings are added to `warnings`.
    pub(super) fn compile(
        listener: &config::Listener,
        name: &str,
        address: &Address,
        prior: Option<&Self>,
        stores: &Stores,
        certificates: &mut acme::JobSetBuilder<'_>,
        warnings: &mut Problems,
    ) -> Result<Option<Arc<Self>>, Problems> {
        let mut problems = Problems::default();
        let balancers = listener.proxy_protocol.as_ref();
        let balancers = balancers.and_then(|written| {
            problems.keep(ProxyProtocolSources::compile(written, name, address, warnings))
        });
        let protocols = problems.keep(protocols(listener)).unwrap_or_default();
        let speaks = |protocol| protocols.contains(&protocol);
        let (http1, h2c) = (speaks(Protocol::Http1), speaks(Protocol::H2c));
        let alpn = Alpn { h2: speaks(Protocol::H2), http1 };
        let prior = prior.and_then(|prior| prior.tls.as_deref());
        let tls = listener.tls.as_ref().and_then(|tls| {
            let secrets = problems.keep(secrets(tls, stores).map_err(Problems::from)).flatten();
            let tls = secure(tls, alpn, (name, prior), secrets, certificates, warnings);
            problems.keep(tls)
        });
        if problems.refuse() {
            return Err(problems);
        }
        let greets = balancers.is_some() || tls.is_some() || h2c;
        Ok(greets.then(|| Arc::new(Self { proxy_protocol_sources: balancers, tls, http1, h2c })))
    }
}

/// The secrets of `ticket_keys` with a store.
fn secrets(written: &ListenerTls, stores: &Stores) -> Result<Option<Arc<SharedSecrets>>, Problem> {
    let Some(name) = written.ticket_keys.store() else { return Ok(None) };
    let secrets = stores.find(&name.value).and_then(|store| store.secrets().cloned());
    secrets.map(Some).map_err(|problem| problem.at(&name.place))
}

/// TLS, with an automatic certificate if configured.
fn secure(
    written: &Placed<ListenerTls>,
    alpn: Alpn,
    (name, prior): (&str, Option<&Acceptor>),
    secrets: Option<Arc<SharedSecrets>>,
    certificates: &mut acme::JobSetBuilder<'_>,
    warnings: &mut Problems,
) -> Result<Arc<Acceptor>, Problems> {
    let mut problems = Problems::default();
    let job = written.acme.as_ref().and_then(|acme| problems.keep(certificates.add(acme)));
    let later = job.as_ref().map(|job| Arc::clone(job.slot()));
    let challenges = certificates.challenges();
    let around = AcceptorContext { listener: name, prior, later, challenges, secrets };
    let acceptor = problems.keep(Acceptor::compile(written, alpn, around, warnings));
    match acceptor {
        Some(acceptor) if !problems.refuse() => Ok(acceptor),
        _ => Err(problems),
    }
}

/// The protocols, configured or by default.
fn protocols(listener: &config::Listener) -> Result<Vec<Protocol>, Problems> {
    let secure = listener.tls.is_some();
    let Some(written) = &listener.protocols else {
        return Ok(if secure { vec![Protocol::H2, Protocol::Http1] } else { vec![Protocol::Http1] });
    };
    let mut problems = Problems::default();
    for protocol in &written.value {
        let message = match protocol.value {
            Protocol::H2 if !secure => Some(("h2 needs TLS", "use h2c for HTTP/2 without TLS")),
            Protocol::H2c if secure => Some(("h2c means HTTP/2 without TLS", "use h2 for HTTP/2 over TLS")),
            _ => None,
        };
        if let Some((message, help)) = message {
            problems.push(Problem::new(message).help(help).at(&protocol.place));
        }
    }
    if written.value.is_empty() {
        let problem = Problem::new("`protocols` is empty: no client can connect");
        problems.push(problem.help("omit it for the default").at(&written.place));
    }
    let spoken = written.value.iter().map(|Placed { value, .. }| *value).collect();
    if problems.refuse() { Err(problems) } else { Ok(spoken) }
}
