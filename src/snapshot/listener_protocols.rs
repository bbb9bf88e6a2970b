//! What a listener does with a connection before its first request: the PROXY protocol, TLS, and which
//! HTTP is spoken.

use super::Balancers;
use super::listen_address::Address;
use crate::acme;
use crate::config::{self, ListenerTls, Protocol};
use crate::tls::{Acceptor, AcceptorContext, Alpn};
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;

/// What precedes the first request of a connection.
#[derive(Debug)]
pub struct ListenerProtocols {
    /// Whose connections begin with a PROXY header, where there are such.
    pub balancers: Option<Balancers>,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<Acceptor>>,
    /// HTTP/1 is spoken.
    pub http1: bool,
    /// HTTP/2 without TLS is spoken (RFC 9113 §3.3).
    pub h2c: bool,
}

impl ListenerProtocols {
    /// Compiles what was written for a listener; `None` where HTTP/1 begins at once. `prior` is what
    /// that listener did before a reload.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places. Warnings go into `warnings`.
    pub(super) fn compile(
        listener: &config::Listener,
        name: &str,
        address: &Address,
        prior: Option<&Self>,
        certificates: &mut acme::JobSetBuilder<'_>,
        warnings: &mut Problems,
    ) -> Result<Option<Arc<Self>>, Problems> {
        let mut problems = Problems::default();
        let balancers = listener.proxy_protocol.as_ref();
        let balancers =
            balancers.and_then(|written| problems.keep(Balancers::compile(written, name, address, warnings)));
        let protocols = problems.keep(protocols(listener)).unwrap_or_default();
        let speaks = |protocol| protocols.contains(&protocol);
        let (http1, h2c) = (speaks(Protocol::Http1), speaks(Protocol::H2c));
        let alpn = Alpn { h2: speaks(Protocol::H2), http1 };
        let prior = prior.and_then(|prior| prior.tls.as_deref());
        let tls = listener.tls.as_ref().and_then(|tls| {
            let tls = secure(tls, alpn, name, prior, certificates, warnings);
            problems.keep(tls)
        });
        if problems.refuse() {
            return Err(problems);
        }
        let greets = balancers.is_some() || tls.is_some() || h2c;
        Ok(greets.then(|| Arc::new(Self { balancers, tls, http1, h2c })))
    }
}

/// TLS, with the certificate that the gateway gets by itself where it should.
fn secure(
    written: &Placed<ListenerTls>,
    alpn: Alpn,
    name: &str,
    prior: Option<&Acceptor>,
    certificates: &mut acme::JobSetBuilder<'_>,
    warnings: &mut Problems,
) -> Result<Arc<Acceptor>, Problems> {
    let mut problems = Problems::default();
    let job = written.acme.as_ref().and_then(|acme| problems.keep(certificates.add(acme)));
    let later = job.as_ref().map(|job| Arc::clone(job.slot()));
    let around = AcceptorContext { listener: name, prior, later, challenges: certificates.challenges() };
    let acceptor = problems.keep(Acceptor::compile(written, alpn, around, warnings));
    match acceptor {
        Some(acceptor) if !problems.refuse() => Ok(acceptor),
        _ => Err(problems),
    }
}

/// What is spoken, written or by default.
fn protocols(listener: &config::Listener) -> Result<Vec<Protocol>, Problems> {
    let secure = listener.tls.is_some();
    let Some(written) = &listener.protocols else {
        return Ok(if secure { vec![Protocol::H2, Protocol::Http1] } else { vec![Protocol::Http1] });
    };
    let mut problems = Problems::default();
    for protocol in &written.value {
        let wrong = match protocol.value {
            Protocol::H2 if !secure => Some(("h2 needs TLS", "without TLS, HTTP/2 is h2c")),
            Protocol::H2c if secure => Some(("h2c is HTTP/2 without TLS", "with TLS, HTTP/2 is h2")),
            _ => None,
        };
        if let Some((wrong, help)) = wrong {
            problems.push(Problem::new(wrong).help(help).at(&protocol.place));
        }
    }
    if written.value.is_empty() {
        let problem = Problem::new("`protocols` is empty: nobody could speak with it");
        problems.push(problem.help("leave it out for the default").at(&written.place));
    }
    let spoken = written.value.iter().map(|Placed { value, .. }| *value).collect();
    if problems.refuse() { Err(problems) } else { Ok(spoken) }
}
