//! A request over HTTP/1 and its response, on a client's connection.

use super::connection::{Connection, HeadBytes};
use super::retry_buffer::RetryBuffer;
use super::upload_gate::Gate;
use crate::net::connection_permit::ConnectionPermit;
use crate::net::http1::body_decoder::{BodyDecoder, Decoded, RequestFraming};
use crate::net::http1::body_encoder::BodyEncoder;
use crate::net::http1::field_lines::{OwnField, put_field, write_fields, write_fields_and};
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::trailers::Trailers;
use crate::proxy::failure::{Detail, Failure, INVALID_FRAMING};
use crate::proxy::request::head_parser::ReceivedHead;
use crate::proxy::request::received_parts::ReceivedParts;
use crate::tunnel::TunnelIo;
use crate::websocket::has_token;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType, OrErr, Result};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The bytes of a body that are read before its request is sent: fewer than are kept for a retry.
pub(super) const MOST_ARRIVED: usize = 16 << 10;

/// Buffered bytes of a response are sent at this size.
const JOINED: usize = 8 << 10;

/// The space for most response headers.
const INITIAL_HEAD_CAPACITY: usize = 512;

/// A request, from its header to the end of its response.
pub struct Http1Session {
    pub(super) connection: Box<Connection>,
    pub(super) request: RequestHeader,
    /// The received spelling of its field names.
    pub(super) names: FieldNames,
    /// The parts of the received header that `request` does not have.
    received: ReceivedParts,
    body: BodyDecoder,
    has_body: bool,
    /// The number of body bytes that were read, and how many of them for a plugin that buffers the body.
    read: usize,
    taken: usize,
    /// Read bytes from now on, kept for a retry.
    retry: Option<RetryBuffer>,
    /// The maximum wait for a part of the body.
    pub(super) body_timeout: Option<Duration>,
    response: Option<ResponseHeader>,
    response_body: ResponseBody,
    sent: usize,
    keeps_connection: bool,
}

/// The framing of a response body.
pub(in crate::proxy) enum ResponseBody {
    /// The final header was not sent yet.
    Unknown,
    /// The response has no body, or its body is complete.
    Ended,
    /// A length or chunks.
    Framed(BodyEncoder),
    /// The end of the connection.
    UntilClose,
}

impl Http1Session {
    /// The session of a request whose header was received.
    pub(in crate::proxy) fn new(mut connection: Box<Connection>, head: &HeadBytes) -> Self {
        let ReceivedHead { header, names, size, framing, target, has_no_method, refused } = head.parse();
        let body = BodyDecoder::for_request(framing);
        // A body that was received with its header may be malformed.
        let is_malformed = body.breaks_in(&connection.input);
        let malformed = Failure::BadRequest(Detail("the body violates its framing"));
        let refused = refused.or(is_malformed.then_some(malformed));
        let keeps_connection = refused.is_none() && asks_to_keep(&header);
        if refused.is_some() {
            connection.refuse_more();
        }
        Self {
            connection,
            request: header,
            names,
            received: ReceivedParts { size, target, has_no_method, refused },
            body,
            has_body: framing != RequestFraming::Length(0),
            read: 0,
            taken: 0,
            retry: None,
            body_timeout: None,
            response: None,
            response_body: ResponseBody::Unknown,
            sent: 0,
            keeps_connection,
        }
    }

    /// Reads the header of the next request, whose first byte must arrive within `idle`. Returns `None` if there
    /// is no further request.
    pub async fn receive(mut connection: Box<Connection>, idle: Duration) -> Option<Self> {
        let head = connection.read_head(idle).await?;
        Some(Self::new(connection, &head))
    }

    /// The parts of the received header that the request header does not have. Returned once.
    pub(in crate::proxy) fn take_received(&mut self) -> ReceivedParts {
        std::mem::take(&mut self.received)
    }

    /// Why the request is rejected, regardless of later checks.
    pub fn refused(&self) -> Option<Failure> {
        self.received.refused
    }

    /// The received size of the header in bytes.
    pub fn head_size(&self) -> usize {
        self.received.size
    }

    /// The request header.
    pub fn request(&self) -> &RequestHeader {
        &self.request
    }

    /// Returns whether the request has no body.
    pub fn is_body_empty(&self) -> bool {
        !self.has_body
    }

    /// Returns whether the whole body was read.
    pub fn is_body_done(&self) -> bool {
        self.body.is_over()
    }

    /// The trailers after a body that was read to its end.
    pub(super) fn trailers(&self) -> Option<Trailers> {
        self.body.trailers()
    }

