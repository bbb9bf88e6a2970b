//! Connector for endpoints: a connection, the PROXY header and TLS within one time limit. Probes, tunnels and
//! HTTP/1.1 requests use it; HTTP/2 upstreams use Pingora's connector with the same settings (`http_peer`).

use super::address::Address;
use super::connection_pool::{self, Server};
use super::dial::{self, DialError, PlainStream};
use super::endpoint::Endpoint;
use super::http_peer::{PeerBuilder, Versions};
use super::http1_connection::Http1Connection;
use super::proxy_header::{ProxyAddrs, send_proxy_header};
use super::upstream_stream::UpstreamStream;
use crate::config::{self, ProxyVersion, UpstreamProtocol};
use crate::net::tunnel_io::{Carrier, RecordFollower, TlsConnection};
use crate::runtime::worker_timer;
use crate::tls::Client;
use moongate_config::{Problem, Problems};
use pingora::upstreams::peer::HttpPeer;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// How the endpoints of an upstream are reached.
#[derive(Debug)]
pub struct Connector {
    protocol: UpstreamProtocol,
    tls: Option<Arc<Client>>,
    proxy: Option<ProxyVersion>,
    peers: PeerBuilder,
}

/// Whether a pooled connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// A pooled connection is preferred.
    Allowed,
    /// Only a new connection.
    Forbidden,
}

impl Connector {
    /// Compiles the settings of an upstream. The TLS configuration of `prior` is reused if its
    /// settings are equal.
    ///
    /// # Errors
    /// Every problem of the settings, with its place.
    pub(super) fn compile(spec: &config::Upstream, prior: Option<&Self>) -> Result<Arc<Self>, Problems> {
        let mut problems = Problems::default();
        let message = match (*spec.protocol, &spec.tls) {
            (UpstreamProtocol::H2, None) => Some((
                &spec.protocol.place,
                "`protocol: h2` needs `tls`",
                "use `protocol: h2c` for HTTP/2 without TLS",
            )),
            (UpstreamProtocol::H2c, Some(tls)) => Some((
                &tls.place,
                "`protocol: h2c` means HTTP/2 without TLS",
                "use `protocol: h2` for HTTP/2 over TLS",
            )),
            _ => None,
        };
        if let Some((place, message, help)) = message {
            problems.push(Problem::new(message).help(help).at(place));
        }
        let prior_tls = prior.and_then(|prior| prior.tls.as_ref());
        let tls = spec.tls.as_ref().map(|written| Client::compile(written, prior_tls)).transpose();
        let Some(tls) = problems.keep(tls) else { return Err(problems) };
        if let (Some(written), Some(client)) = (&spec.tls, &tls) {
            let unnamed = client.verifies() && client.sni().is_none();
            if unnamed && spec.endpoints.iter().any(|entry| entry.value.address().starts_with("unix:")) {
                let problem = Problem::new("an endpoint on a Unix socket has no name for its certificate");
                let help = "set `sni` to the name in its certificate";
                problems.push(problem.help(help).at(&written.place));
            }
        }
        if problems.refuse() {
            return Err(problems);
        }
        let first_word = (*spec.protocol == UpstreamProtocol::H2c).then_some(spec.connect_timeout.0);
        let (protocol, proxy) = (*spec.protocol, spec.proxy_protocol);
        let peers = PeerBuilder::new(protocol, tls.clone(), proxy, first_word);
        Ok(Arc::new(Self { protocol, tls, proxy, peers }))
    }

