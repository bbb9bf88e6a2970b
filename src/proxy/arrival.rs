//! What is known of a client's connection before its first request: from where it came, and how.
//! Requests of HTTP/1 and of HTTP/2 find it in different places of Pingora's session; here is where.

use super::connection::Connection;
use moongate_sdk::Tls;
use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A client's connection, from where and how.
#[derive(Debug)]
pub struct ConnInfo {
    /// The other end's address; 127.0.0.1 for a Unix socket. With the PROXY protocol, the one that the
    /// balancer tells.
    pub peer: SocketAddr,
    /// The address it was made to, where that had to be asked for already.
    pub local: Option<SocketAddr>,
    /// The index of the listener it came in by.
    pub listener: u16,
    /// Its TLS, unless it is plain.
    pub tls: Option<Arc<Tls>>,
}

impl ConnInfo {
    /// A connection from `peer`, `None` for a Unix socket, without TLS.
    pub fn plain(peer: Option<SocketAddr>, listener: u16) -> Self {
        let peer = peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        Self { peer, local: None, listener, tls: None }
    }
}

/// The arrival of the connection that a request came on; none in place of one that became a WebSocket.
pub(super) fn of(session: &ServerSession) -> Option<&ConnInfo> {
    match session {
        ServerSession::H1(session) => {
            session.stream().as_any().downcast_ref::<Connection>().map(Connection::arrival)
        }
        streams => of_stream(streams.digest()?),
    }
}

/// What an HTTP/2 connection's streams share: Pingora's only place for something of ours.
///
/// # Errors
/// None: the answer that Pingora wants beside it is a plain 200.
pub fn digest(arrival: ConnInfo) -> pingora::Result<Arc<Digest>> {
    let told = ProxyDigest::new(Box::new(ResponseHeader::build_no_case(200, None)?), Some(Box::new(arrival)));
    Ok(Arc::new(Digest { proxy_digest: Some(Arc::new(told)), ..Digest::default() }))
}

/// The arrival of the connection that a stream of HTTP/2 is on.
pub(super) fn of_stream(digest: &Digest) -> Option<&ConnInfo> {
    digest.proxy_digest.as_deref()?.user_data.as_ref()?.downcast_ref()
}