    /// The number of body bytes that were read for the backend.
    pub(super) fn body_bytes_read(&self) -> usize {
        self.read - self.taken
    }

    pub(super) fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    /// From now on, read bytes are kept for a retry.
    pub(super) fn keep_for_retry(&mut self) {
        self.retry.get_or_insert_default();
    }

    pub(super) fn is_retry_truncated(&self) -> bool {
        self.retry.as_ref().is_some_and(RetryBuffer::is_truncated)
    }

    /// The bytes kept for a retry; empty for a body of which nothing was read for the backend, because a plugin
    /// has buffered it.
    pub(super) fn kept_for_retry(&self) -> Option<Bytes> {
        // Also for a body that turned out to be empty: its end is still to be sent.
        if self.has_body && self.body.is_over() && self.read == self.taken {
            return Some(Bytes::new());
        }
        self.retry.as_ref()?.kept()
    }

    /// The next part of the body, or its end.
    ///
    /// # Errors
    /// When the client disconnected, is too slow, or violates the framing.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let read = poll_fn(|cx| self.poll_body(cx)).await?;
        if let Some(data) = &read {
            self.read += data.len();
            match &mut self.retry {
                Some(retry) => retry.keep(data),
                None => self.taken += data.len(),
            }
        }
        Ok(read)
    }

    /// Reads what has arrived of a body that is kept for a retry. It may be the whole.
    ///
    /// # Errors
    /// As [`Http1Session::read_body`].
    pub(super) async fn read_arrived(&mut self) -> Result<()> {
        let end = self.read + MOST_ARRIVED;
        while self.read < end && !self.body.is_over() {
            let read = {
                let mut read = pin!(self.read_body());
                poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await
            };
            match read {
                Poll::Ready(part) => drop(part?),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        match self.connection.control.gate.get() {
            Gate::Open => {}
            Gate::Paused => return self.poll_paused(cx).map(|error| Err(read_error(error))),
            // The response is sent first.
            Gate::Ended => {
                return self
                    .connection
                    .poll_flush(cx)
                    .map(|_| Err(read_error(io::Error::other("the upload has ended"))));
            }
        }
        loop {
            match self.body.decode(&mut self.connection.input) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Ok(Some(data))),
                Ok(Decoded::End) => return Poll::Ready(Ok(None)),
                Ok(Decoded::NeedsBytes) => {}
                Err(error) => {
                    self.connection.refuse_more();
                    return Poll::Ready(Err(Error::because(INVALID_FRAMING, "", error)));
                }
            }
            let left = self.body.remaining();
            match self.connection.poll_body_read(left, self.body_timeout, cx) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(read_error(io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(read_error(error))),
                Poll::Pending => {
                    if self.connection.control.has_response_begun()
                        && let Poll::Ready(error) = self.connection.poll_backend_silence(cx)
                    {
                        return Poll::Ready(Err(read_error(error)));
                    }
                    // A wait: what is buffered of a response must leave now.
                    return self.poll_unsent(cx).map(|error| Err(read_error(error)));
                }
            }
        }
    }

    /// The next part of the body. After its end, or with `has_end`, waits for the client to leave, or for the
    /// backend's time limit.
    ///
    /// # Errors
    /// As [`Http1Session::read_body`].
    pub(super) async fn read_body_or_idle(&mut self, has_end: bool) -> Result<Option<Bytes>> {
        if has_end || self.body.is_over() {
            return Err(read_error(poll_fn(|cx| self.poll_idle(cx)).await));
        }
        self.read_body().await
    }

    /// Waits until the client disconnects; what is buffered is sent meanwhile.
    pub async fn closed(&mut self) {
        poll_fn(|cx| self.poll_idle(cx)).await;
    }

    /// Waits for the client to leave, or for the backend's time limit.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let ended =
            if self.body.is_over() { self.connection.poll_end(cx) } else { self.connection.poll_gone(cx) };
        if let Poll::Ready(error) = ended {
            return Poll::Ready(error);
        }
        if let Poll::Ready(error) = self.connection.poll_backend_silence(cx) {
            return Poll::Ready(error);
        }
        self.poll_unsent(cx)
    }

    fn poll_paused(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Poll::Ready(error) = self.connection.poll_gone(cx) {
            return Poll::Ready(error);
        }
        if let Poll::Ready(error) = self.connection.poll_backend_silence(cx) {
            return Poll::Ready(error);
        }
        self.poll_unsent(cx)
    }

    /// Sends buffered bytes during a wait. Ready when that fails.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.connection.has_unsent() {
            return Poll::Pending;
        }
        match ready!(self.connection.poll_flush(cx)) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    /// The response header that was sent last, which may be an interim one.
    pub(super) fn response_written(&self) -> Option<&ResponseHeader> {
        self.response.as_ref()
    }

    /// The connection is closed after the response.
    pub fn close_after_response(&mut self) {
        self.keeps_connection = false;
    }

    /// Sends a response header. With `end`, no body follows it. A final header after another one is ignored.
    ///
    /// # Errors
    /// When the client disconnected or does not read.
    pub async fn write_head(&mut self, head: ResponseHeader, end: bool) -> Result<()> {
        self.write_spelled_head(head, &FieldNames::default(), end).await
    }

    /// Sends a response header with field names in this spelling.
    ///
    /// # Errors
    /// As [`Http1Session::write_head`].
    pub(super) async fn write_spelled_head(
        &mut self,
        mut head: ResponseHeader,
        names: &FieldNames,
        end: bool,
    ) -> Result<()> {
        if self.response.as_ref().is_some_and(|head| !head.status.is_informational()) {
            return Ok(());
        }
        if head.status.is_informational() {
            // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
            if self.request.version == Version::HTTP_10 {
                return Ok(());
            }
            put_head(self.connection.out(), &head, names, None);
            self.response = Some(head);
            return self.flush().await;
        }
        let request = (&self.request.method, self.request.version);
        let out = self.connection.out();
        self.response_body = put_final_head(out, &mut head, names, request, &mut self.keeps_connection);
        if matches!(self.response_body, ResponseBody::UntilClose) {
            // Wherever the connection is dropped before the end of the body.
            self.connection.set_incomplete(true);
        }
        self.response = Some(head);
        if end { self.end_response().await } else { Ok(()) }
    }

    /// Sends a part of the response body; with `end`, its last one.
    ///
    /// # Errors
    /// When the client disconnected or does not read, or the body differs from its declared length.
    pub async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        let size = data.len();
        let mut large = Bytes::new();
        let mut tail = BytesMut::new();
        match &mut self.response_body {
            ResponseBody::Unknown | ResponseBody::Ended => return Ok(()),
            ResponseBody::UntilClose if size <= JOINED => self.connection.out().put_slice(&data),
            ResponseBody::UntilClose => large = data,
            ResponseBody::Framed(encoder) => {
                let pushed = encoder.push(data, self.connection.out(), &mut large);
                pushed.or_err(ErrorType::WriteError, "writing a response body")?;
                if !large.is_empty() {
                    encoder.complete_chunk(&mut tail);
                    if end {
                        encoder.finish(&mut tail).or_err(ErrorType::WriteError, "ending a response body")?;
                    }
                }
            }
        }
        self.sent += size;
        if !large.is_empty() {
            let sent = self.connection.send(large, &tail).await;
            sent.map_err(write_error)?;
            return if end { self.flush_last().await } else { Ok(()) };
        }
        if end {
            return self.end_response().await;
        }
        if self.connection.out().len() > JOINED { self.flush().await } else { Ok(()) }
    }

    /// Ends the response.
    async fn end_response(&mut self) -> Result<()> {
        self.write_trailers(None).await
    }

    /// Ends the response with trailers, which only one in chunks has.
    ///
    /// # Errors
    /// As [`Http1Session::write_body`].
    pub(super) async fn write_trailers(&mut self, trailers: Option<&Trailers>) -> Result<()> {
        if let ResponseBody::Framed(encoder) = &mut self.response_body {
            let ended = encoder.finish_with(trailers, self.connection.out());
            ended.or_err(ErrorType::WriteError, "ending a response body")?;
        }
        self.flush_last().await
    }

    /// Sends what is buffered of a response that is complete then.
    async fn flush_last(&mut self) -> Result<()> {
        let ends_with_connection = matches!(self.response_body, ResponseBody::UntilClose);
        if !ends_with_connection {
            self.response_body = ResponseBody::Ended;
        }
        self.flush().await?;
        self.response_body = ResponseBody::Ended;
        if ends_with_connection {
            self.connection.set_incomplete(false);
        }
        Ok(())
    }

    /// Sends what is buffered.
    ///
    /// # Errors
    /// When the client disconnected or does not read.
    pub async fn flush(&mut self) -> Result<()> {
        self.connection.flush().await.map_err(write_error)
    }

    /// Sends what is buffered, if that is possible at once.
    pub(super) async fn flush_now(&mut self) {
        // A client that does not read is not awaited, and a later write fails too.
        let _ = poll_fn(|cx| Poll::Ready(self.connection.poll_flush(cx))).await;
    }

    /// Ends the request. Returns the connection if another request may follow; it is closed otherwise.
    pub async fn finish(mut self: Box<Self>) -> Option<Box<Connection>> {
        if self.may_continue() && self.connection.flush().await.is_ok() {
            return Some(self.into_connection());
        }
        // The end of a TLS connection without its alert tells the client that the response is incomplete.
        if matches!(self.response_body, ResponseBody::Ended | ResponseBody::Unknown) {
            Box::pin(self.connection.close()).await;
        } else {
            self.flush_now().await;
            if matches!(self.response_body, ResponseBody::UntilClose) {
                // The end of the connection would complete the response.
                self.connection.reset_on_close();
            }
        }
        None
    }

    /// The connection for a tunnel: the client's side, its early bytes, and the listener's permit.
    pub(super) fn into_tunnel(self) -> (TunnelIo, Bytes, Option<ConnectionPermit>) {
        let (socket, early, permit) = self.connection.into_parts();
        (socket.into(), early, permit)
    }

    /// Returns whether another request may follow the complete response.
    pub fn may_continue(&self) -> bool {
        let is_complete = matches!(self.response_body, ResponseBody::Ended) && self.body.is_over();
        self.keeps_connection && is_complete && self.connection.may_continue()
    }

    /// The connection after this request.
    pub fn into_connection(mut self) -> Box<Connection> {
        self.connection.next_request();
        self.connection
    }
}