    /// Returns whether the files that the connector was compiled from are unchanged.
    pub(super) fn is_current(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_current())
    }

    /// Returns whether both connectors connect in the same way.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let number = |connector: &Self| connector.tls.as_ref().map(|tls| tls.number());
        (self.protocol, self.proxy, number(self)) == (other.protocol, other.proxy, number(other))
    }

    /// Warnings about the settings.
    pub(super) fn advice(&self) -> &[Problem] {
        self.tls.as_ref().map_or(&[], |tls| tls.advice())
    }

    /// The HTTP version of the backends.
    pub fn protocol(&self) -> UpstreamProtocol {
        self.protocol
    }

    /// Whether connections have TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The name that an endpoint's certificate must have: `sni`, otherwise the host, otherwise the address.
    pub(super) fn name<'a>(&'a self, to: &'a Address, host: Option<&'a str>) -> Cow<'a, str> {
        match (self.tls.as_ref().and_then(|tls| tls.sni()).or(host), to) {
            // The trailing dot of a fully qualified name appears in no certificate.
            (Some(name), _) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
            (None, Address::Tcp(address)) => Cow::Owned(address.ip().to_canonical().to_string()),
            (None, Address::Unix(_)) => Cow::Borrowed("localhost"),
        }
    }

    /// The name that an endpoint's certificate must have, for an upstream with TLS.
    pub fn server_name(&self, of: &Endpoint) -> String {
        self.name(of.address(), of.host().as_deref()).into_owned()
    }

    /// The default `Host` for an endpoint: its address, or the server name for an upstream with TLS.
    pub fn authority(&self, of: &Endpoint) -> String {
        self.host_field(of.address(), of.host().as_deref())
    }

    pub(super) fn host_field(&self, to: &Address, host: Option<&str>) -> String {
        match to {
            Address::Tcp(address) if self.tls.is_some() => {
                let name = self.name(to, host);
                let name = if name.contains(':') { format!("[{name}]") } else { name.into_owned() };
                if address.port() == 443 { name } else { format!("{name}:{}", address.port()) }
            }
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// An endpoint as Pingora's peer, with HTTP/2 if the backends support it.
    ///
    /// # Errors
    /// When Pingora rejects the path of a Unix socket, which is excluded.
    pub fn peer(&self, to: &Endpoint, ends: ProxyAddrs, versions: Versions) -> pingora::Result<HttpPeer> {
        let name = match &self.tls {
            Some(_) => self.server_name(to),
            None => String::new(),
        };
        self.peers.peer(to.address(), name, ends, versions)
    }

    /// Connects to an endpoint within `limit`; with `h2`, HTTP/2 is offered where there is TLS.
    ///
    /// # Errors
    /// [`DialError`], within `limit` in every case.
    pub async fn connect(
        &self,
        to: &Endpoint,
        ends: ProxyAddrs,
        h2: bool,
        limit: Duration,
    ) -> Result<UpstreamStream, DialError> {
        if self.tls.is_none() && self.proxy.is_none() {
            return dial::dial(to.address(), limit).await.map(UpstreamStream::Plain);
        }
        let host = to.host();
        let connect = self.open(to.address(), host.as_deref(), ends, h2);
        worker_timer::timeout(limit, connect).await.unwrap_or(Err(DialError::TimedOut))
    }

    /// A connection for HTTP/1.1 to an endpoint: a pooled one if `reuse` allows it, otherwise a new one within
    /// `limit`. With `h2`, HTTP/2 is offered too, and the result is `None` if the backend selects it.
    ///
    /// # Errors
    /// [`DialError`], within `limit` in every case.
    pub async fn http1_connection(
        &self,
        to: &Arc<Endpoint>,
        addrs: ProxyAddrs,
        reuse: Reuse,
        h2: bool,
        limit: Duration,
    ) -> Result<Option<Box<Http1Connection>>, DialError> {
        // A PROXY header names one client, so that only requests with the same one share a connection.
        let addrs = addrs.filter(|_| self.proxy.is_some());
        if reuse == Reuse::Allowed
            && let Some(pooled) = connection_pool::take(Server::Endpoint(to), addrs)
        {
            return Ok(Some(pooled));
        }
        let stream = self.connect(to, addrs, h2, limit).await?;
        Ok((!stream.chose_h2()).then(|| Box::new(Http1Connection::new(stream, addrs))))
    }

    /// Connects without a time limit.
    pub(super) async fn open(
        &self,
        to: &Address,
        host: Option<&str>,
        ends: ProxyAddrs,
        h2: bool,
    ) -> Result<UpstreamStream, DialError> {
        let mut plain = dial::connect(to).await?;
        if let Some(version) = self.proxy {
            send_proxy_header(&mut plain, version, ends).await?;
        }
        let Some(tls) = &self.tls else { return Ok(UpstreamStream::Plain(plain)) };
        let started = start_tls(Arc::clone(tls.config(h2)), self.name(to, host).into_owned(), plain).await;
        match started {
            Err(DialError::Handshake(error))
                if self.protocol == UpstreamProtocol::H2 && refuses_http1(&error) =>
            {
                Err(DialError::NoHttp1)
            }
            started => started,
        }
    }
}

/// The TLS handshake with a server, whose certificate must have `name`.
pub(super) async fn start_tls(
    config: Arc<ClientConfig>,
    name: String,
    plain: PlainStream,
) -> Result<UpstreamStream, DialError> {
    let name = ServerName::try_from(name)
        .map_err(|error| DialError::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    // Boxed for the handshake alone, so that a plain connection does not reserve its size.
    let carrier = Carrier::new(plain, RecordFollower::default());
    match Box::pin(TlsConnector::from(config).connect(name, carrier)).await {
        Ok(stream) => Ok(UpstreamStream::Tls(Box::new(TlsConnection::new(stream)))),
        Err(error) => Err(refused(error)),
    }
}

/// Returns whether the server has none of the offered protocols.
fn refuses_http1(error: &io::Error) -> bool {
    let alert = AlertDescription::NoApplicationProtocol;
    crate::tls::alert(error).is_some_and(|error| *error == rustls::Error::AlertReceived(alert))
}

fn refused(error: io::Error) -> DialError {
    let rustls_error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match rustls_error {
        Some(rustls_error @ rustls::Error::InvalidCertificate(_)) => {
            DialError::Certificate(rustls_error.clone())
        }
        _ => DialError::Handshake(error),
    }
}
