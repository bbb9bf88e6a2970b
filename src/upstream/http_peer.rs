//! An endpoint as Pingora's `HttpPeer`. Pingora pools connections per worker by a hash of the peer, so this
//! file decides which requests may share a connection.

use super::address::Address;
use super::dial::{self, DialError, PlainStream};
use super::h2c_silence_watchdog;
use super::proxy_header::{ProxyAddrs, send_proxy_header};
use crate::config::{ProxyVersion, UpstreamProtocol};
use crate::tls::{Client, Identity};
use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr as EngineAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::tls::{ALPN, CaType};
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorType, OkOrErr, OrErr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of concurrent streams per HTTP/2 connection, if the backend allows as many.
const MOST_STREAMS: usize = 100;
/// The receive window in bytes, for a stream and for a connection: what a backend may send ahead of a slow
/// client.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The interval of HTTP/2 PING frames. Pingora closes a connection without an acknowledgement within 5 s.
/// gRPC servers close connections of clients that ping more often than every five minutes.
const PING: Duration = Duration::from_secs(360);

/// TCP keepalive of HTTP/2 connections.
const ALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 3,
    user_timeout: Duration::from_secs(30),
};

/// The HTTP versions allowed for a request to backends that support more than HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/2, or HTTP/1.1 if a backend with TLS selects it.
    Either,
    /// HTTP/2 only, for gRPC.
    Http2,
}

/// What an upstream's endpoints have in common as Pingora's peers.
#[derive(Debug)]
pub(super) struct PeerBuilder {
    protocol: UpstreamProtocol,
    tls: Option<Arc<Client>>,
    proxy: Option<ProxyVersion>,
    issuers: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
    /// The dialer for HTTP/2 without TLS and without PROXY header, shared by all requests.
    dial: Option<Arc<Dial>>,
}

impl PeerBuilder {
    /// `first_word` limits the wait for the backend's first bytes where that is asked for.
    pub(super) fn new(
        protocol: UpstreamProtocol,
        tls: Option<Arc<Client>>,
        proxy: Option<ProxyVersion>,
        first_word: Option<Duration>,
    ) -> Self {
        let wrap = |der: &[u8]| WrappedX509::new(der.to_vec(), parse_x509);
        let issuers = tls.as_deref().and_then(|tls| tls.issuers());
        let identity = tls.as_deref().and_then(|tls| tls.identity()).map(|Identity { chain, key }| {
            let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
            Arc::new(CertKey::new(chain, key.secret_der().to_vec()))
        });
        let issuers = issuers.map(|issuers| issuers.iter().map(|one| wrap(one)).collect());
        Self {
            protocol,
            tls,
            proxy,
            issuers,
            identity,
            dial: first_word.map(|_| Arc::new(Dial { announced: None, first_word })),
        }
    }

    /// An endpoint as Pingora's peer; its certificate must have `name`.
    ///
    /// # Errors
    /// When Pingora rejects the path of a Unix socket, which is excluded.
    pub(super) fn peer(
        &self,
        to: &Address,
        name: String,
        ends: ProxyAddrs,
        versions: Versions,
    ) -> pingora::Result<HttpPeer> {
        let tls = self.tls.is_some();
        let mut peer = match to {
            Address::Tcp(address) => HttpPeer::new(*address, tls, name),
            Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), tls, name)?,
        };
        if let Some(tls) = &self.tls {
            peer.group_key = tls.number();
            peer.client_cert_key = self.identity.clone();
            peer.options.ca = self.issuers.clone();
            peer.options.verify_cert = tls.verifies();
        }
        if let Some(version) = self.proxy {
            // Requests share a connection if its PROXY header is true of all of them.
            let mut hasher = DefaultHasher::new();
            (peer.group_key, version as u8, ends).hash(&mut hasher);
            peer.group_key = hasher.finish();
            let first_word = self.dial.as_ref().and_then(|dial| dial.first_word);
            peer.options.custom_l4 = Some(Arc::new(Dial { announced: Some((version, ends)), first_word }));
        } else if let Some(dial) = &self.dial {
            peer.options.custom_l4 = Some(Arc::clone(dial) as Arc<_>);
        }
        match self.protocol {
            UpstreamProtocol::H2c => multiplex(&mut peer.options, ALPN::H2),
            // If HTTP/1.1 is acceptable, one response that demands it makes Pingora remember it for the peer.
            UpstreamProtocol::H2 if versions == Versions::Http2 => multiplex(&mut peer.options, ALPN::H2),
            UpstreamProtocol::H2 => multiplex(&mut peer.options, ALPN::H2H1),
            UpstreamProtocol::Http1 => {}
        }
        Ok(peer)
    }
}

fn multiplex(options: &mut PeerOptions, alpn: ALPN) {
    options.alpn = alpn;
    options.max_h2_streams = MOST_STREAMS;
    options.h2_stream_window_size = Some(STREAM_WINDOW);
    options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    options.tcp_keepalive = Some(ALIVE);
    options.h2_ping_interval = Some(PING);
}

/// Connects, sends the PROXY header and waits for SETTINGS within a limit.
#[derive(Debug)]
struct Dial {
    announced: Option<(ProxyVersion, ProxyAddrs)>,
    first_word: Option<Duration>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, to: &EngineAddr) -> pingora::Result<Stream> {
        let to = Address::from_engine(to).or_err(ErrorType::ConnectError, "no address")?;
        let mut plain = dial::connect(&to).await.map_err(|error| match error {
            DialError::Refused => Error::because(ErrorType::ConnectRefused, "", error),
            DialError::TimedOut => Error::because(ErrorType::ConnectTimedout, "", error),
            DialError::Exhausted(error) => Error::because(ErrorType::ConnectError, "", error),
            other => Error::because(ErrorType::ConnectError, "", other),
        })?;
        if let Some((version, ends)) = self.announced {
            send_proxy_header(&mut plain, version, ends).await.or_err(ErrorType::ConnectError, "")?;
        }
        if let Some(limit) = self.first_word {
            h2c_silence_watchdog::expect(&plain, limit).or_err(ErrorType::ConnectError, "")?;
        }
        Ok(match plain {
            PlainStream::Tcp(stream) => stream.into(),
            PlainStream::Unix(stream) => stream.into(),
        })
    }
}
