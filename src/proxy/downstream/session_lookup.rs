//! Access to the gateway's types in Pingora's session: the connection, its [`ConnInfo`] and its control. HTTP/1 has
//! them in its stream; HTTP/2 has the [`ConnInfo`] in the connection's digest and the control in the extensions.

use super::client_stream::Connection;
use super::session_control::SessionControl;
use crate::net::conn_info::ConnInfo;
use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora_proxy::Session;
use std::sync::Arc;

/// The client's connection; `None` after it became a WebSocket.
pub(in crate::proxy) fn connection(session: &Session) -> Option<&Connection> {
    session.stream().and_then(|stream| stream.as_any().downcast_ref::<Connection>())
}

/// The control of a request's session; `None` after it became a WebSocket.
pub(in crate::proxy) fn control(session: &Session) -> Option<&SessionControl> {
    match session.as_downstream() {
        ServerSession::H1(_) => connection(session).map(Connection::control),
        _ => session.req_header().extensions.get::<Arc<SessionControl>>().map(|control| &**control),
    }
}

/// The facts of a request's connection; `None` after it became a WebSocket.
pub(in crate::proxy) fn conn_info(session: &ServerSession) -> Option<&ConnInfo> {
    match session {
        ServerSession::H1(session) => {
            session.stream().as_any().downcast_ref::<Connection>().map(Connection::conn_info)
        }
        streams => stream_conn_info(streams.digest()?),
    }
}

/// A digest for the streams of an HTTP/2 connection: the only field of Pingora that can hold the gateway's data.
///
/// # Errors
/// Never: Pingora's digest requires a response, here a plain 200.
pub fn digest(conn_info: ConnInfo) -> pingora::Result<Arc<Digest>> {
    let told =
        ProxyDigest::new(Box::new(ResponseHeader::build_no_case(200, None)?), Some(Box::new(conn_info)));
    Ok(Arc::new(Digest { proxy_digest: Some(Arc::new(told)), ..Digest::default() }))
}

/// The facts of the connection of an HTTP/2 stream.
pub(in crate::proxy) fn stream_conn_info(digest: &Digest) -> Option<&ConnInfo> {
    digest.proxy_digest.as_deref()?.user_data.as_ref()?.downcast_ref()
}