/// Returns whether the client wants to keep the connection (RFC 9112 §9.3).
fn asks_to_keep(request: &RequestHeader) -> bool {
    let has = |token: &str| has_token(&request.headers, &header::CONNECTION, token);
    match request.version {
        Version::HTTP_10 => has("keep-alive"),
        _ => !has("close"),
    }
}

/// Writes the header of a final response to a request with this method and version, and returns the framing of its
/// body. `keeps_connection` becomes false if the body ends with the connection.
pub(in crate::proxy) fn put_final_head(
    out: &mut BytesMut,
    head: &mut ResponseHeader,
    names: &FieldNames,
    (method, version): (&Method, Version),
    keeps_connection: &mut bool,
) -> ResponseBody {
    if version == Version::HTTP_10 {
        // RFC 9112 §6.1: no transfer coding to HTTP/1.0, whose bodies end with their connection.
        head.remove_header(&header::TRANSFER_ENCODING);
    }
    if head.headers.contains_key(header::TRAILER) && !head.headers.contains_key(header::TRANSFER_ENCODING) {
        // Only a body in chunks has trailers, unlike that of an HTTP/2 backend.
        head.remove_header(&header::TRAILER);
    }
    let framing = response_framing(head, method);
    *keeps_connection &= !matches!(framing, ResponseBody::UntilClose);
    put_head(out, head, names, Some(*keeps_connection));
    framing
}

