//! A client's request and the response to it, over HTTP/1 or HTTP/2.

use super::connection::Connection;
use super::http1_session::Http1Session;
use super::http2_session::Http2Session;
use super::http2_tunnel_io::Duplex;
use super::session_control::SessionControl;
use super::socket_watch::SocketWatch;
use crate::net::conn_info::ConnInfo;
use crate::net::connection_permit::ConnectionPermit;
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::trailers::Trailers;
use crate::proxy::request::received_parts::ReceivedParts;
use crate::snapshot::GlobalSettings;
use crate::tunnel::TunnelIo;
use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// A request, from its header to the end of its response.
pub(in crate::proxy) enum Session {
    /// On a connection of its own.
    Http1(Box<Http1Session>),
    /// On a stream.
    Http2(Box<Http2Session>),
}

/// Calls a method of either version.
macro_rules! either {
    ($session:expr, $inner:ident => $call:expr) => {
        match $session {
            Session::Http1($inner) => $call,
            Session::Http2($inner) => $call,
        }
    };
}

impl Session {
    /// The request header.
    pub(in crate::proxy) fn request(&self) -> &RequestHeader {
        either!(self, session => &session.request)
    }

    /// The received spelling of the request's field names, which HTTP/2 does not have.
    pub(in crate::proxy) fn field_names(&self) -> Option<&FieldNames> {
        match self {
            Self::Http1(session) => Some(&session.names),
            Self::Http2(_) => None,
        }
    }

    pub(in crate::proxy) fn request_mut(&mut self) -> &mut RequestHeader {
        either!(self, session => &mut session.request)
    }

    /// The parts of the received header that the request header does not have. Returned once.
    pub(in crate::proxy) fn take_received(&mut self) -> ReceivedParts {
        match self {
            Self::Http1(session) => session.take_received(),
            Self::Http2(session) => ReceivedParts { refused: session.refused, ..ReceivedParts::default() },
        }
    }

    /// The limits and the control by the request's phases.
    pub(in crate::proxy) fn control(&self) -> &SessionControl {
        match self {
            Self::Http1(session) => &session.connection.control,
            Self::Http2(session) => &session.control,
        }
    }

    /// The facts of the request's connection.
    pub(in crate::proxy) fn conn_info(&self) -> &ConnInfo {
        match self {
            Self::Http1(session) => session.connection.conn_info(),
            Self::Http2(session) => &session.conn_info,
        }
    }

    /// A number of the client's connection, if it carries other streams too.
    pub(in crate::proxy) fn shared_connection(&self) -> Option<NonZeroUsize> {
        match self {
            Self::Http1(_) => None,
            // The facts stay at their place as long as the connection is open.
            Self::Http2(session) => NonZeroUsize::new(Arc::as_ptr(&session.conn_info).addr()),
        }
    }

