//! Lookup of a connection's [`ConnInfo`] in Pingora's session: HTTP/1 has it in its stream, HTTP/2 in the
//! digest that the streams of a connection share.

use super::connection::Connection;
use crate::net::conn_info::ConnInfo;
use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use std::sync::Arc;

/// The connection info of a request; `None` after it became a WebSocket.
pub(in crate::proxy) fn of(session: &ServerSession) -> Option<&ConnInfo> {
    match session {
        ServerSession::H1(session) => {
            session.stream().as_any().downcast_ref::<Connection>().map(Connection::arrival)
        }
        streams => of_stream(streams.digest()?),
    }
}

/// The digest shared by the streams of an HTTP/2 connection: Pingora's only place for our data.
///
/// # Errors
/// None: the response that Pingora wants beside it is a plain 200.
pub fn digest(arrival: ConnInfo) -> pingora::Result<Arc<Digest>> {
    let proxy_digest = ProxyDigest::new(Box::new(ResponseHeader::build_no_case(200, None)?), Some(Box::new(arrival)));
    Ok(Arc::new(Digest { proxy_digest: Some(Arc::new(proxy_digest)), ..Digest::default() }))
}

/// The connection info of an HTTP/2 stream.
pub(in crate::proxy) fn of_stream(digest: &Digest) -> Option<&ConnInfo> {
    digest.proxy_digest.as_deref()?.user_data.as_ref()?.downcast_ref()
}