fn response_framing(head: &ResponseHeader, method: &Method) -> ResponseBody {
    let is_bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless || *method == Method::HEAD {
        return ResponseBody::Ended;
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        return ResponseBody::Framed(BodyEncoder::chunked());
    }
    let length = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    match head.headers.get(header::CONTENT_LENGTH).and_then(length) {
        Some(length) => ResponseBody::Framed(BodyEncoder::with_length(length)),
        None => ResponseBody::UntilClose,
    }
}

/// Writes a response header. A final one has a date (RFC 9110 §6.6.1), and says whether the connection is kept.
pub(in crate::proxy) fn put_head(
    out: &mut BytesMut,
    head: &ResponseHeader,
    names: &FieldNames,
    keeps_connection: Option<bool>,
) {
    out.reserve(INITIAL_HEAD_CAPACITY);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    let fields = || head.headers.iter();
    if let Some(keeps_connection) = keeps_connection {
        let value: &[u8] = if keeps_connection { b"keep-alive" } else { b"close" };
        let own = OwnField { name: header::CONNECTION.as_str(), value };
        write_fields_and(out, names, own, || fields().filter(|(name, _)| **name != header::CONNECTION));
        if !head.headers.contains_key(header::DATE) {
            put_field(out, &header::DATE, &get_cached_date());
        }
    } else {
        write_fields(out, names, fields);
    }
    out.put_slice(b"\r\n");
}

fn read_error(error: io::Error) -> Box<Error> {
    let kind =
        if error.kind() == io::ErrorKind::TimedOut { ErrorType::ReadTimedout } else { ErrorType::ReadError };
    Error::because(kind, "", error)
}

fn write_error(error: io::Error) -> Box<Error> {
    let kind = if error.kind() == io::ErrorKind::TimedOut {
        ErrorType::WriteTimedout
    } else {
        ErrorType::WriteError
    };
    Error::because(kind, "", error)
}