    /// The address that the client connected to.
    pub(in crate::proxy) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(session) => session.connection.local_addr(),
            Self::Http2(session) => session.conn_info.local,
        }
    }

    /// A watch for an HTTP/1 client while its session is lent to plugins: a duplicate of its socket.
    pub(in crate::proxy) fn watch(&self) -> Option<SocketWatch> {
        match self {
            Self::Http1(session) => session.connection.watch(),
            Self::Http2(_) => None,
        }
    }

    /// Returns whether the client is known to have disconnected, without waiting.
    pub(in crate::proxy) fn has_left(&self) -> bool {
        matches!(self, Self::Http1(session) if session.connection.has_left())
    }

    /// Returns whether the request came over HTTP/2.
    pub(in crate::proxy) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Sets the time limits of one generation.
    pub(in crate::proxy) fn set_limits(&mut self, globals: &GlobalSettings) {
        self.set_body_timeout(Some(globals.body_timeout));
        match self {
            Self::Http1(session) => session.connection.send_timeout = Some(globals.send_timeout),
            Self::Http2(session) => session.set_send_timeout(Some(globals.send_timeout)),
        }
    }

    /// The maximum wait for a part of the body.
    pub(in crate::proxy) fn set_body_timeout(&mut self, timeout: Option<Duration>) {
        match self {
            Self::Http1(session) => session.body_timeout = timeout,
            Self::Http2(session) => session.set_body_timeout(timeout),
        }
    }

    /// The connection is closed after the response. A stream always ends with it.
    pub(in crate::proxy) fn close_after_response(&mut self) {
        if let Self::Http1(session) = self {
            session.close_after_response();
        }
    }

    /// No other request can follow on the connection: what the client sends after this one may be of another protocol.
    pub(in crate::proxy) fn refuse_more(&mut self) {
        if let Self::Http1(session) = self {
            session.close_after_response();
            session.connection.refuse_more();
        }
    }

    /// Returns whether the request has no body.
    pub(in crate::proxy) fn is_body_empty(&self) -> bool {
        either!(self, session => session.is_body_empty())
    }

    /// Returns whether the whole body was read.
    pub(in crate::proxy) fn is_body_done(&self) -> bool {
        either!(self, session => session.is_body_done())
    }

    /// The trailers after a body that was read to its end, without those that no trailer may be.
    pub(in crate::proxy) fn trailers(&self) -> Option<Trailers> {
        either!(self, session => session.trailers())
    }

    /// The number of body bytes that were read for the backend.
    pub(in crate::proxy) fn body_bytes_read(&self) -> usize {
        either!(self, session => session.body_bytes_read())
    }

    /// The number of response body bytes that were sent.
    pub(in crate::proxy) fn body_bytes_sent(&self) -> usize {
        either!(self, session => session.body_bytes_sent())
    }

    /// The next part of the body, or its end.
    ///
    /// # Errors
    /// When the client disconnected, is too slow, or violates the framing.
    pub(in crate::proxy) async fn read_body(&mut self) -> Result<Option<Bytes>> {
        either!(self, session => session.read_body().await)
    }

    /// The next part of the body. After its end, or with `has_end`, waits for the client to leave, or for the
    /// backend's time limit. A wait sends what is buffered of the response.
    ///
    /// # Errors
    /// As [`Session::read_body`].
    pub(in crate::proxy) async fn read_body_or_idle(&mut self, has_end: bool) -> Result<Option<Bytes>> {
        either!(self, session => session.read_body_or_idle(has_end).await)
    }

    /// From now on, read bytes are kept for a retry.
    pub(in crate::proxy) fn keep_for_retry(&mut self) {
        either!(self, session => session.keep_for_retry());
    }

    /// Reads what has arrived of a body, after [`Session::keep_for_retry`]: it may be the whole.
    ///
    /// # Errors
    /// As [`Session::read_body`].
    pub(in crate::proxy) async fn read_arrived(&mut self) -> Result<()> {
        either!(self, session => session.read_arrived().await)
    }

    /// Returns whether a body that has arrived over HTTP/2 may get the length that its header does not have.
    pub(in crate::proxy) fn lacks_length(&self) -> bool {
        self.is_http2() && !self.request().headers.contains_key(header::CONTENT_LENGTH)
    }

    /// Returns whether more was read than is kept.
    pub(in crate::proxy) fn is_retry_truncated(&self) -> bool {
        either!(self, session => session.is_retry_truncated())
    }

    /// The bytes kept for a retry; empty for a body that a plugin has buffered, which is sent instead.
    pub(in crate::proxy) fn kept_for_retry(&self) -> Option<Bytes> {
        either!(self, session => session.kept_for_retry())
    }

    /// The response header that was sent last, which may be an interim one.
    pub(in crate::proxy) fn response_written(&self) -> Option<&ResponseHeader> {
        either!(self, session => session.response_written())
    }

    /// Returns whether a final response header was sent.
    pub(in crate::proxy) fn has_response(&self) -> bool {
        self.response_written().is_some_and(|head| !head.status.is_informational())
    }

    /// Sends a response header. With `end`, no body follows it. A final header after another one is ignored.
    ///
    /// # Errors
    /// When the client disconnected or does not read.
    pub(in crate::proxy) async fn write_head(&mut self, head: ResponseHeader, end: bool) -> Result<()> {
        match self {
            Self::Http1(session) => session.write_head(head, end).await,
            Self::Http2(session) => session.write_head(head, end),
        }
    }

    /// Sends a response header with field names in this spelling, which HTTP/2 does not have.
    ///
    /// # Errors
    /// As [`Session::write_head`].
    pub(in crate::proxy) async fn write_spelled_head(
        &mut self,
        head: ResponseHeader,
        names: &FieldNames,
        end: bool,
    ) -> Result<()> {
        match self {
            Self::Http1(session) => session.write_spelled_head(head, names, end).await,
            Self::Http2(session) => session.write_head(head, end),
        }
    }

    /// Sends a part of the response body; with `end`, its last one.
    ///
    /// # Errors
    /// When the client disconnected or does not read, or the body differs from its declared length.
    pub(in crate::proxy) async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        either!(self, session => session.write_body(data, end).await)
    }

    /// Ends the response with trailers. An HTTP/1 client gets them after a body in chunks alone.
    ///
    /// # Errors
    /// As [`Session::write_body`].
    pub(in crate::proxy) async fn write_trailers(&mut self, trailers: Trailers) -> Result<()> {
        match self {
            Self::Http1(session) => session.write_trailers(Some(&trailers)).await,
            Self::Http2(session) => session.write_trailers(trailers.into_fields()),
        }
    }

    /// Sends what is buffered of a response, if that is possible at once.
    pub(in crate::proxy) async fn flush_now(&mut self) {
        match self {
            Self::Http1(session) => session.flush_now().await,
            // The task of the connection sends it.
            Self::Http2(_) => tokio::task::yield_now().await,
        }
    }

    /// Sends what is buffered of a response.
    ///
    /// # Errors
    /// When the client disconnected or does not read.
    pub(in crate::proxy) async fn flush(&mut self) -> Result<()> {
        match self {
            Self::Http1(session) => session.flush().await,
            Self::Http2(_) => Ok(()),
        }
    }

    /// Returns whether a client still sends its body. Over HTTP/2 only after a whole response: the end of the stream is what
    /// tells of a broken one.
    pub(in crate::proxy) fn is_in_body(&self) -> bool {
        match self {
            Self::Http1(session) => !session.is_body_done() && session.connection.may_continue(),
            Self::Http2(session) => session.is_in_body(),
        }
    }

    /// Half-closes an HTTP/1 connection without TLS, so that the client sees the end of its response.
    pub(in crate::proxy) fn end_sending(&self) {
        if let Self::Http1(session) = self {
            session.connection.end_sending();
        }
    }

    /// Ends the request. Returns the connection if another request may follow on it. A stream whose response
    /// is incomplete is reset.
    pub(in crate::proxy) async fn finish(self) -> Option<Box<Connection>> {
        match self {
            Self::Http1(session) => session.finish().await,
            Self::Http2(_) => None,
        }
    }

    /// The client's side of a tunnel, its early bytes, and the listener's permit of its connection; `None` if
    /// the stream has ended. The permit of a stream is its connection's.
    pub(in crate::proxy) fn into_tunnel(self) -> Option<(TunnelIo, Bytes, Option<ConnectionPermit>)> {
        match self {
            Self::Http1(session) => Some(session.into_tunnel()),
            Self::Http2(session) => {
                let stream = Duplex::new(session.into_tunnel()?);
                Some((TunnelIo::Boxed(Box::new(stream)), Bytes::new(), None))
            }
        }
    }
}
